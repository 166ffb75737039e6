"""What the person at the terminal sees: a bar with images/s and time left, and the lines of the reports.

The bar is drawn on a terminal only, ten times a second at most; elsewhere the lines stand alone.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

BAR_WIDTH = 30
REDRAW_S = 0.1
RATE_WINDOW_S = 5.0


class Progress:
    """A bar on the last line of `stream` (stderr). Reads no device: call it as often as you like."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self._drawn = 0.0
        self._start: tuple[float, float] | None = None
        self._rate: list[tuple[float, int]] = []

    def update(self, fraction: float, step: int, images: int) -> None:
        """Redraws the bar: `fraction` of the training done, in [0, 1]; step number and images seen so far."""
        if not self.live:
            return
        now = time.monotonic()
        if self._start is None:
            self._start = (now, fraction)
        if now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        self._rate = [point for point in self._rate if now - point[0] <= RATE_WINDOW_S] + [(now, images)]
        done = round(BAR_WIDTH * fraction)
        line = (
            f"[{'#' * done}{'-' * (BAR_WIDTH - done)}] {fraction:4.0%}  step {step}"
            f"  {self._images_per_s():.0f} images/s  {self._left(now, fraction)} left"
        )
        columns = shutil.get_terminal_size().columns
        self.stream.write(f"\r\x1b[K{line[: columns - 1]}")
        self.stream.flush()

    def line(self, text: str) -> None:
        """One whole line, above the bar."""
        self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()
        self._drawn = 0.0

    def close(self) -> None:
        """Takes the bar away."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _images_per_s(self) -> float:
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return (now - before) / (last - first) if last > first else 0.0

    def _left(self, now: float, fraction: float) -> str:
        assert self._start is not None
        began, at = self._start
        if fraction <= at:
            return "--:--"
        return clock((now - began) * (1 - fraction) / (fraction - at))


def clock(seconds: float) -> str:
    """A duration as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def loss_line(step: int, per_epoch: int, epochs: int | None, numbers: Mapping[str, Any]) -> str:
    """The tutorials' line: [epoch/epochs][batch/batches] Loss_D … Loss_G … D(x) … D(G(z)) before / after."""
    epoch, batch = divmod(step - 1, per_epoch)
    return (
        f"[{epoch + 1}{'' if epochs is None else f'/{epochs}'}][{batch + 1}/{per_epoch}]"
        f" step {step}  Loss_D {numbers['loss_d']:.4f}  Loss_G {numbers['loss_g']:.4f}"
        f"  D(x) {numbers['d_x']:.4f}  D(G(z)) {numbers['d_g_z1']:.4f} / {numbers['d_g_z2']:.4f}"
    )
