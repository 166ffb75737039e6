"""What gan-train shows, and how the processes of a job that torchrun started speak: as one.

No torch on import, so that `gan-train --help` needs none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from datetime import timedelta
from typing import NoReturn, TextIO

import typer

from gan_core.errors import GanportError
from gan_core.printable import printable
from gan_serve.terminal import console
from gan_trainer.progress import Progress

PATIENCE = timedelta(seconds=5)
"""How long to wait for the one that speaks."""

BAR_WIDTH = 30
REDRAW_S = 0.1
RATE_WINDOW_S = 5.0


class Bar(Progress):
    """A bar on the last line of a terminal, ten times a second at most; elsewhere the lines stand alone."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet = console.is_quiet()
        self.live = self.stream.isatty() and not self.quiet
        self._drawn = 0.0
        self._rate: list[tuple[float, int]] = []

    def update(self, fraction: float, step: int, images: int) -> None:
        super().update(fraction, step, images)
        now, _ = self._last
        if not self.live or now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        # Where steps take longer than the window, the rate is that of the last one.
        self._rate = [point for point in self._rate if now - point[0] <= RATE_WINDOW_S] or self._rate[-1:]
        self._rate.append((now, images))
        done = round(BAR_WIDTH * fraction)
        bar = f"[{'#' * done}{'-' * (BAR_WIDTH - done)}] {fraction:4.0%}  step {step}"
        self._write(f"\r\x1b[K{'  '.join(filter(None, (bar, self._images_per_s(), self.left)))[: _columns()]}")

    def line(self, text: str, *more: str) -> None:
        """One whole line, above the bar. Of `more` a terminal shows what still fits. Quiet, only what went wrong."""
        if self.quiet and not text.startswith(("warning: ", "hint: ")):
            return
        for part in filter(None, more):
            if not self.live or len(text) + 2 + len(part) <= _columns():
                text = f"{text}  {part}"
        self._write(("\r\x1b[K" if self.live else "") + printable(console.with_options(text)) + "\n")
        self._drawn = 0.0

    def close(self) -> None:
        if self.live:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _images_per_s(self) -> str:
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return f"{(now - before) / (last - first):.0f} images/s" if last > first else ""


def _columns() -> int:
    """What a line may take without reaching the terminal's edge."""
    return shutil.get_terminal_size().columns - 1


def launched() -> bool:
    """Whether a launcher started this process as one of a job."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def run_job(app: typer.Typer, name: str) -> NoReturn:
    """`console.run` for one process of a job: process 0 speaks, but an error is told by the first that meets one.

    The process ends at once. One that fails leaves torch's process group as it is: taking it down may wait for others
    that are gone. And gloo's threads may still hold Python objects: letting go of them aborts a process whose
    interpreter is being taken down. SIGTERM, which torchrun sends to the others, ends a process as it is, too.
    """
    out, err = sys.stdout, sys.stderr
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

    def report(message: str, hint: str) -> None:
        sys.stderr = err
        tell(message, hint)

    try:
        console.run(app, name, report=report, takes_signals=False)
    except SystemExit as done:
        sys.stdout, sys.stderr = out, err
        console.leave(done)
    except BaseException:
        sys.stderr = err
        raise


def tell(message: str, hint: str) -> None:
    """Prints the error unless another process of the job has. Torchrun ends the others as soon as one has ended, so
    that all wait until it is told.
    """
    try:
        from gan_trainer.distributed import open_store, read_launch

        launch = read_launch()
        socket.create_connection((launch.address, launch.port), PATIENCE.total_seconds()).close()
        store, key = open_store(launch, PATIENCE, host=False), f"ganport/{launch.restarts}"
        first = store.add(f"{key}/failed", 1) == 1
        if not first:
            store.wait([f"{key}/told"], PATIENCE)
            return
    except (ImportError, GanportError, RuntimeError, OSError):  # no job, or nobody to ask: better told twice than never
        first = False
    console.fail(message, hint)
    if first:
        with contextlib.suppress(RuntimeError):
            store.set(f"{key}/told", "")
