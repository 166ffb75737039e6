"""`Generator`: an image depends on its seed and class, and on nothing else. Work ahead in threads keeps its order."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gan_serve
from gan_core.arrays import F32
from gan_core.errors import GanportError
from gan_core.images import to_pixels
from gan_core.interface import with_interface
from gan_core.latents import latents
from gan_serve.runtime import feeds, in_order
from gan_serve.runtime.onnx_generator import OnnxGenerator


def test_generate_through_the_library(model_path: Path) -> None:
    generator = gan_serve.load(model_path, provider="cpu")
    pixels_NHWC = generator.generate(seeds=range(25))
    assert pixels_NHWC.shape == (25, 6, 5, 3)
    assert pixels_NHWC.dtype == np.uint8
    assert generator.provider == "cpu"
    assert isinstance(generator, gan_serve.Generator)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 25, 1000])
def test_images_do_not_depend_on_the_batch(generator: OnnxGenerator, batch_size: int) -> None:
    np.testing.assert_array_equal(generator.generate(range(25), batch_size=batch_size), generator.generate(range(25)))


@pytest.mark.parametrize(
    ("image", "n", "callers", "size"),
    [
        ((3, 64, 64), 10_000, 1, 16),
        ((3, 64, 64), 10_000, 4, 16),
        ((1, 28, 28), 10_000, 2, 64),
        ((1, 64, 64), 10_000, 2, 48),
        ((3, 128, 128), 10_000, 2, 4),
        ((3, 1024, 1024), 10_000, 1, 4),
        ((3, 64, 64), 25, 1, 16),
        ((3, 64, 64), 25, 2, 13),
        ((3, 64, 64), 25, 4, 7),
        ((3, 64, 64), 1, 4, 1),
        ((3, 64, 64), 0, 4, 1),
    ],
)
def test_batch_size(
    generator: OnnxGenerator,
    image: tuple[int, int, int],
    n: int,
    callers: int,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generator, "contract", with_interface(generator.contract, image=image))
    monkeypatch.setattr(generator, "callers", callers)
    assert generator.batch_size(n) == size


@pytest.mark.parametrize("n", [0, 1, 7, 255, 256, 257, 1000])
@pytest.mark.parametrize("size", [1, 3, 16, 64, 300])
def test_feeds_are_every_image_once(n: int, size: int) -> None:
    asked = []

    def rows(start: int, stop: int) -> F32:
        asked.append(stop - start)
        return np.arange(start, stop, dtype=np.float32)[:, None]

    made = list(feeds(n, size, rows, lambda start, stop: np.arange(start, stop)))
    assert [len(z) for z, _ in made[:-1]] == [size] * (len(made) - 1)
    assert [z[:, 0].tolist() for z, _ in made] == [label.tolist() for _, label in made if label is not None]
    assert [value for z, _ in made for value in z[:, 0].tolist()] == list(range(n))
    assert max(asked, default=0) <= max(256, size)
    assert len(asked) <= n // 100 + 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_images_do_not_depend_on_the_threads(generator: OnnxGenerator, model_path: Path, threads: int) -> None:
    other = OnnxGenerator(model_path, "cpu", threads, many=threads == 2)
    assert other.threads == threads
    np.testing.assert_array_equal(other.generate(range(25)), generator.generate(range(25)))


def test_a_seed_is_an_image(generator: OnnxGenerator) -> None:
    every = generator.generate(range(7, 32))
    np.testing.assert_array_equal(every[3:5], generator.generate([10, 11]))
    np.testing.assert_array_equal(every[::-1], generator.generate(range(31, 6, -1)))
    assert len(np.unique(every.reshape(25, -1), axis=0)) == 25


def test_pixels_are_the_image_rounded(generator: OnnxGenerator) -> None:
    image_NCHW, pixels_NHWC = generator.run(latents(range(50), 4))
    np.testing.assert_array_equal(to_pixels(image_NCHW), pixels_NHWC)


def test_stream_takes_more_seeds_than_memory_holds(generator: OnnxGenerator) -> None:
    stream = generator.stream(range(10**15), batch_size=3)
    first, second = next(stream), next(stream)
    np.testing.assert_array_equal(np.concatenate([first, second]), generator.generate(range(6)))


def test_no_seeds_give_no_images(generator: OnnxGenerator) -> None:
    assert generator.generate([]).shape == (0, 6, 5, 3)


def test_more_images_than_memory_holds_are_refused(generator: OnnxGenerator) -> None:
    with pytest.raises(GanportError, match="images of 5x6 do not fit into memory"):
        generator.generate(range(2**52))


def test_classes(conditional: OnnxGenerator) -> None:
    every = conditional.generate(range(6))
    np.testing.assert_array_equal(every, conditional.generate(range(6), [0, 1, 2, 0, 1, 2]))
    one = conditional.generate(range(6), 2)
    np.testing.assert_array_equal(one[[2, 5]], every[[2, 5]])
    assert (one[0] != every[0]).any()
    np.testing.assert_array_equal(conditional.generate(range(6), np.int64(2)), one)  # type: ignore[arg-type]
    np.testing.assert_array_equal(conditional.generate(range(7), [2] * 7, batch_size=2)[:6], one)
    assert conditional.generate([], []).shape == (0, 8, 8, 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (3, "class 3 does not exist"),
        (-1, "class -1 does not exist"),
        ([0, 1, 9], "class 9 does not exist"),
        ([0, -2, 1], "class -2 does not exist"),
        ([0, 1], "expected one label, or one per seed (3), got 2"),
        ([[0, 1, 2]], "expected one label, or one per seed (3), got 3"),
        (1.5, "labels must be integers"),
        (["fish"] * 3, "class 'fish' does not exist"),
    ],
)
def test_wrong_classes(conditional: OnnxGenerator, labels: object, message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        conditional.generate(range(3), labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": 0}, "this generator has no classes"),
        ({"labels": [0, 0]}, "this generator has no classes"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"truncation": 0.01}, "`truncation` must be a finite number"),
        ({"seeds": [-3]}, "a seed must lie in"),
    ],
)
def test_wrong_requests_fail_before_the_first_image(
    generator: OnnxGenerator, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        generator.stream(**{"seeds": [0, 1], **arguments})  # type: ignore[arg-type]


def test_unknown_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = gan_serve.nothing


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(threads: int, count: int) -> None:
    def slow_when_even(item: int) -> int:
        if item % 2 == 0:
            time.sleep(0.001)
        return item * item

    before = set(threading.enumerate())
    assert list(in_order(slow_when_even, range(count), threads)) == [item * item for item in range(count)]
    assert set(threading.enumerate()) <= before


def test_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(in_order(lambda _: meeting.wait() >= 0, range(3), 3)) == [True] * 3


def test_no_more_is_taken_than_said() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    for number, _ in enumerate(in_order(lambda item: item, items(), 3), 1):
        assert taken <= number + 4
    assert taken == 100


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_is_raised_in_its_place(threads: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    seen: list[int] = []
    with pytest.raises(ValueError, match="five"):
        seen.extend(in_order(work, range(1000), threads))
    assert seen == [0, 1, 2, 3, 4]
    assert len(begun) < 15


def test_a_failure_of_the_items_ends_the_threads() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    before = set(threading.enumerate())
    with pytest.raises(KeyError):
        list(in_order(lambda item: item, items(), 2))
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_closing_waits_for_what_is_under_way_and_begins_no_more() -> None:
    ended = []

    def work(item: int) -> int:
        time.sleep(0.02)
        ended.append(item)
        return item

    before = set(threading.enumerate())
    results = in_order(work, range(100), 2)
    assert next(results) == 0
    assert len(set(threading.enumerate()) - before) == 2
    results.close()
    assert set(threading.enumerate()) <= before
    count = len(ended)
    time.sleep(0.05)
    assert len(ended) == count < 8
