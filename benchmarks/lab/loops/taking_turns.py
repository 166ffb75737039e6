"""Trainings that take turns on one machine: started, stopped, let run for a window, asked for a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from gan_bench.shared.stats import spread
from gan_core.errors import JobError
from gan_serve.terminal import console

if TYPE_CHECKING:
    from gan_trainer.evaluation import Evaluator

Json = dict[str, Any]

WARM_UP_LINES = 3
"""Steps told of before the first window (of a GPU's every 20th): allocators and CUDA graphs are then in place."""
WINDOW_LINES = 3
"""A window goes on past its time until this many ends of steps were told of: two intervals."""
SILENCE_S = 600.0


class Loop:
    """One training in its own process group, from `start` on; a context manager that leaves no process behind.

    It stands still except inside `start`, `window` and `run_to`. `active_s` is how long it has trained, from its first
    step on, without the time it stood still or saved checkpoints.
    """

    def __init__(self, name: str, asked: Json, folder: str, command: Sequence[str] | None = None) -> None:
        self.name = name
        self.rates: list[float] = []
        self.marks: list[Json] = []
        self.active_s = 0.0
        self.ready: Json = {}
        request = json.dumps({"loop": name, **asked, "folder": folder})
        self._command = [*(command or (sys.executable, "-P", "-m", "lab.loops.worker")), request]
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._reader is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._stderr.close()

    def start(self) -> None:
        """Starts its process, and runs it until it is warm."""
        # A session of its own: its workers are in its process group, and stop and go on with it.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._going():
            self.ready = self._next("ready")
            began = time.monotonic()
            for _ in range(WARM_UP_LINES):
                self._next("at")
            self.active_s += time.monotonic() - began

    def window(self, seconds: float) -> float:
        """Runs it for `seconds`. Returns the images/s between the first and the last step that ended inside."""
        with self._going():
            began = time.monotonic()
            while not self._lines.empty():  # written while it was being stopped
                self._lines.get()
            ends = [self._next("at")]
            while ends[-1]["at"] - began < seconds or len(ends) < WINDOW_LINES:
                ends.append(self._next("at"))
            self.active_s += time.monotonic() - began
        rate: float = (ends[-1]["images"] - ends[0]["images"]) / (ends[-1]["at"] - ends[0]["at"])
        self.rates.append(rate)
        return rate

    def run_to(self, active_s: float) -> None:
        """Runs it until it has trained for `active_s` seconds, and keeps a checkpoint of that moment in `marks`."""
        with self._going():
            began = time.monotonic()
            while self.active_s + time.monotonic() - began < active_s:
                self._next("at")
            assert self._process is not None
            self.active_s += time.monotonic() - began
            os.kill(self._process.pid, signal.SIGUSR1)
            saved = self._next("saved")
        self.marks.append({"active_s": round(self.active_s, 2), "images": saved["images"], "path": saved["saved"]})

    def to_json(self) -> Json:
        speed = spread(self.rates)
        return {
            "images_per_s": round(speed.median, 1),
            "images_per_s_low": round(speed.low, 1),
            "images_per_s_high": round(speed.high, 1),
            "images_per_s_windows": [round(rate, 1) for rate in self.rates],
            "ready_s": round(self.ready["ready"], 2),
            "computes": self.ready.get("speed", "float32"),
        }

    @contextlib.contextmanager
    def _going(self) -> Any:
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _next(self, key: str) -> Json:
        """The next line that has `key`. Raises `JobError` when the process has ended or says nothing for long."""
        while True:
            try:
                text = self._lines.get(timeout=SILENCE_S)
            except queue.Empty:
                raise JobError(
                    f"the {self.name} loop has said nothing for {SILENCE_S:.0f} s",
                    hint="the machine is too busy or the loop hangs: run it alone",
                ) from None
            if not text:
                raise JobError(
                    f"the {self.name} loop ended: {self._last_words()}", hint="is there enough memory for all of them?"
                )
            line: Json = json.loads(text)
            if key in line:
                return line

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


def take_turns(loops: Sequence[Loop], windows: int, window_s: float, marks: Sequence[float] = ()) -> None:
    """Warms all up, takes `windows` windows of each in turn (to and fro), then runs all to `marks`."""
    with console.progress(len(loops) * (1 + windows + len(marks)), "measuring") as bar:
        for loop in loops:
            loop.start()
            bar.update(1)
        for number in range(windows):
            for loop in loops if number % 2 == 0 else reversed(loops):
                loop.window(window_s)
                bar.update(1)
        passed = [mark for mark in marks if any(loop.active_s > mark for loop in loops)]
        if passed:
            console.warn(f"the windows took longer than the mark at {passed[0]:g} s: it is measured late")
        for mark in marks:
            for loop in loops:
                loop.run_to(mark)
                bar.update(1)


def quality_at(loops: Sequence[Loop], evaluator: Evaluator) -> Json:
    """How far from the data each loop's generator was at its marks."""
    from gan_trainer.networks.checkpoint import load_generator

    made: Json = {"features": dataclasses.asdict(evaluator.info), "n": evaluator.n, "floor": evaluator.floor.distance}
    made["metric"] = "sliced Wasserstein distance" if evaluator.info.id == "swd" else "Fréchet distance"
    for loop in loops:
        made[loop.name.replace("-", "_")] = [
            {"active_s": mark["active_s"], "images": mark["images"],
             "distance": round(evaluator.distance(load_generator(mark["path"])), 4)}
            for mark in loop.marks
        ]  # fmt: skip
    return made
