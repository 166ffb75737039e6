"""The process of one row: `python -m gan_bench.measuring.worker`.

It takes JSON requests on stdin and writes one JSON answer a line to stdout.

    {"op": "unpack", "ckpt": path, "folder": path, "model": path | null, "stock": bool}
        → reads the checkpoint once, for all peers
    {"op": "open", "runtime", "path", "provider", "threads", "precision", "tf32", "batches"}
        → what the runtime says of itself and how long it took to get ready
    {"op": "reference", "path": file.npz}     draws the reference images one by one and saves them
    {"op": "prepare", "batch": n, "task": "pixels" | "png", "reference": file.npz}
        → the first run's time, and parity over all batches that will be timed
    {"op": "window", "batch": n, "seconds": s, "min_calls": n}
        → every call's latency, and parity of the last batch timed
    {"op": "machine", …}, {"op": "limits", "seconds": s}     the machine's own product and copy, see `limits.machine`

The end of stdin ends the worker. An answer is {"ok": {…}}, {"refused": {"message", "hint"}} for wrong input, or
{"failed": reason}. A worker knows one runtime and nothing of the schedule; it imports what a user of that runtime
imports and nothing more, so that its memory is theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

import gan_serve
from gan_bench.measuring import TRUST_SCRIPT
from gan_bench.measuring.tasks import Pixels, PngFolder, Task
from gan_bench.peers import PEERS
from gan_bench.records import parity
from gan_bench.shared.memory import peak_rss_bytes
from gan_bench.shared.orphans import die_with_parent
from gan_core.errors import GanportError
from gan_serve.runtime.generator import Generator

if TYPE_CHECKING:
    from gan_bench.limits.machine import Machine

Json = dict[str, Any]

WARM_UP_S = 0.05
"""Untimed calls before each window: caches fill, clocks rise, and the previous row's threads stop spinning."""
LONGEST_WINDOW = 4
"""A window that waits for `min_calls` ends after this many times `seconds` all the same."""


