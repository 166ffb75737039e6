"""The process of one row: `python -m gan_bench.worker`, JSON requests on stdin, one JSON answer a line on stdout.

    {"op": "open", "model": path, "provider": name, "threads": n | null}
        → what the runtime says of itself and how long it took to get ready
    {"op": "reference", "path": file.npy}     draws the reference images one by one and saves them
    {"op": "prepare", "batch": n, "reference": file.npy}
        → the first run's time, and parity over all batches that will be timed
    {"op": "window", "seconds": s, "min_calls": n}
        → every call's latency, and parity of the last batch timed

The end of stdin ends the worker. An answer is {"ok": {…}}, {"refused": {"message", "hint"}} for wrong input, or
{"failed": reason}. A worker knows one row and nothing of the schedule; it imports what a user of `gan_serve` imports
and nothing more, so that its memory is theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

import gan_serve
from gan_bench import parity
from gan_bench.memory import peak_rss_bytes
from gan_serve.errors import GanportError
from gan_serve.generator import F32, I64, U8, Generator
from gan_serve.latents import latents

Json = dict[str, Any]

WARM_UP_S = 0.05
"""Untimed calls before each window: caches fill, clocks rise, and the previous row's threads stop spinning."""
LONGEST_WINDOW = 4
"""A window that waits for `min_calls` ends after this many times `seconds` all the same."""


class Worker:
    """One generator, and the batches it is timed on."""

    generator: Generator
    reference: U8
    seeds: list[I64]
    feeds: list[tuple[F32, I64 | None]]

    def open(self, model: str, provider: str, threads: int | None) -> Json:
        """Loads the model. Imports are timed apart from the session: a process pays them once, whatever it loads."""
        runtime = "torch" if model.lower().endswith(".ts") else "onnxruntime"
        started = time.perf_counter()
        with contextlib.suppress(ImportError):  # loading says which extra brings it
            importlib.import_module(runtime)
        imported = time.perf_counter()
        self.generator = gan_serve.load(model, provider, threads)
        opened = time.perf_counter()
        contract = self.generator.contract
        return {
            "provider": self.generator.provider,
            "threads": self._threads(runtime, threads),
            "import_ms": (imported - started) * 1e3,
            "session_create_ms": (opened - imported) * 1e3,
            "runtime": {"name": runtime, "version": getattr(sys.modules.get(runtime), "__version__", "unknown")},
            "model": {
                "sha256": self.generator.sha256,
                "name": contract.name,
                "precision": contract.precision,
                "weights": contract.weights,
                "z_dim": contract.z_dim,
                "n_classes": contract.n_classes,
                "image": list(contract.image),
                "passes": list(contract.passes),
            },
        }

    def draw_reference(self, path: str) -> Json:
        """Draws the reference seeds, each in a batch of its own, to a .npy file of uint8 (seeds, H, W, C)."""
        feeds = [self._feed(np.array([seed], np.int64)) for seed in range(parity.REFERENCE_SEEDS)]
        pixels = np.concatenate([self.generator.run_pixels(z, label) for z, label in feeds])
        np.save(path, pixels, allow_pickle=False)
        return {}

    def prepare(self, batch: int, reference: str) -> Json:
        """Makes the batches, times the first run of this process, and compares every image of every batch."""
        self.reference = np.load(reference, allow_pickle=False)
        self.seeds = parity.seed_batches(batch)
        self.feeds = [self._feed(seeds) for seeds in self.seeds]
        started = time.perf_counter()
        self.generator.run_pixels(*self.feeds[0])
        first_run_ms = (time.perf_counter() - started) * 1e3
        total = parity.Parity()
        for feed, seeds in zip(self.feeds, self.seeds, strict=True):
            total += parity.compare(self.generator.run_pixels(*feed), seeds, self.reference)
        return {"first_run_ms": first_run_ms, "parity": vars(total)}

    def window(self, seconds: float, min_calls: int) -> Json:
        """Calls back to back for `seconds` and at least `min_calls` (or 4 × `seconds`), each call timed."""
        run, clock, feeds = self.generator.run_pixels, time.perf_counter_ns, self.feeds
        warm_until = clock() + int(WARM_UP_S * 1e9)
        while True:
            run(*feeds[0])
            if clock() >= warm_until:
                break
        latencies_ns: list[int] = []
        begin = now = clock()
        enough, latest = begin + int(seconds * 1e9), begin + int(LONGEST_WINDOW * seconds * 1e9)
        while now < enough or (len(latencies_ns) < min_calls and now < latest):
            pixels = run(*feeds[len(latencies_ns) % len(feeds)])
            before, now = now, clock()
            latencies_ns.append(now - before)
        last = self.seeds[(len(latencies_ns) - 1) % len(feeds)]
        return {
            "elapsed_s": (now - begin) / 1e9,
            "latencies_ns": latencies_ns,
            "parity": vars(parity.compare(pixels, last, self.reference)),
        }

    def _threads(self, runtime: str, asked: int | None) -> int | None:
        """How many threads the runtime uses, where it says; else what was asked for."""
        if runtime == "torch" and runtime in sys.modules:
            return int(sys.modules[runtime].get_num_threads())
        return getattr(self.generator, "threads", asked)

    def _feed(self, seeds: I64) -> tuple[F32, I64 | None]:
        contract = self.generator.contract
        return latents(seeds, contract.z_dim, contract.latent), self.generator.check_labels(None, seeds)


def answer(worker: Worker, request: Json) -> Json:
    """Carries out one request; whatever goes wrong becomes an answer too."""
    operations: dict[str, Callable[..., Json]] = {
        "open": worker.open,
        "reference": worker.draw_reference,
        "prepare": worker.prepare,
        "window": worker.window,
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


def die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even by SIGKILL (prctl PR_SET_PDEATHSIG).

    Elsewhere the end of stdin does it, after the request in progress.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
