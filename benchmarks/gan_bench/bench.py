"""A benchmark from start to end: reference, one process per row, interleaved windows, results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gan_bench.parity import Parity, verdict
from gan_bench.process import COMMAND, WorkerError, WorkerProcess
from gan_bench.records import Result, Settings
from gan_bench.rows import Row
from gan_bench.schedule import Track, interleave
from gan_bench.worker import LONGEST_WINDOW
from gan_serve.errors import GanportError, JobError

Json = dict[str, Any]


def measure(
    model: Path,
    rows: Sequence[Row],
    settings: Settings,
    *,
    command: Sequence[str] = COMMAND,
    before_windows: Callable[[], None] = lambda: None,
    after_window: Callable[[], None] = lambda: None,
) -> tuple[Json, list[Result]]:
    """Measures every row; returns what the model says of itself and one `Result` a row, in the order of `rows`.

    A row whose process fails, dies or hangs is marked failed, one whose pixels are wrong is marked wrong; the
    others go on. `before_windows()` is called once everything is accepted and ready, `after_window()` after each
    window. Raises `GanportError` for
    a model or provider that the runtime refuses (before anything is measured), `JobError` when the reference
    cannot be drawn. No process outlives the call.
    """
    results = [Result(row) for row in rows]
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder, ExitStack() as workers:
        reference = Path(folder) / "reference.npy"
        about = draw_reference(model, reference, settings.timeout_s, command)
        tracks = []
        for result in results:
            worker = workers.enter_context(WorkerProcess(command))
            if prepare(worker, result, model, reference, settings.timeout_s, str(about["precision"])):
                tracks.append(Track((worker, result)))
            else:
                worker.close()

        before_windows()

        def window(subject: tuple[WorkerProcess, Result], number: int) -> float | None:
            return take_window(*subject, number, settings, str(about["precision"]))

        interleave(tracks, window, settings.max_rounds, after_window)
        for track in tracks:
            track.subject[1].stable = track.stable
    return about, results


def draw_reference(model: Path, target: Path, timeout_s: float, command: Sequence[str]) -> Json:
    """Draws the reference pixels on the CPU provider, in a process of its own, and returns the model's description.

    It also brings the packages and the model into the file cache: the first row starts no colder than the others.
    """
    with WorkerProcess(command) as worker:
        try:
            opened = worker.ask("open", timeout_s, model=str(model), provider="cpu", threads=None)
            worker.ask("reference", timeout_s, path=str(target))
        except WorkerError as error:
            raise JobError(
                f"{model} does not run on the CPU provider, which is the reference for the pixels: {error}",
                hint=f"gan-gen --model {model} --selftest looks closer",
            ) from None
    about: Json = opened["model"] | {"file": model.name, "size_bytes": model.stat().st_size}
    return about | {"runtime": opened["runtime"]}


def prepare(
    worker: WorkerProcess, result: Result, model: Path, reference: Path, timeout_s: float, precision: str
) -> bool:
    """Opens the model in a row's process and checks its pixels; False when the row is not to be timed.

    Raises `GanportError` when the runtime refuses the row's provider.
    """
    row = result.row
    try:
        result.opened = worker.ask("open", timeout_s, model=str(model), provider=row.provider, threads=row.threads)
        result.peak_rss_bytes = worker.peak_rss_bytes
    except WorkerError as error:
        result.failure = str(error)
        return False
    try:
        prepared = worker.ask("prepare", timeout_s, batch=row.batch, reference=str(reference))
    except (WorkerError, GanportError) as error:
        result.failure = str(error)
        return False
    result.first_run_ms = prepared["first_run_ms"]
    result.peak_rss_bytes = worker.peak_rss_bytes
    return _right(result, Parity(**prepared["parity"]), precision)


def take_window(worker: WorkerProcess, result: Result, number: int, settings: Settings, precision: str) -> float | None:
    """One window of one row: its images/s, or None when the row is to be dropped."""
    limit = settings.timeout_s + LONGEST_WINDOW * settings.window_s
    try:
        window = worker.ask("window", limit, seconds=settings.window_s, min_calls=settings.min_calls_per_window)
    except (WorkerError, GanportError) as error:
        result.failure = str(error)
        return None
    result.peak_rss_bytes = worker.peak_rss_bytes
    if not _right(result, Parity(**window["parity"]), precision):
        worker.close()
        return None
    calls = len(window["latencies_ns"])
    rate = calls * result.row.batch / window["elapsed_s"]
    result.latencies_ns += window["latencies_ns"]
    result.windows.append({"round": number, "calls": calls, "images_per_s": float(f"{rate:.4g}")})
    return float(rate)


def _right(result: Result, seen: Parity, precision: str) -> bool:
    result.parity = seen if result.parity is None else result.parity + seen
    result.mistake = verdict(seen, precision)
    return not result.mistake
