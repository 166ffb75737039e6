"""A benchmark from start to end: reference, one process per row, interleaved windows, results."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gan_bench.limits.roofline import Limit, kind_of, kinds_of
from gan_bench.limits.work import Work, work_of
from gan_bench.measuring.models import about_generator, describe_models
from gan_bench.measuring.process import COMMAND, WorkerError, WorkerProcess, variables
from gan_bench.measuring.schedule import Track, interleave
from gan_bench.measuring.stages import Stages
from gan_bench.measuring.worker import LONGEST_WINDOW
from gan_bench.peers import PEERS
from gan_bench.records.parity import Parity
from gan_bench.records.record import Measured, Result, Settings
from gan_bench.records.rows import Request, Row
from gan_core.errors import GanportError, JobError
from gan_core.process import usable_cores

Json = dict[str, Any]
Subject = tuple[WorkerProcess, Result | Limit]

LIMIT_SHARE = 0.5
"""A window of the machine's limits is this part of a row's."""


def measure(
    request: Request, settings: Settings, *, command: Sequence[str] = COMMAND, stages: Stages | None = None
) -> Measured:
    """Measures every row of `request`; the results are in the order of its rows.

    A row whose process fails, dies or hangs is marked failed, one whose pixels are wrong is marked wrong; the others
    go on. Raises `GanportError` for a model, checkpoint or provider that is refused (before anything is measured),
    `JobError` when the reference cannot be drawn. No process outlives the call.
    """
    stages = stages or Stages()
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as name, ExitStack() as workers:
        folder = Path(name)
        models = describe_models(request.models, settings.timeout_s, command)
        unpacked = unpack(request, folder, settings.timeout_s, command)
        stages.notes(unpacked.get("notes", []))
        generator = about_generator(models, unpacked.get("about"), request)
        rows = request.rows("cuda" if unpacked.get("cuda") else "cpu", [str(model["precision"]) for model in models])
        reference = draw_reference(request, models, folder, settings.timeout_s, command)
        work = work_of(generator["spec"], request.models[0] if models else None, generator["z_dim"], generator["image"])
        stages.accepted(generator)

        results = [Result(row, precision=row.precision or _precision_of(row, request, models)) for row in rows]
        bench = _Bench(settings, command, folder, reference, workers)
        stages.begin("starting", len(rows))
        tracks: list[Track[Subject]] = []
        for result in results:
            worker = bench.prepared(result, rows)
            if worker is not None:
                tracks.append(Track((worker, result)))
            stages.step()
        limits = bench.limits([track.subject[1] for track in tracks], work) if settings.roofline else []
        for worker, limit in limits:
            if not limit.failure:
                tracks.append(Track((worker, limit)))

        stages.begin("measuring", len(tracks) * settings.max_rounds)
        interleave(tracks, bench.window, settings.max_rounds, stages.step)
        for track in tracks:
            if isinstance(track.subject[1], Result):
                track.subject[1].stable = track.stable
    return Measured(generator, models, reference, results, [limit for _, limit in limits], work)


def unpack(request: Request, folder: Path, timeout_s: float, command: Sequence[str]) -> Json:
    """The checkpoint as the peers open it, in `folder`, in a process of its own; {} without one."""
    if request.ckpt is None:
        return {}
    model = str(request.models[0]) if request.models else None
    stock = any(PEERS[peer].source == "stock.onnx" for peer in request.peers)
    with WorkerProcess(command) as worker:
        try:
            return worker.ask("unpack", timeout_s, ckpt=str(request.ckpt), folder=str(folder), model=model, stock=stock)
        except WorkerError as error:
            raise JobError(
                f"{request.ckpt} cannot be made ready for the other runtimes: {error}",
                hint="leave out --ckpt to measure --model alone, or name fewer --peers",
            ) from None


def draw_reference(
    request: Request, models: list[Json], folder: Path, timeout_s: float, command: Sequence[str]
) -> Json:
    """Draws the reference images in a process of its own: PyTorch's where there is a checkpoint, else the first fp32
    file's (the first file's, where none is fp32) on the CPU provider.

    Returns {"runtime", "model", "provider", "file"}: what drew, and where the images are.
    """
    target = folder / "reference.npz"
    if request.ckpt is not None:
        what, opening = str(request.ckpt), {"runtime": "eager", "path": str(folder / "g.pt")}
        described = {"runtime": "eager", "model": request.ckpt.name, "provider": "cpu", "name": "PyTorch"}
    else:
        exact = [index for index, model in enumerate(models) if model["precision"] == "fp32"]
        path = request.models[exact[0] if exact else 0]
        what, opening = str(path), {"runtime": "ganport", "path": str(path)}
        described = {"runtime": "ganport", "model": path.name, "provider": "cpu", "name": "the CPU provider"}
    with WorkerProcess(command) as worker:
        try:
            worker.ask("open", timeout_s, provider="cpu", threads=usable_cores(), **opening)
            worker.ask("reference", timeout_s, path=str(target))
        except WorkerError as error:
            raise JobError(
                f"{what} does not run on the CPU provider, which is the reference for the pixels: {error}",
                hint=f"gan-gen --model {what} --selftest looks closer"
                if request.ckpt is None
                else f"gan-export onnx --ckpt {request.ckpt} says more",
            ) from None
    return described | {"file": str(target)}


class _Bench:
    """The processes of one benchmark, ended with `workers`."""

    def __init__(
        self, settings: Settings, command: Sequence[str], folder: Path, reference: Json, workers: ExitStack
    ) -> None:
        self.settings, self.command, self.folder, self.reference = settings, command, folder, reference
        self.stack = workers
        self.shared: dict[Row, WorkerProcess] = {}

    def prepared(self, result: Result, rows: Sequence[Row]) -> WorkerProcess | None:
        """A process with the row's model loaded and its pixels checked; None when the row is not to be timed.

        Raises `GanportError` when the runtime refuses the provider of a ganport row.
        """
        row, timeout_s = result.row, self.settings.timeout_s
        try:
            worker = self._opened(result, rows)
            asked = {"batch": row.batch, "task": row.task, "reference": self.reference["file"]}
            prepared = worker.ask("prepare", timeout_s, **asked)
        except WorkerError as error:
            result.failure = str(error)
            return None
        except GanportError as error:
            if row.ours and not result.opened:
                raise
            result.failure = str(error)
            return None
        result.first_run_ms = prepared["first_run_ms"]
        result.saw_memory(worker.peak_rss_bytes, prepared["peak_device_bytes"])
        if result.saw(Parity(**prepared["parity"]), self.reference["name"]):
            return worker
        if not self.settings.share_process:
            worker.close()
        return None

    def window(self, subject: Subject, number: int) -> float | None:
        """One window of one row, its images/s, or of a limit, its GFLOP/s; None when it is to be dropped."""
        worker, what = subject
        seconds = self.settings.window_s
        if isinstance(what, Limit):
            return self._limit_window(worker, what, LIMIT_SHARE * seconds)
        limit_s = self.settings.timeout_s + LONGEST_WINDOW * seconds
        min_calls = self.settings.min_calls_per_window if what.row.task == "pixels" else 1
        try:
            window = worker.ask("window", limit_s, batch=what.row.batch, seconds=seconds, min_calls=min_calls)
        except (WorkerError, GanportError) as error:
            what.failure = str(error)
            return None
        what.saw_memory(worker.peak_rss_bytes, window["peak_device_bytes"])
        if not what.saw(Parity(**window["parity"]), self.reference["name"]):
            if not self.settings.share_process:
                worker.close()
            return None
        calls = len(window["latencies_ns"])
        rate = calls * what.row.batch / window["elapsed_s"]
        what.latencies_ns += window["latencies_ns"]
        what.windows.append({"round": number, "calls": calls, "images_per_s": float(f"{rate:.4g}")})
        return float(rate)

    def limits(self, subjects: Sequence[Any], work: Work | None) -> list[tuple[WorkerProcess, Limit]]:
        """A process for each limit that the rows are held against."""
        results = [result for result in subjects if isinstance(result, Result)]
        wanted = kinds_of([result.place for result in results])
        use_torch = any(result.row.runtime in PEERS for result in results)
        made = []
        for kind in wanted:
            beside = [result for result in results if kind_of(*result.place) == kind]
            batch = min(result.row.batch for result in beside)
            copy_bytes = work.bytes_per_call(batch, beside[0].precision) if work is not None else 0
            threads = kind.threads or usable_cores()
            worker = self.stack.enter_context(WorkerProcess(self.command, variables(threads)))
            limit = Limit(kind)
            try:
                limit.about = worker.ask(
                    "machine", self.settings.timeout_s, device=kind.device, precision=kind.precision,
                    threads=threads, copy_bytes=copy_bytes, use_torch=use_torch,
                )  # fmt: skip
            except (WorkerError, GanportError) as error:
                limit.failure = str(error)
            made.append((worker, limit))
        return made

    def _limit_window(self, worker: WorkerProcess, limit: Limit, seconds: float) -> float | None:
        try:
            window = worker.ask("limits", self.settings.timeout_s + LONGEST_WINDOW * seconds, seconds=seconds)
        except (WorkerError, GanportError) as error:
            limit.failure = str(error)
            return None
        limit.gflop_per_s.append(window["gflop_per_s"])
        if window["gb_per_s"] is not None:
            limit.gb_per_s.append(window["gb_per_s"])
        return float(window["gflop_per_s"])

    def _opened(self, result: Result, rows: Sequence[Row]) -> WorkerProcess:
        """The row's process with its model loaded: its own, or that of all rows that differ in batch alone."""
        row = result.row
        key = row.with_batch(0)
        batches = [row.batch]
        if self.settings.share_process:
            batches = [other.batch for other in rows if other.with_batch(0) == key]
            if key in self.shared:
                worker = self.shared[key]
                result.opened, result.shared = worker.opened, True
                return worker
        threads = row.threads if row.ours else row.threads or usable_cores()
        worker = self.stack.enter_context(WorkerProcess(self.command, {} if row.ours else variables(threads or 1)))
        path = row.model if row.model is not None else self.folder / PEERS[row.runtime].source
        result.opened = worker.ask(
            "open", self.settings.timeout_s, runtime=row.runtime, path=str(path), provider=row.provider,
            threads=threads, precision=row.precision, tf32=row.tf32, batches=batches,
        )  # fmt: skip
        result.saw_memory(worker.peak_rss_bytes, None)
        self.shared[key], worker.opened = worker, result.opened
        return worker


def _precision_of(row: Row, request: Request, models: list[Json]) -> str:
    assert row.model is not None
    return str(models[request.models.index(row.model)]["precision"])
