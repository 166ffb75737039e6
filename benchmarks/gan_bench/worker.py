"""The process of one row: `python -m gan_bench.worker`.

It takes questions (`gan_bench.questions`) on stdin, a line each, and writes one answer a line to stdout. The end of
stdin ends it. A worker knows one runtime and nothing of the schedule; it imports what a user of that runtime imports
and nothing more, so that its memory is theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gan_serve
from gan_bench import parity, questions
from gan_bench.peers import PEERS
from gan_bench.questions import (
    ChooseProduct,
    DrawReference,
    Failed,
    Library,
    Model,
    Open,
    Opened,
    Prepare,
    Prepared,
    Product,
    Rates,
    Refused,
    TakeRates,
    TakeWindow,
    Unpack,
    Unpacked,
    Window,
)
from gan_bench.tasks import Machine, Pixels, PngFolder, Task
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files import metadata
from gan_core.said import UNSAID, OnnxAnswers
from gan_serve.runtime.generator import Generator

WARM_UP_S = 0.05
"""Untimed calls before each window: caches fill, clocks rise, and the previous row's threads stop spinning."""
LONGEST_WINDOW = 4
"""A window that waits for `min_calls` ends after this many times `seconds` all the same."""
STATUS = Path("/proc/self/status")


class Worker:
    """One generator, and the tasks it is timed on: a method for each question."""

    generator: Generator
    tasks: dict[int, Task]
    limits_of: Machine

    def unpack(self, asked: Unpack) -> Unpacked:
        from gan_bench.peers.checkpoint import unpack

        contract = None
        if asked.model is not None:
            trust, answers = asked.trust_script, asked.answers
            generator = self._load(Open("ganport", asked.model, "cpu", None, trust_script=trust, answers=answers))
            contract = generator.contract if getattr(generator, "ours", True) else None
        return unpack(asked.ckpt, asked.folder, contract, stock=asked.stock)

    def open(self, asked: Open) -> Opened:
        """Imports are timed apart from the session: a process pays them once, whatever it loads."""
        package = _package(asked)
        started = time.perf_counter()
        with contextlib.suppress(ImportError):  # loading says which extra brings it
            importlib.import_module(package)
        imported = time.perf_counter()
        self.tasks = {}
        if asked.runtime in PEERS:
            self.generator = PEERS[asked.runtime].open(asked)
        else:
            self.generator = self._load(asked)
        opened = time.perf_counter()
        contract, ours = self.generator.contract, bool(getattr(self.generator, "ours", True))
        return Opened(
            provider=self.generator.provider,
            threads=self._threads(package, asked.threads),
            import_ms=(imported - started) * 1e3,
            session_create_ms=(opened - imported) * 1e3,
            cpu_nodes=self._cpu_nodes(),
            details=getattr(self.generator, "details", {}),
            runtime=Library(package, _version(package)),
            model=Model(
                sha256=self.generator.sha256,
                name=contract.name,
                precision=contract.precision,
                weights=contract.weights,
                z_dim=contract.interface.z_dim,
                n_classes=contract.interface.n_classes,
                image=contract.interface.image,
                value_range=contract.interface.value_range,
                passes=tuple(contract.passes),
                spec=contract.spec,
                checkpoint_sha256=contract.source.get("sha256"),
                ours=ours,
                assumptions=() if ours else tuple(contract.assumptions),
            ),
            peak=peak_rss_bytes(),
        )

    def draw_reference(self, asked: DrawReference) -> None:
        """The file holds `pixels` uint8 (seeds, H, W, C) and `image` float32 (seeds, C, H, W)."""
        drawn = [
            self.generator.run(*feed)
            for seed in range(parity.REFERENCE_SEEDS)
            for feed in [Pixels.feed(self.generator, np.array([seed], np.int64))]
        ]
        image, pixels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        np.savez(asked.file, image=image, pixels=pixels)

    def prepare(self, asked: Prepare) -> Prepared:
        with np.load(asked.reference, allow_pickle=False) as arrays:
            image, pixels = arrays["image"], arrays["pixels"]
        made: Task
        if asked.task == "png":
            made = PngFolder(self.generator, asked.batch, pixels, asked.reference.with_name(f"png-{os.getpid()}"))
        else:
            made = Pixels(self.generator, asked.batch, image, pixels)
        self.tasks[asked.batch] = made
        started = time.perf_counter()
        made.call(0)
        first_run_ms = (time.perf_counter() - started) * 1e3
        return Prepared(first_run_ms, made.check_all(), peak_rss_bytes())

    def take_window(self, asked: TakeWindow) -> Window:
        """Ends after 4 × `seconds` even where `min_calls` are not reached."""
        task = self.tasks[asked.batch]
        call, clock = task.call, time.perf_counter_ns
        warm_until = clock() + int(WARM_UP_S * 1e9)
        while True:
            call(0)
            if clock() >= warm_until:
                break
        min_calls = asked.min_calls
        latencies_ns: list[int] = []
        begin = now = clock()
        enough, latest = begin + int(asked.seconds * 1e9), begin + int(LONGEST_WINDOW * asked.seconds * 1e9)
        while now < enough or (len(latencies_ns) < min_calls and now < latest):
            result = call(len(latencies_ns))
            before, now = now, clock()
            latencies_ns.append(now - before)
        seen = task.check(result, len(latencies_ns) - 1)
        return Window((now - begin) / 1e9, tuple(latencies_ns), seen, peak_rss_bytes())

    def choose_product(self, asked: ChooseProduct) -> Product:
        made = self.limits_of = Machine(asked.device, asked.precision, asked.threads, asked.copy_bytes, asked.use_torch)
        return Product(made.library, made.size, made.copy_bytes)

    def take_rates(self, asked: TakeRates) -> Rates:
        return Rates(*self.limits_of.window(asked.seconds))

    def _load(self, asked: Open) -> Generator:
        """As `gan_serve.load` does it; with TF32 where the row asks for it."""
        path = str(asked.path)
        if asked.tf32:
            from gan_serve.runtime.onnx_generator import OnnxGenerator

            return OnnxGenerator(path, asked.provider, asked.threads, tf32=True, answers=self._answers(asked))
        trust = asked.trust_script and path.lower().endswith(".ts")
        try:
            return gan_serve.load(path, asked.provider, asked.threads, trust_script=trust, answers=self._answers(asked))
        except GanportError as error:
            if error.code == UNSAID:
                error.hint += f"; or gan-export adopt {path} makes a copy that says it"
            raise

    def _answers(self, asked: Open) -> OnnxAnswers:
        """Those of a file of another exporter: beside it may stand files that say all of it themselves."""
        path = str(asked.path)
        if asked.answers is None or not path.lower().endswith(".onnx"):
            return OnnxAnswers()
        ours = Contract.from_metadata(metadata.read_onnx_text(path, path).metadata, where=path) is not None
        return OnnxAnswers() if ours else asked.answers

    def _cpu_nodes(self) -> int | None:
        """How many nodes fell to the CPU; None where the runtime does not say."""
        count = getattr(self.generator, "cpu_nodes", None)
        if count is None:
            return None
        found = count() if callable(count) else count
        return found if isinstance(found, int) else len(found)

    def _threads(self, package: str, asked: int | None) -> int | None:
        """How many threads the runtime uses, where it says; else what was asked for."""
        if package == "torch" and package in sys.modules:
            return int(sys.modules[package].get_num_threads())
        return getattr(self.generator, "threads", asked)


