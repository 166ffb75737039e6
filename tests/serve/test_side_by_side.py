"""A CPU's threads share a batch's images, or a single image's operators, with a session of each kind when needed."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gan_serve
from gan_core.files import model_file
from gan_core.spec.layers import LAYER_KINDS
from gan_serve.runtime import runtimes
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.sessions import TOGETHER, SideBySide, share, suits_side_by_side
from serve import onnx_files

LINEAR = {"layers": [{"kind": "linear"}, {"kind": "activation"}]}
CONVOLUTION = {"layers": [{"kind": "reshape"}, {"kind": "conv_transpose"}]}


def test_one_image_opens_one_session_and_a_batch_the_other(model_path: Path, opened: list[int]) -> None:
    generator = gan_serve.load(model_path, "cpu", 3)
    generator.generate([5])
    assert opened == [3]
    generator.generate(range(25))
    generator.generate(range(25))
    assert opened == [3, 1]


def test_many_images_open_the_other_first_and_only_that(model_path: Path, opened: list[int]) -> None:
    generator = runtimes.load(model_path, "cpu", 3, many=True)
    list(generator.stream(range(100)))
    generator.generate(range(2))
    assert opened == [1]
    generator.generate([5])
    assert opened == [1, 3]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 25, 200])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_batch_in_parts_is_the_batch(n: int, conditional: bool, model_path: Path, conditional_path: Path) -> None:
    path = conditional_path if conditional else model_path
    alone, together = OnnxGenerator(path, "cpu", 1), OnnxGenerator(path, "cpu", 3)
    z = np.random.default_rng(n).standard_normal((n, alone.contract.interface.z_dim)).astype(np.float32)
    label = np.arange(n) % alone.contract.interface.n_classes if conditional else None
    for seen, expected in zip(together.run(z, label), alone.run(z, label), strict=True):
        np.testing.assert_array_equal(seen, expected, strict=True)
    np.testing.assert_array_equal(together.run_pixels(z, label), alone.run_pixels(z, label))


def test_a_stream_is_drawn_in_as_many_threads(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = OnnxGenerator(model_path, "cpu", 1).generate(range(50))
    generator = OnnxGenerator(model_path, "cpu", 3, many=True)
    meeting, real, met = threading.Barrier(3, timeout=10), generator._run_on, threading.local()

    def meets(*arguments: Any) -> list[Any]:
        if not hasattr(met, "yes"):
            met.yes = True
            meeting.wait()  # breaks, after ten seconds, where fewer than three come
        return real(*arguments)

    monkeypatch.setattr(generator, "_run_on", meets)
    np.testing.assert_array_equal(generator.generate(range(50), batch_size=4), expected)


@pytest.mark.slow
def test_a_file_without_metadata_is_drawn_side_by_side_too(tmp_path: Path, opened: list[int]) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(onnx_files.foreign(["n", 4], ["n", 3, 6, 5]).SerializeToString())
    generator = OnnxGenerator(path, "cpu", 2, many=True)
    np.testing.assert_array_equal(generator.generate(range(9)), OnnxGenerator(path, "cpu", 1).generate(range(9)))
    assert opened == [1, 1]


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_file_that_changed_behind_us_is_not_opened_again(
    change: str, model_path: Path, tmp_path: Path, opened: list[int]
) -> None:
    path = tmp_path / "g.onnx"
    shutil.copy(model_path, path)
    generator = OnnxGenerator(path, "cpu", 2)
    expected = OnnxGenerator(model_path, "cpu", 1).generate(range(9))
    opened.clear()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\x00")
    np.testing.assert_array_equal(generator.generate(range(9)), expected)
    assert opened == []


def test_bytes_are_drawn_side_by_side(model_path: Path, opened: list[int]) -> None:
    generator = OnnxGenerator(model_path.read_bytes(), "cpu", 2)
    generator.generate(range(4))
    assert opened == [2, 1]
    assert generator.sha256 == model_file.sha256_of(model_path)


def test_the_names_are_those_of_the_layers_that_do_not_convolve() -> None:
    assert {kind for kind, layer in LAYER_KINDS.items() if not layer.convolves} == TOGETHER


@pytest.mark.parametrize(("spec", "apart"), [(LINEAR, False), (CONVOLUTION, True), (None, True)])
def test_only_matrix_products_stay_together(
    spec: dict[str, Any] | None, apart: bool, tmp_path: Path, opened: list[int]
) -> None:
    path = onnx_files.save(tmp_path / "g.onnx", onnx_files.contract(spec=spec))
    assert suits_side_by_side(str(path)) == suits_side_by_side(path.read_bytes()) == apart
    opened.clear()
    generator = OnnxGenerator(path, "cpu", 2, many=True)
    generator.generate(range(9))
    assert generator.callers == (2 if apart else 1)
    assert opened == [1 if apart else 2]


@pytest.mark.parametrize("spec", [{}, {"layers": 7}, {"layers": {"a": 1}}, {"layers": [7, None, {"kind": ["conv"]}]}])
def test_a_spec_that_is_none_says_nothing(spec: Any, tmp_path: Path) -> None:
    path = onnx_files.save(tmp_path / "g.onnx", onnx_files.contract(spec=spec))
    assert suits_side_by_side(str(path)) == (not isinstance(spec.get("layers"), list))
    assert OnnxGenerator(path, "cpu", 2, many=True).generate(range(3)).shape == (3, 6, 5, 3)


def test_one_thread_has_nothing_to_share(model_path: Path, opened: list[int]) -> None:
    generator = OnnxGenerator(model_path, "cpu", 1)
    generator.generate(range(40))
    generator.generate([1])
    assert (opened, generator.callers) == ([1], 1)


def test_the_other_session_is_opened_once_however_many_ask() -> None:
    made: list[bool] = []

    def another(single: bool) -> object:
        made.append(single)
        return object()

    apart = SideBySide("first", False, another, 2)
    askers = [threading.Thread(target=apart.session, args=(True,)) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(10)
    assert (made, apart.session(single=False)) == ([True], "first")


def parts_of(apart: SideBySide, work: Callable[[int], int], n: int) -> list[int]:
    """`work` of 0 … n - 1, each a part of its own."""

    def run(_session: object, _outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        return [np.array([work(int(feeds["z"][0]))])]

    (found,) = apart.run(run, ["pixels"], {"z": np.arange(n)}, most=1)
    return list(map(int, found))


def test_parts_come_in_order_whatever_finishes_first() -> None:
    def work(n: int) -> int:
        time.sleep(0.01 * (3 - n))
        return 10 * n

    assert parts_of(SideBySide("", True, lambda _: "", 2), work, 3) == [0, 10, 20]


def test_two_parts_are_drawn_at_a_time() -> None:
    """Neither of the two gets past the barrier alone."""
    barrier = threading.Barrier(2, timeout=10)
    assert sorted(parts_of(SideBySide("", True, lambda _: "", 2), lambda _: barrier.wait(), 2)) == [0, 1]


def test_threads_stay_between_batches_and_end_with_the_sessions() -> None:
    before = set(threading.enumerate())
    apart = SideBySide("", True, lambda _: "", 3)
    assert parts_of(apart, abs, 1) == [0]
    assert set(threading.enumerate()) <= before, "a single image needs no threads"
    for _ in range(5):
        assert parts_of(apart, abs, 4) == [0, 1, 2, 3]
    assert 0 < len(set(threading.enumerate()) - before) <= 3
    del apart
    gc.collect()
    for _ in range(200):
        if set(threading.enumerate()) <= before:
            break
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


def test_the_first_failure_is_raised_and_no_more_is_begun() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        if n == 1:
            raise ValueError(f"part {n}")
        time.sleep(0.005)
        return n

    apart = SideBySide("", True, lambda _: "", 2)
    with pytest.raises(ValueError, match="part 1"):
        parts_of(apart, work, 1000)
    assert len(begun) < 500
    assert parts_of(apart, abs, 3) == [0, 1, 2]  # and it is none the worse for it


def test_several_callers_share_the_threads() -> None:
    apart = SideBySide("", True, lambda _: "", 2)
    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(lambda n: len(parts_of(apart, abs, n)), (5, 6, 7, 8))) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("n", "threads", "most", "size"),
    [
        (25, 2, 16, 13),
        (64, 2, 16, 16),
        (40, 2, 16, 10),
        (2, 4, 16, 1),
        (65, 2, 16, 11),
        (7, 1, 4, 4),
        (1000, 3, 64, 56),
    ],
)
def test_parts_are_even(n: int, threads: int, most: int, size: int) -> None:
    assert share(n, threads, most) == size <= most
