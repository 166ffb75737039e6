"""The CUDA engine's own work on the CPU provider: real sessions, bindings and buffers; only the GPU's clock is ours."""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gan_core.arrays import F32, I64, U8
from gan_core.latents import latents
from gan_serve.runtime import Feed, cuda_engine, providers
from gan_serve.runtime.cuda_engine import NO_GRAPH, CudaEngine
from gan_serve.runtime.onnx_generator import OnnxGenerator

STREAM = 77


class HostRuntime:
    """A GPU that is the host: copies are copies, and what was asked is written down."""

    def __init__(self) -> None:
        self._handles = itertools.count(100)
        self.calls: list[tuple[Any, ...]] = []
        self.fail_on: str | None = None

    def _note(self, *call: Any) -> None:
        if self.fail_on == call[0]:
            raise RuntimeError(f"{call[0]}:\n an illegal memory access")
        self.calls.append(call)

    def new_stream(self) -> int:
        return next(self._handles)

    def new_event(self) -> int:
        return next(self._handles)

    def record(self, event: int, stream: int) -> None:
        self._note("record", event, stream)

    def stream_waits(self, stream: int, event: int) -> None:
        self._note("stream_waits", stream, event)

    def wait(self, event: int) -> None:
        self._note("wait", event)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        self._note("pinned", shape)
        return np.full(shape, 99, dtype)

    def to_device(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        self._note("to_device", stream)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def to_host(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        self._note("to_host", stream)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)


class GraphSession:
    """A CPU session that keeps graphs as CUDA does: the second run of an id captures; later ones only launch it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seen: dict[str, int] = {}
        self.ids: list[str] = []
        self.stale = False
        self.fail_on_capture = False

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph_id = options.get_run_config_entry("gpu_graph_id")
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        self.ids.append(graph_id)
        self.seen[graph_id] = self.seen.get(graph_id, 0) + 1
        if graph_id != NO_GRAPH:
            if self.fail_on_capture:
                raise RuntimeError("operation not permitted when stream is capturing")
            if self.stale and self.seen[graph_id] > 2:
                return  # launches a graph that looks at other addresses: the pixels stay what they were
        self._session.run_with_iobinding(binding, options)


class Bench:
    """An engine on a generator of the tests, and what it said."""

    def __init__(self, generator: OnnxGenerator, graphs: bool = False) -> None:
        self.generator = generator
        self.runtime = HostRuntime()
        self.session = GraphSession(generator.session)
        self.notes: list[str] = []
        self.plain_runs = 0
        c, h, w = generator.contract.interface.image
        self.engine = CudaEngine(
            providers.import_onnxruntime(),
            self.session,
            self.runtime,
            STREAM,
            generator.signature,
            (h, w, c),
            graphs=graphs,
            plain=self.plain,
            note=self.notes.append,
            device="cpu",
        )

    def plain(self, feed: Feed) -> U8:
        self.plain_runs += 1
        return self.generator.run_pixels(*feed)

    def feeds(self, sizes: list[int]) -> list[Feed]:
        first = list(itertools.accumulate([0, *sizes]))
        every = [np.arange(start, start + size, dtype=np.int64) for start, size in zip(first, sizes, strict=False)]
        depth = self.generator.contract.interface.z_dim
        return [(latents(seeds, depth), self.generator.check_labels(None, seeds)) for seeds in every]

    def check(self, sizes: list[int]) -> None:
        """Every batch of a stream is what the plain run draws."""
        feeds = self.feeds(sizes)
        drawn = list(self.engine.stream(iter(feeds)))
        expected = [self.generator.run_pixels(*feed) for feed in feeds]
        assert [len(batch) for batch in drawn] == sizes
        for ours, theirs in zip(drawn, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(params=["generator", "conditional"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.getfixturevalue(request.param))


@pytest.fixture
def graphs(conditional: OnnxGenerator) -> Bench:
    return Bench(conditional, graphs=True)


@pytest.mark.parametrize("sizes", [[], [1], [3], [4, 4], [4, 4, 4, 1], [2, 5, 3, 5], [1] * 9])
def test_a_stream_draws_what_the_plain_run_draws(bench: Bench, sizes: list[int]) -> None:
    bench.check(sizes)
    assert (bench.plain_runs, bench.notes) == (0, [])


def test_one_batch(bench: Bench) -> None:
    for feed in bench.feeds([3, 1, 3, 7]):
        np.testing.assert_array_equal(bench.engine.run(*feed), bench.generator.run_pixels(*feed))
    assert bench.plain_runs == 0


def test_batches_are_the_callers_to_keep(bench: Bench) -> None:
    drawn = list(bench.engine.stream(bench.feeds([2, 2, 2, 2, 2])))
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(drawn, 2))
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_two_batches_are_in_flight_and_no_more(bench: Bench) -> None:
    taken = []

    def feeds() -> Any:
        for feed in bench.feeds([2] * 6):
            taken.append(feed)
            yield feed

    stream = bench.engine.stream(feeds())
    for done in range(1, 7):
        next(stream)
        assert len(taken) == min(done + 1, 6)
    assert len([call for call in bench.runtime.calls if call[0] == "pinned"]) <= 2 * 3


def test_copies_back_wait_for_the_computing_on_a_stream_of_their_own(bench: Bench) -> None:
    list(bench.engine.stream(bench.feeds([2, 2])))
    calls = [call for call in bench.runtime.calls if call[0] != "pinned"]
    ahead = [call for call in calls if call[0] == "to_device"]
    assert all(call[1] == STREAM for call in ahead)
    ((_, copies),) = {call for call in calls if call[0] == "to_host"}
    assert copies != STREAM
    for number, call in enumerate(calls):
        if call[0] == "to_host":
            (_, event, on), (_, waits, awaited) = calls[number - 2], calls[number - 1]
            assert (on, waits, awaited) == (STREAM, copies, event)
            assert calls[number + 1][0] == "record"
            assert calls[number + 1][2] == copies


def test_a_stream_that_is_left_frees_its_buffers(bench: Bench) -> None:
    for _ in range(5):
        stream: Any = bench.engine.stream(bench.feeds([2, 2, 2]))
        next(stream)
        stream.close()
    assert (
        len([call for call in bench.runtime.calls if call == ("pinned", (2, bench.generator.contract.interface.z_dim))])
        == 2
    )
    bench.check([2, 2, 2])


def test_streams_side_by_side_do_not_share_buffers(bench: Bench) -> None:
    feeds = bench.feeds([2] * 8)
    streams = [bench.engine.stream(feeds[:4]), bench.engine.stream(feeds[4:])]
    for step in range(4):
        for which, stream in enumerate(streams):
            np.testing.assert_array_equal(next(stream), bench.generator.run_pixels(*feeds[4 * which + step]))
        np.testing.assert_array_equal(bench.engine.run(*feeds[0]), bench.generator.run_pixels(*feeds[0]))


def test_threads_side_by_side(bench: Bench) -> None:
    feeds = bench.feeds([1, 2, 3, 4])
    expected = [bench.generator.run_pixels(*feed) for feed in feeds]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(20):
            if not np.array_equal(bench.engine.run(*feeds[which]), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, bench.notes) == ([], [])


def test_only_a_few_sizes_keep_their_buffers(bench: Bench) -> None:
    for feed in bench.feeds([1, 2, 3, 4, 5, 6, 7]):
        bench.engine.run(*feed)
    assert list(bench.engine._slots) == [4, 5, 6, 7]
    assert len(bench.engine._slots) == cuda_engine.MAX_SIZES


@pytest.mark.parametrize("fault", ["pinned", "to_device", "record", "stream_waits", "to_host", "wait"])
@pytest.mark.parametrize("batch", [0, 2])
def test_whatever_fails_the_images_are_right(bench: Bench, fault: str, batch: int) -> None:
    feeds = bench.feeds([2] * 5)
    drawn = []
    if batch == 0:
        bench.runtime.fail_on = fault
    for number, pixels in enumerate(bench.engine.stream(feeds)):
        drawn.append(pixels)
        if number == batch:
            bench.runtime.fail_on = fault
    for ours, feed in zip(drawn, feeds, strict=True):
        np.testing.assert_array_equal(ours, bench.generator.run_pixels(*feed))
    if batch == 0 or fault != "pinned":
        assert bench.engine.failed
        assert bench.notes == [f"CUDA runs without fixed buffers: {fault}: an illegal memory access"]
        assert bench.plain_runs > 0


@pytest.mark.parametrize("feed", [(np.zeros((0, 4), np.float32), None), (np.zeros((2, 5), np.float32), None)])
def test_what_does_not_fit_is_the_plain_runs_to_judge(generator: OnnxGenerator, feed: tuple[F32, I64 | None]) -> None:
    bench = Bench(generator)
    bench.engine._plain = lambda given: given  # type: ignore[assignment,return-value]
    given: Any = bench.engine.run(*feed)
    assert given[0] is feed[0]
    assert not bench.engine.failed


# ── graphs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_steady_batch_is_captured_and_replayed(graphs: Bench) -> None:
    graphs.check([4] * 12 + [3])
    assert graphs.notes == []
    # The first uses of both slots are plain; then each is captured once, tried once, and only replayed.
    first = 2 * cuda_engine.USES_BEFORE_GRAPH
    assert graphs.session.ids[:first] == [NO_GRAPH] * first
    assert set(graphs.session.ids[first:]) == {NO_GRAPH, "1", "2"}
    assert graphs.session.ids.count(NO_GRAPH) == first + 2
    assert graphs.session.ids[-4:] == ["2", "1", "2", "1"]


def test_a_size_met_twice_is_not_worth_a_graph(graphs: Bench) -> None:
    for _ in range(cuda_engine.USES_BEFORE_GRAPH):
        for feed in graphs.feeds([1, 2, 3]):
            graphs.engine.run(*feed)
    assert set(graphs.session.ids) == {NO_GRAPH}


def test_a_graph_that_draws_something_else_is_never_used(graphs: Bench) -> None:
    graphs.session.stale = True
    graphs.check([4] * 12)
    (note,) = graphs.notes
    assert note.startswith("CUDA graphs are off: a replay was ")
    assert graphs.plain_runs == 0
    assert graphs.session.ids[-5:] == [NO_GRAPH] * 5


def test_a_capture_that_fails_turns_the_engine_off(graphs: Bench) -> None:
    graphs.session.fail_on_capture = True
    graphs.check([4] * 8)
    assert graphs.notes == ["CUDA runs without fixed buffers: operation not permitted when stream is capturing"]
    assert graphs.plain_runs == 8 - 2 * cuda_engine.USES_BEFORE_GRAPH + 1


def test_another_thread_runs_without_the_graph(graphs: Bench) -> None:
    feeds = graphs.feeds([4] * 8)
    for feed in feeds:
        graphs.engine.run(*feed)
    assert graphs.session.ids[-1] == "1"
    drawn: list[U8] = []
    thread = threading.Thread(target=lambda: drawn.append(graphs.engine.run(*feeds[0])))
    thread.start()
    thread.join()
    assert graphs.session.ids[-1] == NO_GRAPH
    np.testing.assert_array_equal(drawn[0], graphs.generator.run_pixels(*feeds[0]))


def test_a_generator_reopens_its_session_when_the_engine_fails(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gan_serve.runtime import sessions

    generator = OnnxGenerator(model_path, "cpu", 1)
    expected = generator.generate(range(7), batch_size=2)
    runtime = HostRuntime()
    opened = sessions.Opened(generator.session, graphs=False, stream=STREAM)
    monkeypatch.setattr(cuda_engine.CudaEngine.__init__, "__kwdefaults__", {"device": "cpu"})
    reopened = []

    def reopen(model: str | bytes, where: str, _: Any) -> Any:
        reopened.append((model, where))
        return OnnxGenerator(model_path, "cpu", 1).session

    monkeypatch.setattr(sessions, "reopen_cuda", reopen)
    generator._engine = generator._make_engine(opened, runtime, str(model_path), "m.onnx")  # type: ignore[arg-type]
    caplog.set_level(logging.INFO)
    np.testing.assert_array_equal(generator.generate(range(7), batch_size=2), expected)
    assert reopened == []
    runtime.fail_on = "wait"
    np.testing.assert_array_equal(generator.generate(range(7), batch_size=2), expected)
    assert reopened == [(str(model_path), "m.onnx")]
    assert caplog.messages == generator.notes == ["CUDA runs without fixed buffers: wait: an illegal memory access"]
    np.testing.assert_array_equal(generator.run_pixels(latents([3], 4)), expected[3:4])
