"""Which of many structures are worth a full search: each with the likeliest values, on few rows.

A wrong stride or padding shows at the next BatchNorm whatever the other choices are, so a few latents tell most of the
structures apart. Those that fit within a wide margin of the best go on; nothing is dropped because it is unusual.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gan_export.draft import Choice, Draft
from gan_export.forensics.candidates import values_to_try
from gan_export.forensics.combinations import Combination, with_values
from gan_export.forensics.divergence import median_misfit
from gan_export.forensics.narrowing import TIE
from gan_export.forensics.runner import Runner, widest
from gan_export.forensics.statistics import ELEMENTS, moments, remembered, witnesses

ENOUGH = 3
"""So few structures are not screened."""
ROUNDS = ((32, 64, 0.05), (128, 16, 0.01), (512, 5, 0.002))
"""(rows, structures that go on, what they may misfit by beyond `TIE` times the best)."""
PLACES = 64
"""Rows shrink, to a quarter at least, as images grow beyond so many places: they average over those, too."""
LEAST_ROWS = 8
TRIED = {"eps": 2, "latent": 2, "merge": 2, "upsample": 3, "norm": 2}
"""How many values of a choice are tried; of activations all, while there are no more than `MOST` combinations."""
DIVERSE = ("relu", "leaky_relu", "identity", "elu", "tanh")
"""The activations that are tried where all would be more than `MOST` combinations."""
MOST = 40
AT_FIRST, AGAIN = 6, 3
"""Combinations of a structure that go on from its first run, and from each after it."""
FLOOR = 1e-5
"""Misfits below this count as this: two of them differ by chance only."""


@dataclass(eq=False)
class Entrant:
    """A structure to screen.

    choices  those that show at the BatchNorm at hand
    fits     the misfits at the BatchNorms before
    total    what they come to, each counted as often as its structure is unusual
    factor   how often the next one counts
    arrived  what arrived at the last of those (rows, …), None at the first
    """

    draft: Draft
    choices: tuple[Choice, ...]
    fits: tuple[float, ...]
    total: float
    factor: float
    arrived: Tensor | None
    contenders: list[Combination] = field(default_factory=list)
    fit: float = math.inf

    @property
    def score(self) -> float:
        return self.total + self.factor * self.fit

    @property
    def all_fits(self) -> tuple[float, ...]:
        return (*self.fits, self.fit)


def screen(entrants: list[Entrant], k: int, samples: int, seed: int) -> list[Entrant]:
    """Those of `entrants` worth a full search at BatchNorm `k`, the best first; `fit` is set in all."""
    if len(entrants) <= ENOUGH:
        return entrants
    _prepare(entrants, k, samples, seed)
    left = entrants
    for rows, most, slack in ROUNDS:
        if len(left) <= ENOUGH:
            break
        _rate(left, k, rows, samples, seed)
        left = sorted(left, key=lambda entrant: entrant.score)
        limit = TIE * left[0].score + slack
        left = [entrant for entrant in left[:most] if entrant.score <= limit]
    return left


def worse(fits: Sequence[float], best: Sequence[float]) -> float:
    """How many times worse `fits` are than `best`, from the first BatchNorm on where they differ."""
    first = next((i for i, (a, b) in enumerate(zip(fits, best, strict=True)) if a != b), None)
    return 1.0 if first is None else sum(fits[first:]) / max(sum(best[first:]), FLOOR)


def _prepare(entrants: list[Entrant], k: int, samples: int, seed: int) -> None:
    """Sets each entrant's contenders. Which values are worth a try, one says for all that differ in paddings alone."""
    classes: dict[object, list[Entrant]] = {}
    for entrant in entrants:
        norms, layers = witnesses(entrant.draft), entrant.draft.spec.layers
        stretch = layers[norms[k - 1] if k else 0 : norms[k]]
        alike = [(widest(layer) or (layer,))[0] for layer in stretch]
        key = id(entrant.arrived), repr(alike), repr([(c.layer, c.field) for c in entrant.choices])
        classes.setdefault(key, []).append(entrant)
    leaders = [members[0] for members in classes.values()]
    for leader in leaders:
        leader.contenders = _contenders(leader.draft, leader.choices)
    _rate(leaders, k, ROUNDS[0][0], samples, seed, AT_FIRST)
    for leader, *others in classes.values():
        for other in others:
            found = ((values, with_values(other.draft, other.choices, values)) for values, _ in leader.contenders)
            other.contenders = [(values, draft) for values, draft in found if draft is not None]


def _contenders(draft: Draft, choices: tuple[Choice, ...]) -> list[Combination]:
    options = [values_to_try(choice)[: TRIED.get(choice.field)] for choice in choices]
    if math.prod(map(len, options)) > MOST:
        options = [_diverse(o) if c.field == "activation" else o[:2] for o, c in zip(options, choices, strict=True)]
    tried = list(itertools.islice(itertools.product(*options), MOST))
    found = ((values, with_values(draft, choices, values)) for values in tried)
    return [(values, candidate) for values, candidate in found if candidate is not None]


def _diverse(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first of each kind in `DIVERSE`."""
    named = {value["name"]: value for value in reversed(values) if value["name"] in DIVERSE}
    return tuple(value for value in values if value in named.values()) or values[:1]


def _rate(entrants: list[Entrant], k: int, rows: int, samples: int, seed: int, most: int = AGAIN) -> None:
    """Sets each entrant's `fit` to that of its best combination, and its contenders to the best of them."""
    scores: dict[int, list[tuple[float, Combination]]] = {id(entrant): [] for entrant in entrants}
    sources: dict[int, list[Entrant]] = {}
    for entrant in entrants:
        sources.setdefault(id(entrant.arrived), []).append(entrant)
    for group in sources.values():
        norms = witnesses(group[0].draft)
        start = norms[k - 1] if k else 0
        shape = group[0].draft.spec.shapes[start]
        places = math.prod(shape[1:])
        fewer = max(rows // 4, rows * PLACES // max(places, PLACES))
        shapes = [entrant.draft.spec.shapes[start : witnesses(entrant.draft)[k] + 1] for entrant in group]
        room = max(LEAST_ROWS, ELEMENTS // max(math.prod(shape) for each in shapes for shape in each))
        most_rows = min(room, samples if group[0].arrived is None else len(group[0].arrived))
        runner = Runner(group[0].arrived, start, min(fewer, most_rows), seed, widest=True)
        work = [(entrant, one) for entrant in group for one in entrant.contenders]
        work.sort(key=lambda pair: repr((pair[1][1].spec.latent, pair[1][1].spec.layers[start:])))
        for entrant, (values, candidate) in work:
            stop = witnesses(candidate)[k]
            fit = median_misfit(moments(runner.run(candidate, stop)), remembered(candidate, stop))
            scores[id(entrant)].append((fit if math.isfinite(fit) else math.inf, (values, candidate)))
    for entrant in entrants:
        ranked = sorted(scores[id(entrant)], key=lambda item: item[0])[:most]
        entrant.fit = ranked[0][0] if ranked else math.inf
        entrant.contenders = [one for _, one in ranked]
