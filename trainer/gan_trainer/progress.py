"""What the person at the terminal sees: a bar with images/s and time left, and the lines of the reports.

The bar is drawn on a terminal only, ten times a second at most; elsewhere the lines stand alone.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from gan_core.printable import printable

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
        self._last = (0.0, 0.0)
        self._rate: list[tuple[float, int]] = []

    def update(self, fraction: float, step: int, images: int) -> None:
        """Redraws the bar: `fraction` of the training done, in [0, 1]; step number and images seen so far."""
        now = time.monotonic()
        self._last = (now, fraction)
        if self._start is None:
            self._start = self._last
        if not self.live or now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        # Where steps take longer than the window, the rate is that of the last one.
        self._rate = [point for point in self._rate if now - point[0] <= RATE_WINDOW_S] or self._rate[-1:]
        self._rate.append((now, images))
        done = round(BAR_WIDTH * fraction)
        bar = f"[{'#' * done}{'-' * (BAR_WIDTH - done)}] {fraction:4.0%}  step {step}"
        self.stream.write(f"\r\x1b[K{'  '.join(filter(None, (bar, self._images_per_s(), self.left)))[: _columns()]}")
        self.stream.flush()

    def line(self, text: str, *more: str) -> None:
        """One whole line, above the bar. Of `more` a terminal shows what still fits."""
        for part in filter(None, more):
            if not self.live or len(text) + 2 + len(part) <= _columns():
                text = f"{text}  {part}"
        self.stream.write(("\r\x1b[K" if self.live else "") + printable(text) + "\n")
        self.stream.flush()
        self._drawn = 0.0

    def close(self) -> None:
        """Takes the bar away."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    @property
    def left(self) -> str:
        """The time left, as at the last update: "1:05 left", or nothing where it is not known yet or all is done."""
        now, fraction = self._last
        began, at = self._start or self._last
        if not at < fraction < 1:
            return ""
        return f"{clock((now - began) * (1 - fraction) / (fraction - at))} left"

    def _images_per_s(self) -> str:
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return f"{(now - before) / (last - first):.0f} images/s" if last > first else ""


def _columns() -> int:
    """What a line may take without reaching the terminal's edge."""
    return shutil.get_terminal_size().columns - 1


def clock(seconds: float) -> str:
    """A duration as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def loss_line(step: int, per_epoch: int, epochs: int | None, numbers: Mapping[str, Any]) -> str:
    """What the tutorials print, in 80 columns: the losses of D and G, D(x), D(G(z)) before / after D's step."""
    epoch = (step - 1) // per_epoch + 1
    return (
        f"step {step}  epoch {epoch}{'' if epochs is None else f'/{epochs}'}"
        f"  loss D {numbers['loss_d']:.3f} G {numbers['loss_g']:.3f}"
        f"  D(x) {numbers['d_x']:.2f}  D(G(z)) {numbers['d_g_z1']:.2f} / {numbers['d_g_z2']:.2f}"
    )
