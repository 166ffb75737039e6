"""A benchmark from start to end: reference, one process per row, interleaved windows, results."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_bench.environment import gpu_memory_used
from gan_bench.limits import Limit, Work, kind_of, kinds_of, work_of
from gan_bench.parity import Difference
from gan_bench.peers import PEERS
from gan_bench.process import COMMAND, WorkerError, WorkerProcess, variables
from gan_bench.questions import (
    Checkpoint,
    ChooseProduct,
    DrawReference,
    Model,
    Open,
    Opened,
    Prepare,
    TakeRates,
    TakeWindow,
    Unpack,
    Unpacked,
)
from gan_bench.record import Measured, Reference, Result, Settings
from gan_bench.rows import Row, Selection
from gan_bench.windows import Track, interleave, rounded
from gan_bench.worker import LONGEST_WINDOW
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.process import usable_cores
from gan_core.said import check_unsaid

Subject = tuple[WorkerProcess, Result | Limit]

ALIKE = ("image", "z_dim", "n_classes", "value_range")
"""What files and checkpoint must say alike: what is measured together is the same generator."""
LIMIT_SHARE = 0.5
"""A window of the machine's limits is this part of a row's."""


class Stages:
    """Called by `measure`; this one keeps silent."""

    def notes(self, sentences: Sequence[str]) -> None:
        """What was assumed of the checkpoint, and of files of other exporters."""

    def accepted(self, planned: Json) -> None:
        """Every file is accepted; `planned` is the record without numbers. Raising here ends the benchmark before a
        row is started.
        """

    def begin(self, label: str, steps: int) -> None:
        """A stage of so many steps begins: "starting", then "measuring"."""

    def step(self) -> None:
        """One step of the stage is done."""


def measure(
    chosen: Selection, settings: Settings, *, command: Sequence[str] = COMMAND, stages: Stages | None = None
) -> Measured:
    """Measures every row of `chosen`; the results are in the order of its rows.

    A row whose process fails, dies or hangs is marked failed, one whose pixels are wrong is marked wrong; the others
    go on. Raises `GanportError` for a model, checkpoint or provider that is refused (before anything is measured),
    `JobError` when the reference cannot be drawn. No process outlives the call.
    """
    stages = stages or Stages()
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as name, ExitStack() as workers:
        bench = _Bench(chosen, settings, command, Path(name), workers)
        models = bench.describe_models()
        unpacked = bench.unpack()
        if chosen.answers is not None and all(opened.model.ours for opened in models):
            check_unsaid(chosen.answers, ", ".join(map(str, chosen.models)))
        assumed = [
            f"{path.name} has no gan.* metadata; assumed: {'; '.join(opened.model.assumptions)}"
            for path, opened in zip(chosen.models, models, strict=True)
            if opened.model.assumptions
        ]
        stages.notes([*assumed, *(unpacked.notes if unpacked else ())])
        generator = about_generator(chosen, models, unpacked.checkpoint if unpacked else None)
        precisions = [opened.model.precision for opened in models]
        rows = chosen.rows("cuda" if unpacked and unpacked.cuda else "cpu", precisions)
        reference = bench.draw_reference(precisions)
        work = work_of(generator["spec"], chosen.models[0] if models else None, generator["z_dim"], generator["image"])
        files = [_model_json(path, opened) for path, opened in zip(chosen.models, models, strict=True)]
        of_file = dict(zip(chosen.models, precisions, strict=True))
        results = [Result(row, row.precision or of_file[row.model or Path()]) for row in rows]
        stages.accepted(Measured(generator, files, reference, results, [], work).to_json({}, settings))
        stages.begin("starting", len(rows))
        tracks: list[Track[Subject]] = []
        for result in results:
            worker = bench.prepared(result, rows)
            if worker is not None:
                tracks.append(Track((worker, result)))
            stages.step()
        limits = bench.limits([track.subject[1] for track in tracks], work) if settings.roofline else []
        tracks += [Track((worker, limit)) for worker, limit in limits if not limit.failure]

        stages.begin("measuring", len(tracks) * settings.max_rounds)
        interleave(tracks, bench.window, settings.max_rounds, stages.step)
        for track in tracks:
            if isinstance(track.subject[1], Result):
                track.subject[1].stable = track.stable
    return Measured(generator, files, reference, results, [limit for _, limit in limits], work)


def about_generator(chosen: Selection, models: Sequence[Opened], checkpoint: Checkpoint | None) -> Json:
    """What all rows draw: name, latent and image, the spec (or None), and the checkpoint (or None).

    Raises `GanportError` when two of the files, or a file and the checkpoint, are not of the same generator.
    """
    named: list[tuple[str, Model | Checkpoint]] = [
        (str(path), opened.model) for path, opened in zip(chosen.models, models, strict=True)
    ]
    if checkpoint is not None:
        named.append((str(chosen.ckpt), checkpoint))
    (first_name, first), *others = named
    for name, about in others:
        for key in ALIKE:
            one, other = getattr(about, key, None), getattr(first, key, None)
            # Another exporter's file may scale its output otherwise: what is compared are pixels.
            scaled = key == "value_range" and not (getattr(about, "ours", True) and getattr(first, "ours", True))
            if None not in (one, other) and one != other and not scaled:
                raise GanportError(
                    f"{name} has {key} {_plain(one)}, {first_name} has {_plain(other)}: they are different generators",
                    hint="one benchmark compares ways to generate the same images; run gan-bench for each",
                )
    return {
        "name": first.name,
        "z_dim": first.z_dim,
        "n_classes": first.n_classes,
        "image": list(first.image),
        "spec": next((about.spec for _, about in named if about.spec is not None), None),
        "checkpoint": checkpoint and {key: getattr(checkpoint, key) for key in ("file", "sha256", "size_bytes")},
        "checkpoint_sha256": checkpoint.sha256 if checkpoint else models[0].model.checkpoint_sha256,
    }


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _model_json(path: Path, opened: Opened) -> Json:
    about = {name: _plain(value) for name, value in vars(opened.model).items()}
    return {"file": path.name, "size_bytes": path.stat().st_size} | about | {"runtime": vars(opened.runtime)}


class _Bench:
    """The processes of one benchmark, ended with `workers`."""

    def __init__(
        self, chosen: Selection, settings: Settings, command: Sequence[str], folder: Path, workers: ExitStack
    ) -> None:
        self.chosen, self.settings, self.command, self.folder = chosen, settings, command, folder
        self.stack = workers
        self.shared: dict[Row, WorkerProcess] = {}
        self.on_device: dict[WorkerProcess, int] = {}
        self.reference: Reference

    def describe_models(self) -> list[Opened]:
        """What each file says of itself, opened on the CPU provider in a process of its own.

        It also brings the packages and the files into the disk cache: the first row starts no colder than the others.
        Raises `GanportError` for a file that is no generator, `JobError` for one that does not open.
        """
        described = []
        for path in self.chosen.models:
            with WorkerProcess(self.command) as worker:
                try:
                    described.append(worker.ask(self._open_file(path), self.settings.timeout_s))
                except WorkerError as error:
                    raise JobError(
                        f"{path} does not run on the CPU provider: {error}",
                        hint="gan-gen --model FILE --provider cpu shows whether the file itself is at fault",
                    ) from None
        return described

    def unpack(self) -> Unpacked | None:
        """The checkpoint as the peers open it, in a process of its own; None without one."""
        chosen = self.chosen
        if chosen.ckpt is None:
            return None
        model = chosen.models[0] if chosen.models else None
        stock = any(PEERS[peer].source == "stock.onnx" for peer in chosen.peers)
        question = Unpack(chosen.ckpt, self.folder, model, stock, chosen.trust_script, chosen.answers)
        with WorkerProcess(self.command) as worker:
            try:
                return worker.ask(question, self.settings.timeout_s)
            except WorkerError as error:
                raise JobError(
                    f"{chosen.ckpt} cannot be made ready for the other runtimes: {error}",
                    hint="leave out `ckpt` to measure `model` alone, or name fewer `peers`",
                ) from None

    def draw_reference(self, precisions: Sequence[str]) -> Reference:
        """Draws the reference images in a process of its own: PyTorch's where there is a checkpoint, else the first
        fp32 file's (the first file's, where none is fp32) on the CPU provider.
        """
        file, cores = self.folder / "reference.npz", usable_cores()
        if (ckpt := self.chosen.ckpt) is not None:
            what, question = ckpt, Open("eager", self.folder / "g.pt", "cpu", cores)
            self.reference = Reference("eager", ckpt.name, "cpu", "PyTorch", file)
        else:
            what = self.chosen.models[precisions.index("fp32") if "fp32" in precisions else 0]
            question = self._open_file(what, cores)
            self.reference = Reference("ganport", what.name, "cpu", "the CPU provider", file)
        with WorkerProcess(self.command) as worker:
            try:
                worker.ask(question, self.settings.timeout_s)
                worker.ask(DrawReference(file), self.settings.timeout_s)
            except WorkerError as error:
                raise JobError(
                    f"{what} does not run on the CPU provider, which is the reference for the pixels: {error}",
                    hint=f"gan-gen --model {what} --selftest looks closer"
                    if ckpt is None
                    else f"gan-export {ckpt} says more",
                ) from None
        return self.reference

    def prepared(self, result: Result, rows: Sequence[Row]) -> WorkerProcess | None:
        """A process with the row's model loaded and its pixels checked; None when the row is not to be timed.

        Raises `GanportError` when the runtime refuses the provider of a ganport row.
        """
        row = result.row
        used = gpu_memory_used() if row.provider != "cpu" else None
        try:
            worker = self._opened(result, rows)
            prepared = worker.ask(Prepare(row.batch, row.task, self.reference.file), self.settings.timeout_s)
        except WorkerError as error:
            result.failure = str(error)
            return None
        except GanportError as error:
            if row.ours and not result.opened:
                raise
            result.failure = str(error)
            return None
        result.first_run_ms = prepared.first_run_ms
        result.saw_memory(prepared.peak)
        if used is not None and result.opened is not None and result.opened.provider != "cpu":
            result.peak_device_bytes = self._device_bytes(worker, used)
        return worker if self._right(result, worker, prepared.difference) else None

    def _device_bytes(self, worker: WorkerProcess, used: int) -> int | None:
        """What is used on the GPU beyond `used` bytes since the row was begun; in a process of several rows, and what
        those before it took. The rows' processes are started one by one, and nothing else is timed meanwhile.
        """
        now = gpu_memory_used()
        if now is None:
            return None
        taken = self.on_device[worker] = self.on_device.get(worker, 0) + max(now - used, 0)
        return taken

    def window(self, subject: Subject, number: int) -> float | None:
        """One window of one row, its images/s, or of a limit, its GFLOP/s; None when it is to be dropped."""
        worker, what = subject
        seconds = self.settings.window_s
        if isinstance(what, Limit):
            return self._limit_window(worker, what, LIMIT_SHARE * seconds)
        min_calls = self.settings.min_calls_per_window if what.row.task == "pixels" else 1
        try:
            window = worker.ask(TakeWindow(what.row.batch, seconds, min_calls), self._longest(seconds))
        except (WorkerError, GanportError) as error:
            what.failure = str(error)
            return None
        what.saw_memory(window.peak)
        if not self._right(what, worker, window.difference):
            return None
        calls = len(window.latencies_ns)
        rate = calls * what.row.batch / window.elapsed_s
        what.latencies_ns += window.latencies_ns
        what.windows.append({"round": number, "calls": calls, "images_per_s": rounded(rate)})
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
            question = ChooseProduct(kind.device, kind.precision, threads, copy_bytes, use_torch)
            try:
                limit.product = worker.ask(question, self.settings.timeout_s)
            except (WorkerError, GanportError) as error:
                limit.failure = str(error)
            made.append((worker, limit))
        return made

    def _limit_window(self, worker: WorkerProcess, limit: Limit, seconds: float) -> float | None:
        try:
            rates = worker.ask(TakeRates(seconds), self._longest(seconds))
        except (WorkerError, GanportError) as error:
            limit.failure = str(error)
            return None
        limit.gflop_per_s.append(rates.gflop_per_s)
        if rates.gb_per_s is not None:
            limit.gb_per_s.append(rates.gb_per_s)
        return rates.gflop_per_s

    def _longest(self, seconds: float) -> float:
        return self.settings.timeout_s + LONGEST_WINDOW * seconds

    def _right(self, result: Result, worker: WorkerProcess, seen: Difference) -> bool:
        """Whether the pixels are right; else the row's process is ended, unless it is others' too."""
        right = result.saw(seen, self.reference.name)
        if not right and not self.settings.share_process:
            worker.close()
        return right

    def _open_file(self, path: Path, threads: int | None = None) -> Open:
        """An exported file on the CPU provider."""
        return Open("ganport", path, "cpu", threads, trust_script=self.chosen.trust_script, answers=self.chosen.answers)

    def _opened(self, result: Result, rows: Sequence[Row]) -> WorkerProcess:
        """The row's process with its model loaded: its own, or that of all rows that differ in batch alone."""
        row = result.row
        key = replace(row, batch=0)
        batches = [row.batch]
        if self.settings.share_process:
            batches = [other.batch for other in rows if replace(other, batch=0) == key]
            if key in self.shared:
                worker = self.shared[key]
                result.opened, result.shared = worker.opened, True
                return worker
        threads = row.threads if row.ours else row.threads or usable_cores()
        worker = self.stack.enter_context(WorkerProcess(self.command, {} if row.ours else variables(threads or 1)))
        path = row.model if row.model is not None else self.folder / PEERS[row.runtime].source
        question = Open(
            row.runtime, path, row.provider, threads, row.precision, row.tf32, tuple(batches),
            self.chosen.trust_script, self.chosen.answers if row.ours else None,
        )  # fmt: skip
        result.opened = worker.opened = worker.ask(question, self.settings.timeout_s)
        result.saw_memory(result.opened.peak)
        self.shared[key] = worker
        return worker
