"""Curves as inline SVG: text, no script. Colours come from the page's CSS classes, so that they follow its theme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F64
from gan_core.printable import printable

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 32
MAX_POINTS = 300
EVERY_POINT = 4000
"""Up to this many, all that was logged is drawn, faint behind the moving mean."""
MANY = 40
"""From this many points on, the vertical range leaves out the outermost hundredth, and a moving mean is drawn, too."""


@dataclass(frozen=True)
class Curve:
    """`values` (n,) over `steps`, or over the chart's; what is not finite leaves a gap."""

    label: str
    values: Sequence[float]
    steps: Sequence[float] | None = None


def escape(text: str) -> str:
    """`text` for HTML: markup and unsafe characters written out."""
    return html.escape(printable(text))


def chart(
    title: str, steps: Sequence[float], curves: Sequence[Curve], *, bounds: tuple[float, float] | None = None
) -> str:
    """An SVG of up to four curves over `steps` (n,), n ≥ 1, or their own; `bounds` fixes the vertical range."""
    drawn = [
        (c.label, np.asarray(steps if c.steps is None else c.steps, np.float64), np.asarray(c.values, np.float64))
        for c in curves
    ]
    low, high = bounds or _bounds(np.concatenate([values for *_, values in drawn]))
    first, last = min(float(x[0]) for _, x, _ in drawn), max(float(x[-1]) for _, x, _ in drawn)
    across = _Scale(first, last if last > first else first + 1, LEFT, WIDTH - RIGHT)
    up = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    name = f"{title}: " + ", ".join(_last_value(label, values) for label, _, values in drawn)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">']
    for tick in ticks(low, high, 5):
        y = up(tick)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(first, last, 6):
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{number(tick)}</text>')
    for index, (_, x, values) in enumerate(drawn):
        if len(values) >= MANY:
            parts.append(_line(across, up, x, values, f"raw c{index}", EVERY_POINT))
            values = smooth(values)
        else:
            parts += _points(across, up, x, values, f"c{index}")
        parts.append(_line(across, up, x, values, f"c{index}", MAX_POINTS))
    return "".join([*parts, "</svg>"])


def legend(curves: Sequence[Curve]) -> str:
    """The labels in their colours, as HTML."""
    return "".join(f'<span class="key c{i}">{escape(curve.label)}</span>' for i, curve in enumerate(curves))


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers in [low, high], roughly `about` of them: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick's text: 0.5, 12, 3k, 1.5M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


@dataclass(frozen=True)
class _Scale:
    """[low, high] → [begin, end] in the SVG's units."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.begin + min(1.05, max(-0.05, share)) * (self.end - self.begin)


def _bounds(values: F64) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    edges = (1, 99) if len(finite) >= MANY else (0, 100)
    low, high = (float(edge) for edge in np.percentile(finite, edges))
    if 0 < low < 0.5 * high:
        low = 0.0
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - (margin if low else 0.0), high + margin


def smooth(values: npt.ArrayLike) -> F64:
    """A centred moving mean over a fiftieth of the curve; gaps are left out of it."""
    values = np.asarray(values, np.float64)
    half = max(1, len(values) // 100)
    good = np.isfinite(values)
    total = np.concatenate(([0.0], np.cumsum(np.where(good, values, 0.0))))
    count = np.concatenate(([0], np.cumsum(good)))
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        means: F64 = (total[high] - total[low]) / (count[high] - count[low])
    return means


def _points(across: _Scale, up: _Scale, x: F64, values: F64, kind: str) -> list[str]:
    """Each value as a dot."""
    shown = [
        (across(at), up(value)) for at, value in zip(x.tolist(), values.tolist(), strict=True) if math.isfinite(value)
    ]
    return [f'<circle class="{kind}" cx="{at:.1f}" cy="{value:.1f}" r="2.5"/>' for at, value in shown]


def _line(across: _Scale, up: _Scale, x: F64, values: F64, kind: str, most: int) -> str:
    """Polylines between the gaps; at most `most` bins, each drawn as its mean."""
    bins = np.array_split(np.arange(len(values)), min(len(values), most))
    runs: list[list[str]] = [[]]
    for rows in bins:
        kept = rows[np.isfinite(values[rows])]
        if len(kept):
            runs[-1].append(f"{across(float(x[kept].mean())):.1f},{up(float(values[kept].mean())):.1f}")
        elif runs[-1]:
            runs.append([])
    parts = []
    for run in filter(None, runs):
        if len(run) == 1:
            cx, cy = run[0].split(",")
            parts.append(f'<circle class="{kind}" cx="{cx}" cy="{cy}" r="3"/>')
        else:
            parts.append(f'<polyline class="{kind}" points="{" ".join(run)}"/>')
    return "".join(parts)


def _last_value(label: str, values: F64) -> str:
    finite = values[np.isfinite(values)]
    return f"{label} {number(float(finite[-1]))} at the end" if len(finite) else f"{label} without a value"
