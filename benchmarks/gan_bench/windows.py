"""Windows of a measurement: the order in which they are taken, when they agree, and what is said of them. No clocks.

A machine drifts: clocks fall as it warms, neighbours come and go. Measured one after the other, rows would each meet
a different machine; taken in turn, one window of each row a round, all meet the same. Each round starts
one row further, so that no row always follows the same neighbour. A row that has settled (`stable`) rests; one
that does not within the rounds allowed is reported as unstable, with its whole range.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

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


def rounded(value: float | None) -> float | None:
    """Four significant digits: more than any of these numbers deserves. None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def spread_json(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """{name: median, name_low: …, name_high: …}, rounded; None for no values."""
    found = spread(values) if values else None
    parts = {"": "median", "_low": "low", "_high": "high"}
    return {name + end: rounded(getattr(found, part, None)) for end, part in parts.items()}


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


@dataclass
class Track(Generic[T]):
    """One row's way through the rounds. `rates` holds its windows' images/s in order; a dropped row gets no more."""

    subject: T
    rates: list[float] = field(default_factory=list)
    dropped: bool = False

    @property
    def stable(self) -> bool:
        return stable(self.rates)

    @property
    def done(self) -> bool:
        return self.dropped or self.stable


def interleave(
    tracks: Sequence[Track[T]],
    measure: Callable[[T, int], float | None],
    rounds: int,
    after_window: Callable[[], None] = lambda: None,
) -> int:
    """Takes one window of each row a round until every row is stable or dropped, at most `rounds` rounds.

    `measure(subject, round)` returns the window's images/s, or None to drop the row. Returns the rounds taken.
    """
    for number in range(rounds):
        open_tracks = [track for track in tracks if not track.done]
        if not open_tracks:
            return number
        first = number % len(open_tracks)
        for track in open_tracks[first:] + open_tracks[:first]:
            rate = measure(track.subject, number)
            if rate is None:
                track.dropped = True
            else:
                track.rates.append(rate)
            after_window()
    return rounds
