"""Batches: every image once an epoch, in an order that the step alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gan_core.errors import GanportError
from gan_trainer.batches import Batches, normalise
from trainer.conftest import CPU


def numbered(n: int) -> np.ndarray:
    """Images whose first pixel is their number."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1))


def seen(batches: Batches, epoch: int) -> list[list[int]]:
    steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    return [((batches(step)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() for step in steps]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(10, 5, [5, 5]), (12, 5, [5, 5, 2]), (11, 5, [5, 5]), (3, 64, [3]), (2, 2, [2]), (64, 64, [64])],
)
def test_an_epoch_keeps_its_last_batch_unless_it_holds_one_image(n: int, size: int, sizes: list[int]) -> None:
    batches = Batches(numbered(n), size, 0, CPU)
    epoch = seen(batches, 0)
    assert [len(batch) for batch in epoch] == sizes
    numbers = [number for batch in epoch for number in batch]
    assert len(set(numbers)) == len(numbers) == sum(sizes)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first, second = seen(Batches(numbered(50), 10, 0, CPU), 0), seen(Batches(numbered(50), 10, 0, CPU), 1)
    other = seen(Batches(numbered(50), 10, 1, CPU), 0)
    assert first != second
    assert first != other
    assert other != second, "epoch 0 of seed 1 is not epoch 1 of seed 0"
    assert seen(Batches(numbered(50), 10, 0, CPU), 1) == second


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    straight, jumping = Batches(numbered(20), 6, 3, CPU), Batches(numbered(20), 6, 3, CPU)
    wanted = [straight(step) for step in range(12)]
    for step in (11, 0, 5, 4, 11):
        assert torch.equal(jumping(step), wanted[step])


def test_values_and_layout() -> None:
    pixels_NHWC = np.zeros((4, 3, 3, 3), np.uint8)
    pixels_NHWC[..., 0], pixels_NHWC[..., 1] = 255, 51
    images_NCHW = Batches(pixels_NHWC, 4, 0, CPU)(0)
    assert (images_NCHW.shape, images_NCHW.dtype) == ((4, 3, 3, 3), torch.float32)
    assert images_NCHW.is_contiguous()
    torch.testing.assert_close(images_NCHW[0, :, 0, 0], torch.tensor([1.0, -0.6, -1.0]))


def test_normalise_is_to_tensor_and_normalize() -> None:
    pixels_NHWC = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    tutorial = (pixels_NHWC.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    torch.testing.assert_close(normalise(pixels_NHWC), tutorial, rtol=0, atol=2e-7)


def test_resident_images_are_the_same() -> None:
    """On an accelerator the data are kept there as uint8; the "meta" device shows that they are, without one."""
    pixels_NHWC = numbered(12)
    meta = torch.device("meta")
    resident = Batches(pixels_NHWC, 5, 0, meta)
    assert resident(0).device == meta
    assert resident(0).shape == (5, 1, 2, 2)
    assert resident._resident is not None
    assert Batches(pixels_NHWC, 5, 0, meta, resident_limit_bytes=47)._resident is None
    from_host = Batches(pixels_NHWC, 5, 0, CPU)
    kept = Batches(pixels_NHWC, 5, 0, CPU)
    kept._resident = torch.tensor(pixels_NHWC)
    assert torch.equal(kept(1), from_host(1))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images(n: int) -> None:
    with pytest.raises(GanportError, match=f"at least 2 images, the data hold {n}"):
        Batches(numbered(n), 4, 0, CPU)
