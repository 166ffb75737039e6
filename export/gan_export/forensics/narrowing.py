"""Which combinations of one segment's values are worth all rows.

All of them are run on a few rows, the better ones on more (successive halving). Where they are too many, as between
BatchNorms that stand far apart, a sample of them is run and the best are improved one value at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gan_export.draft import Choice, Draft
from gan_export.forensics.combinations import Combination, combinations, one_step_away

TIE = 3.0
RUNGS = ((16, 10), (4, 4))
"""(share of the rows, how many go on): first a sixteenth of the rows for all, then a quarter for the best ten."""
MIN_ROWS = 16
HOPELESS = 0.05
"""On few rows, a misfit above TIE times the best plus this is out."""
ROUNDS, STARTS = 8, 4
"""Improving: from the best STARTS, at most ROUNDS times."""


@dataclass(frozen=True)
class Trial:
    """One combination of values (aligned with the segment's choices) and how it fits.

    fit   median over channels of the symmetric KL, measured on `rows` samples
    kl    float64 (C,), the symmetric KL of every channel; on few rows of every so manieth
    """

    values: tuple[Any, ...]
    fit: float
    rows: int
    kl: Tensor = field(compare=False, repr=False)


Scored = tuple[Trial, Draft]
Rank = Callable[[list[Combination], int], list[Scored]]
"""(combinations, rows) → their trials and drafts, the best first."""


def narrow(rank: Rank, draft: Draft, choices: tuple[Choice, ...], rows: int) -> tuple[list[Scored], list[Trial]]:
    """(the combinations that got as far as all `rows`, best first; the trials of the others, by misfit)."""
    contenders, complete = combinations(draft, choices)
    dropped: list[Trial] = []
    scored: list[Scored] = []
    if not complete:
        scored = _climb(rank, choices, contenders, rows)
        contenders = _again(scored)
    for share, keep in RUNGS if complete else RUNGS[1:]:
        few = max(MIN_ROWS, rows // share)
        if len(contenders) <= keep or few >= rows:
            continue
        scored = rank(contenders, few) if complete else scored
        limit = TIE * scored[0][0].fit + HOPELESS
        rivals = {_first_rival(scored, position) for position in range(len(choices))}
        passed = [i in rivals or (i < keep and trial.fit <= limit) for i, (trial, _) in enumerate(scored)]
        dropped += [trial for (trial, _), go_on in zip(scored, passed, strict=True) if not go_on]
        contenders = [found for found, go_on in zip(_again(scored), passed, strict=True) if go_on]
    return rank(contenders, rows), sorted(dropped, key=lambda trial: trial.fit)


def _climb(rank: Rank, choices: tuple[Choice, ...], contenders: list[Combination], rows: int) -> list[Scored]:
    """`contenders` and what improving the best of them leads to, on a quarter of the rows."""
    more = max(MIN_ROWS, rows // RUNGS[1][0])
    pool = rank(_again(rank(contenders, max(MIN_ROWS, rows // RUNGS[0][0])))[: 2 * STARTS], more)
    seen = {repr(trial.values) for trial, _ in pool}
    improved: set[str] = set()
    for _ in range(ROUNDS):
        starts = [item for item in pool[:STARTS] if repr(item[0].values) not in improved]
        if not starts:
            break
        improved |= {repr(trial.values) for trial, _ in starts}
        fresh = [found for found in one_step_away(choices, _again(starts)) if repr(found[0]) not in seen]
        seen |= {repr(values) for values, _ in fresh}
        pool = sorted([*pool, *rank(fresh, more)], key=lambda item: item[0].fit)
    return pool


def _again(scored: list[Scored]) -> list[Combination]:
    return [(trial.values, candidate) for trial, candidate in scored]


def _first_rival(ranked: list[Scored], position: int) -> int:
    """Where the best trial stands whose value at `position` is another than the first's; 0 when there is none.

    It goes on whatever its rank: evidence is a comparison, and wants both sides on the same rows.
    """
    best = ranked[0][0].values[position]
    return next((i for i, (trial, _) in enumerate(ranked) if trial.values[position] != best), 0)
