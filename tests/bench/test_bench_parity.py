"""The comparison of pixels: what is timed is what is compared, and a wrong pixel anywhere shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gan_bench.parity import REFERENCE_SEEDS, Difference, compare, compare_floats, seed_batches, verdict


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 8, 9, 25, 64])
def test_the_batches_hold_every_seed_in_batches_of_the_size_asked(batch: int) -> None:
    batches = seed_batches(batch)
    assert len(batches) >= 2
    assert all(seeds.shape == (batch,) for seeds in batches)
    assert set(np.concatenate(batches).tolist()) == set(range(REFERENCE_SEEDS))


def reference() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (REFERENCE_SEEDS, 4, 4, 3), np.uint8)


def test_equal_pixels_differ_by_nothing() -> None:
    seeds = seed_batches(25)[0]
    seen = compare(reference()[seeds], seeds, reference())
    assert seen == Difference(0, 0, 25 * 48)
    assert seen.psnr_db is None
    assert verdict(seen, "fp32") == ""


@pytest.mark.parametrize(("position", "step"), [(0, 2), (24, 2), (13, 255)])
def test_one_wrong_pixel_anywhere_is_found(position: int, step: int) -> None:
    seeds = seed_batches(25)[0]
    truth = reference()
    truth[seeds[position], 1, 2, 0] = 0
    pixels = truth[seeds].copy()
    pixels[position, 1, 2, 0] = step
    seen = compare(pixels, seeds, truth)
    assert seen.max_lsb == step
    assert seen.psnr_db == pytest.approx(10 * math.log10(255**2 * seen.count / step**2))
    assert f"{step} LSB" in verdict(seen, "fp32")


def test_no_wrap_around_between_0_and_255() -> None:
    truth = np.zeros((REFERENCE_SEEDS, 1, 1, 1), np.uint8)
    seen = compare(np.full((1, 1, 1, 1), 255, np.uint8), np.array([0]), truth)
    assert seen.max_lsb == 255
    assert seen.psnr_db == 0.0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((3, 4, 4, 1), np.uint8),
        np.zeros((3, 4, 4, 3), np.float32),
        np.zeros((3, 3, 4, 4), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected pixels uint8 \(3, 4, 4, 3\)"):
        compare(pixels, np.arange(3), reference())


@pytest.mark.parametrize(
    ("parity", "precision", "right"),
    [
        (Difference(1, 10, 100), "fp32", True),
        (Difference(2, 4, 10**9), "fp32", False),
        (Difference(9, 600, 100), "fp16", True),  # 40.3 dB
        (Difference(9, 700, 100), "fp16", False),  # 39.7 dB
        (Difference(60, 6_000, 100), "int8", True),
        (Difference(90, 7_000, 100), "int8", False),
        (Difference(), "int8", True),
    ],
)
def test_limits_follow_the_precision(parity: Difference, precision: str, right: bool) -> None:
    assert (verdict(parity, precision) == "") is right


def test_parities_add_up() -> None:
    assert Difference(1, 4, 10) + Difference(3, 9, 20) == Difference(3, 13, 30)


def test_floats_are_compared_by_seed() -> None:
    truth = np.zeros((REFERENCE_SEEDS, 3, 2, 2), np.float32)
    truth[5] = 0.5
    seeds = np.array([5, 0], np.int64)
    image = truth[seeds].copy()
    assert compare_floats(image, seeds, truth) == 0
    image[1, 2, 1, 0] = -0.25
    assert compare_floats(image, seeds, truth) == 0.25
    image[0, 0, 0, 0] = np.nan
    assert compare_floats(image, seeds, truth) == math.inf


def test_floats_join_the_parity() -> None:
    seen = Difference(0, 0, 4) + Difference(image_max_abs=1e-3) + Difference(0, 0, 4)
    assert seen == Difference(0, 0, 8, 1e-3)
    assert verdict(seen, "fp32") == "", "floats are told, pixels are judged"
    assert verdict(seen + Difference(image_max_abs=math.inf), "int8") == "its images hold NaN or infinity"


def test_tf32_is_held_to_the_limits_of_fp16() -> None:
    assert verdict(Difference(9, 600, 100), "tf32") == ""
    assert "PyTorch's by up to 9 LSB" in verdict(Difference(9, 700, 100), "tf32", "PyTorch")