class Worker:
    """One generator, and the tasks it is timed on."""

    generator: Generator
    tasks: dict[int, Task]
    limits_of: Machine

    def unpack(self, ckpt: str, folder: str, model: str | None, stock: bool) -> Json:
        """Writes what the peers open; see `peers.checkpoint.unpack`."""
        from gan_bench.peers.checkpoint import unpack

        contract = None
        if model is not None:
            generator = self._load(model, "cpu", None, False)
            contract = generator.contract if getattr(generator, "ours", True) else None
        return unpack(Path(ckpt), Path(folder), contract, stock=stock)

    def open(
        self, runtime: str, path: str, provider: str, threads: int | None, precision: str | None = None,
        tf32: bool = False, batches: Sequence[int] = (),
    ) -> Json:  # fmt: skip
        """Loads the model. Imports are timed apart from the session: a process pays them once, whatever it loads."""
        package = self._package(runtime, path)
        started = time.perf_counter()
        with contextlib.suppress(ImportError):  # loading says which extra brings it
            importlib.import_module(package)
        imported = time.perf_counter()
        self.tasks = {}
        if runtime in PEERS:
            assert threads is not None
            self.generator = PEERS[runtime].open(
                Path(path), provider, precision or "fp32", threads, tuple(batches), tf32
            )
        else:
            self.generator = self._load(path, provider, threads, tf32)
        opened = time.perf_counter()
        contract = self.generator.contract
        return {
            "provider": self.generator.provider,
            "threads": self._threads(package, threads),
            "import_ms": (imported - started) * 1e3,
            "session_create_ms": (opened - imported) * 1e3,
            "cpu_nodes": self._cpu_nodes(),
            "details": getattr(self.generator, "details", {}),
            "runtime": {"name": package, "version": _version(package)},
            "model": {
                "sha256": self.generator.sha256,
                "name": contract.name,
                "precision": contract.precision,
                "weights": contract.weights,
                "z_dim": contract.z_dim,
                "n_classes": contract.n_classes,
                "image": list(contract.image),
                "value_range": list(contract.value_range),
                "passes": list(contract.passes),
                "spec": contract.spec,
                "checkpoint_sha256": contract.source.get("sha256"),
            },
        }

    def draw_reference(self, path: str) -> Json:
        """Draws the reference seeds, each in a batch of its own, to a .npz file: `pixels` uint8 (seeds, H, W, C) and
        `image` float32 (seeds, C, H, W)."""
        drawn = [
            self.generator.run(*feed)
            for seed in range(parity.REFERENCE_SEEDS)
            for feed in [Pixels.feed(self.generator, np.array([seed], np.int64))]
        ]
        image, pixels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        np.savez(path, image=image, pixels=pixels)
        return {}

    def prepare(self, batch: int, reference: str, task: str = "pixels") -> Json:
        """Makes the batches, times the first run of this process, and compares every image of every batch."""
        with np.load(reference, allow_pickle=False) as arrays:
            image, pixels = arrays["image"], arrays["pixels"]
        made: Task
        if task == "png":
            made = PngFolder(self.generator, batch, pixels, Path(reference).with_name(f"png-{os.getpid()}"))
        else:
            made = Pixels(self.generator, batch, image, pixels)
        self.tasks[batch] = made
        started = time.perf_counter()
        made.call(0)
        first_run_ms = (time.perf_counter() - started) * 1e3
        return {"first_run_ms": first_run_ms, "parity": vars(made.check_all())} | self._device_memory()

    def window(self, batch: int, seconds: float, min_calls: int) -> Json:
        """Calls back to back for `seconds` and at least `min_calls` (or 4 × `seconds`), each call timed."""
        task = self.tasks[batch]
        call, clock = task.call, time.perf_counter_ns
        warm_until = clock() + int(WARM_UP_S * 1e9)
        while True:
            call(0)
            if clock() >= warm_until:
                break
        latencies_ns: list[int] = []
        begin = now = clock()
        enough, latest = begin + int(seconds * 1e9), begin + int(LONGEST_WINDOW * seconds * 1e9)
        while now < enough or (len(latencies_ns) < min_calls and now < latest):
            result = call(len(latencies_ns))
            before, now = now, clock()
            latencies_ns.append(now - before)
        return {
            "elapsed_s": (now - begin) / 1e9,
            "latencies_ns": latencies_ns,
            "parity": vars(task.check(result, len(latencies_ns) - 1)),
        } | self._device_memory()

    def machine(self, device: str, precision: str, threads: int, copy_bytes: int, use_torch: bool) -> Json:
        """Chooses the machine's fastest product."""
        from gan_bench.limits.machine import Machine

        self.limits_of = Machine(device, precision, threads, copy_bytes, use_torch)
        made = self.limits_of
        return {"product_by": made.library, "product_size": made.size, "copy_bytes": made.copy_bytes}

    def limits(self, seconds: float) -> Json:
        """One window of the machine's product and copy."""
        gflop_per_s, gb_per_s = self.limits_of.window(seconds)
        return {"gflop_per_s": gflop_per_s, "gb_per_s": gb_per_s}

    def _load(self, path: str, provider: str, threads: int | None, tf32: bool) -> Generator:
        """As `gan_serve.load` does it; with TF32 where the row asks for it."""
        if tf32:
            from gan_serve.runtime.onnx_generator import OnnxGenerator

            return OnnxGenerator(path, provider, threads, tf32=True)
        trust = bool(os.environ.get(TRUST_SCRIPT)) and path.lower().endswith(".ts")
        return gan_serve.load(path, provider, threads, trust_script=trust)

    def _package(self, runtime: str, path: str) -> str:
        if runtime in PEERS:
            return PEERS[runtime].package
        return "torch" if path.lower().endswith(".ts") else "onnxruntime"

    def _cpu_nodes(self) -> int | None:
        """How many nodes fell to the CPU; None where the runtime does not say."""
        count = getattr(self.generator, "cpu_nodes", None)
        if count is None:
            return None
        found = count() if callable(count) else count
        return found if isinstance(found, int) else len(found)

    def _device_memory(self) -> Json:
        peak = getattr(self.generator, "peak_device_bytes", None)
        return {"peak_device_bytes": peak() if peak is not None else None}

    def _threads(self, package: str, asked: int | None) -> int | None:
        """How many threads the runtime uses, where it says; else what was asked for."""
        if package == "torch" and package in sys.modules:
            return int(sys.modules[package].get_num_threads())
        return getattr(self.generator, "threads", asked)


def _version(package: str) -> str:
    """The version without OpenVINO's build number."""
    return str(getattr(sys.modules.get(package), "__version__", "unknown")).split("-")[0]


def answer(worker: Worker, request: Json) -> Json:
    """Carries out one request; whatever goes wrong becomes an answer too."""
    operations: dict[str, Callable[..., Json]] = {
        "unpack": worker.unpack,
        "open": worker.open,
        "reference": worker.draw_reference,
        "prepare": worker.prepare,
        "window": worker.window,
        "machine": worker.machine,
        "limits": worker.limits,
    }
    arguments = dict(request)
    try:
        result = operations[arguments.pop("op")](**arguments)
        return {"ok": result | {"peak_rss_bytes": peak_rss_bytes()}}
    except GanportError as error:
        return {"refused" if error.exit_code == 2 else "failed": {"message": str(error), "hint": error.hint}}
    except Exception as error:
        return {"failed": {"message": " ".join(f"{type(error).__name__}: {error}".split()), "hint": ""}}


def main() -> None:
    """Answers requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends its workers
    die_with_parent()
    answers = private_stdout()
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=answers, flush=True)
    os._exit(0)  # without waiting for the runtime's own threads and teardown


def private_stdout() -> TextIO:
    """The real stdout for answers alone; what native libraries print to descriptor 1 goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