def _package(asked: Open) -> str:
    if asked.runtime in PEERS:
        return PEERS[asked.runtime].package
    return "torch" if asked.path.suffix.lower() == ".ts" else "onnxruntime"


def _version(package: str) -> str:
    """The version without OpenVINO's build number."""
    return str(getattr(sys.modules.get(package), "__version__", "unknown")).split("-")[0]


def answer(worker: Worker, line: str) -> str:
    """Does what one question asks for; whatever goes wrong becomes an answer too."""
    methods: dict[type[Any], Callable[[Any], Any]] = {
        Unpack: worker.unpack,
        Open: worker.open,
        DrawReference: worker.draw_reference,
        Prepare: worker.prepare,
        TakeWindow: worker.take_window,
        ChooseProduct: worker.choose_product,
        TakeRates: worker.take_rates,
    }
    try:
        asked: Any = questions.read(line, *methods)
        return questions.write(methods[type(asked)](asked))
    except GanportError as error:
        wrong = Refused(str(error), error.hint) if error.exit_code == 2 else Failed(str(error))
        return questions.write(wrong)
    except Exception as error:
        return questions.write(Failed(" ".join(f"{type(error).__name__}: {error}".split())))


def peak_rss_bytes() -> int | None:
    """The most resident memory this process has held, in bytes; None where the system does not say.

    On Linux VmHWM, which starts anew with the program; getrusage's ru_maxrss keeps what the parent held before exec.
    """
    try:
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return maxrss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def maxrss_bytes(ru_maxrss: int) -> int:
    """getrusage's ru_maxrss in bytes: macOS counts bytes, the other systems KiB."""
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024


def main() -> None:
    """Answers questions until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends its workers
    questions.die_with_parent()
    answers = questions.private_stdout()
    worker = Worker()
    for line in sys.stdin:
        answers.write(answer(worker, line))
        answers.flush()
    os._exit(0)  # without waiting for the runtime's own threads and teardown


if __name__ == "__main__":
    main()
