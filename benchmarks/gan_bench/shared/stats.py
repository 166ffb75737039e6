"""The arithmetic of a measurement: medians, percentiles, and when windows agree. Pure functions, no clocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

AGREEING_WINDOWS = 3
AGREEMENT = 0.10
"""A row is stable when its last three windows agree within 10 %; see `stable`."""


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of a set of windows. Nothing is discarded: a disturbed window widens the range."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and range of at least one value. Raises `ValueError` for none."""
    if not values:
        raise ValueError("no values to summarise")
    return Spread(statistics.median(values), min(values), max(values))


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile of ascending samples: always one that was measured, never an interpolation.

    None when the nearest rank is the maximum itself: p95 needs 20 samples, p99 needs 100. The "p99" of 30 calls is
    their maximum under a better name.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percent must lie in 1 … 99, got {percent}")
    rank = math.ceil(len(ordered) * percent / 100)
    if not ordered or (rank == len(ordered) and percent > 50):
        return None
    return ordered[rank - 1]


def stable(windows: Sequence[float], count: int = AGREEING_WINDOWS, tolerance: float = AGREEMENT) -> bool:
    """Whether windows have settled, in two conditions.

    The last `count` lie within `tolerance` of their median, highest to lowest; and more than half of all windows lie
    within `tolerance` of that median, so that the median of all does too. Without the second, three windows that happen
    to be equally disturbed would settle a row whose speed is another: 562, 206, 575, 660, 209, 379, 382, 369.
    """
    if len(windows) < count:
        return False
    latest = spread(windows[-count:])
    if not (latest.median > 0 and latest.high - latest.low <= tolerance * latest.median):
        return False
    near = sum(abs(window - latest.median) <= tolerance * latest.median for window in windows)
    return 2 * near > len(windows)
