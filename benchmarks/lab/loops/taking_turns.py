"""Trainings that take turns on one machine: started, stopped, let run for a window, asked for a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gan_bench import questions
from gan_bench.process import Process, WorkerError
from gan_bench.windows import spread
from gan_core.errors import JobError
from gan_core.fields import Json
from gan_serve.terminal import console
from lab.loops.messages import At, Ready, Saved, Train

if TYPE_CHECKING:
    from gan_trainer.evaluation import Evaluator

M = TypeVar("M")

COMMAND = (sys.executable, "-P", "-m", "lab.loops.worker")
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

    def __init__(self, name: str, asked: Train, command: Sequence[str] = COMMAND) -> None:
        self.name, self.asked, self.command = name, asked, command
        self.rates: list[float] = []
        self.marks: list[tuple[float, Saved]] = []
        self.active_s = 0.0
        self.ready: Ready
        self._process: Process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_process"):
            self._process.close()

    def start(self) -> None:
        """Starts its process, and runs it until it is warm."""
        self._process = Process(self.command)
        with self._going():
            self._process.write(questions.write(self.asked))
            self.ready = self._next(Ready)
            began = time.monotonic()
            for _ in range(WARM_UP_LINES):
                self._next(At)
            self.active_s += time.monotonic() - began

    def window(self, seconds: float) -> float:
        """Runs it for `seconds`. Returns the images/s between the first and the last step that ended inside."""
        with self._going():
            began = time.monotonic()
            self._process.forget()  # written while it was being stopped
            first = last = self._next(At)
            lines = 1
            while last.clock - began < seconds or lines < WINDOW_LINES:
                last = self._next(At)
                lines += 1
            self.active_s += time.monotonic() - began
        rate = (last.images - first.images) / (last.clock - first.clock)
        self.rates.append(rate)
        return rate

    def run_to(self, active_s: float) -> None:
        """Runs it until it has trained for `active_s` seconds, and keeps a checkpoint of that moment in `marks`."""
        with self._going():
            began = time.monotonic()
            while self.active_s + time.monotonic() - began < active_s:
                self._next(At)
            self.active_s += time.monotonic() - began
            self._process.signal(signal.SIGUSR1, alone=True)
            saved = self._next(Saved)
        self.marks.append((round(self.active_s, 2), saved))

    def to_json(self) -> Json:
        speed = spread(self.rates)
        return {
            "images_per_s": round(speed.median, 1),
            "images_per_s_low": round(speed.low, 1),
            "images_per_s_high": round(speed.high, 1),
            "images_per_s_windows": [round(rate, 1) for rate in self.rates],
            "ready_s": round(self.ready.seconds, 2),
            "computes": self.ready.computes,
        }

    @contextlib.contextmanager
    def _going(self) -> Iterator[None]:
        self._process.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.signal(signal.SIGSTOP)

    def _next(self, kind: type[M]) -> M:
        """The next message of this kind. Raises `JobError` when the process has ended or says nothing for long."""
        while True:
            try:
                message: Any = questions.read(self._process.line(SILENCE_S), Ready, At, Saved)
            except TimeoutError:
                raise JobError(
                    f"the {self.name} loop has said nothing for {SILENCE_S:.0f} s",
                    hint="the machine is too busy or the loop hangs: run it alone",
                ) from None
            except (WorkerError, questions.MessageError) as error:
                raise JobError(
                    f"the {self.name} loop ended: {error}", hint="is there enough memory for all of them?"
                ) from None
            if isinstance(message, kind):
                return message


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
    from gan_trainer.networks.generator import load_generator

    made: Json = {"features": dataclasses.asdict(evaluator.info), "n": evaluator.n, "floor": evaluator.floor.distance}
    made["metric"] = "sliced Wasserstein distance" if evaluator.info.id == "swd" else "Fréchet distance"
    for loop in loops:
        made[loop.name.replace("-", "_")] = [
            {"active_s": active_s, "images": saved.images,
             "distance": round(evaluator.distance(load_generator(saved.path)), 4)}
            for active_s, saved in loop.marks
        ]  # fmt: skip
    return made
