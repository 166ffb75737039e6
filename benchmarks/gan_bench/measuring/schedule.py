"""The order of the measurements: windows of all rows in turn, until each row's agree.

A machine drifts: clocks fall as it warms, neighbours come and go. Measured one after the other, rows would each meet
a different machine; taken in turn, one window of each row a round, all meet the same. Each round starts
one row further, so that no row always follows the same neighbour. A row that has settled (`stats.stable`) rests; one
that does not within the rounds allowed is reported as unstable, with its whole range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gan_bench.shared.stats import AGREEING_WINDOWS, stable

T = TypeVar("T")

MIN_ROUNDS = AGREEING_WINDOWS


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
