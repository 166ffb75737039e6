"""Requests of several clients share batches; none of them feels the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server.batching import Batcher, Drawn
from server.running import Slow

Models = dict[str, OnnxGenerator]


def in_loop(
    generator: Any, work: Callable[[Batcher], Coroutine[Any, Any, Any]], most: int, delay_s: float = 0.01
) -> Any:
    async def main() -> Any:
        batcher = Batcher(generator, most, delay_s, lambda *_: None, lambda _: None)
        try:
            return await asyncio.wait_for(work(batcher), 20)
        finally:
            await batcher.close()

    return asyncio.run(main())


def rows(*values: float) -> Any:
    return np.repeat(np.array(values, np.float32)[:, None], 4, 1)


def test_waiting_requests_share_batches_of_at_most_so_many_images() -> None:
    slow = Slow()

    async def work(batcher: Batcher) -> list[Drawn]:
        tasks = [asyncio.create_task(batcher.draw(rows(*[index] * n), None)) for index, n in enumerate([3, 3, 2, 3, 1])]
        await asyncio.sleep(0.03)
        assert slow.batches == [8]  # and the rest waits for the thread
        assert batcher.waiting == 4
        slow.free.set()
        return await asyncio.gather(*tasks)

    drawn = in_loop(slow, work, 8)
    assert slow.batches == [8, 4]
    for index, (_, pixels) in enumerate(drawn):
        assert (pixels == index).all()
    assert [len(pixels) for _, pixels in drawn] == [3, 3, 2, 3, 1]


def test_a_full_batch_does_not_wait_and_a_lone_request_waits_no_longer_than_said() -> None:
    slow = Slow()
    slow.free.set()

    async def full(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.draw(rows(index), None) for index in range(4)))

    in_loop(slow, full, 4, delay_s=60)  # in_loop's own limit is 20 s
    assert slow.batches == [4]
    in_loop(slow, lambda batcher: batcher.draw(rows(1), None), 4, delay_s=0.05)
    assert slow.batches == [4, 1]


def test_more_images_than_a_batch_holds() -> None:
    slow = Slow()
    slow.free.set()
    _, pixels = in_loop(slow, lambda batcher: batcher.draw(rows(*range(11)), None), 4)
    assert pixels[:, 0, 0, 0].tolist() == list(range(11))
    assert slow.batches == [4, 4, 3]


@pytest.mark.parametrize("poisoned", [0, 3, 6])
def test_what_makes_a_batch_fail_fails_alone(poisoned: int) -> None:
    slow = Slow()
    slow.free.set()

    async def work(batcher: Batcher) -> list[Any]:
        values = [13 if index == poisoned else index for index in range(7)]
        return await asyncio.gather(*(batcher.draw(rows(value), None) for value in values), return_exceptions=True)

    results = in_loop(slow, work, 8)
    for index, result in enumerate(results):
        if index == poisoned:
            assert isinstance(result, RuntimeError)
        else:
            assert (result[1] == index).all()


def test_an_image_does_not_depend_on_its_neighbours(models: Models) -> None:
    generator = models["c"]
    z, labels = generator.contract.interface.latents(range(40)), np.arange(40) % 3

    async def work(batcher: Batcher) -> list[Drawn]:
        parts = [slice(index, index + 1 + index % 3) for index in range(0, 36)]
        return await asyncio.gather(
            *(batcher.draw(z[part], labels[part], index % 2 == 0) for index, part in enumerate(parts))
        )

    for index, (image, pixels) in enumerate(in_loop(generator, work, 16)):
        part = slice(index, index + 1 + index % 3)
        alone = generator.run(z[part], labels[part])
        assert np.array_equal(pixels, alone[1])
        assert (image is not None) == (index % 2 == 0)
        if image is not None:
            assert np.allclose(image, alone[0], atol=1e-6)


def test_what_is_cancelled_leaves_the_queue() -> None:
    slow = Slow()

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.draw(rows(1), None))
        while not slow.batches:
            await asyncio.sleep(0.005)
        second = asyncio.create_task(batcher.draw(rows(*range(9)), None))
        third = asyncio.create_task(batcher.draw(rows(3), None))
        await asyncio.sleep(0.03)
        assert batcher.waiting == 10
        second.cancel()
        await asyncio.sleep(0.03)
        assert batcher.waiting == 1
        slow.free.set()
        assert ((await third)[1] == 3).all()
        await first

    in_loop(slow, work, 4, delay_s=0)
    assert slow.batches == [1, 1]


def test_shares_of_classes_and_plain_classes_in_one_batch(models: Models) -> None:
    given: list[Any] = []

    class Mixing(Slow):
        def __init__(self) -> None:
            super().__init__()
            self.contract = models["c"].contract

        def run_pixels(self, z: Any, label: Any = None) -> Any:
            given.append(label)
            return np.zeros((len(z), 8, 8, 1), np.uint8)

    async def work(batcher: Batcher) -> None:
        shares = np.array([[0.5, 0.5, 0]], np.float32)
        await asyncio.gather(batcher.draw(rows(0), shares), batcher.draw(rows(0), np.array([2])))

    in_loop(Mixing(), work, 2, delay_s=5)
    assert given[0].tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
