"""Which of many structures are worth a full search: each with the likeliest values, on few rows.

A wrong stride or padding shows at the next BatchNorm whatever the other choices are, so a few latents tell most of the
structures apart. Those that fit within a wide margin of the best go on; nothing is dropped because it is unusual.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from gan_core.spec.layers import Layer
from gan_export.draft import Choice, Draft
from gan_export.forensics import shortcuts
from gan_export.forensics.runner import SOME_CHANNELS, Runner, side_by_side
from gan_export.forensics.statistics import ELEMENTS, witnesses
from gan_export.forensics.trials import TIE, Combination, drafts_of, kinds, one_step_away, values_to_try

ENOUGH = 3
"""So few structures are not screened."""
ROUNDS = ((32, 64, 0.05, 2), (128, 16, 0.01, 1), (512, 5, 0.002, 1))
"""(rows, structures that go on, what they may misfit by beyond `TIE` times the best, combinations of each)."""
PLACES = 64
"""Rows shrink, to a half at least, as images grow beyond so many places: they average over those, too."""
LEAST_ROWS = 8
LEAST_CHANNELS = 16
"""In the first round channels shrink likewise, to these: at a hundredth of the work they tell apart what is far off."""
TRIED = {"latent": 3, "merge": 2, "upsample": 3, "norm": 2}
"""How many values of a choice are tried; of activations and eps all, while there are no more than `MOST`
combinations."""
DIVERSE = ("relu", "leaky_relu", "identity", "elu", "tanh")
"""The activations that are tried where all would be more than `MOST` combinations."""
MOST = 220
AT_FIRST, AGAIN = 8, 3
"""Combinations of a structure that go on from its first run, and from each after it."""
SHORT, FAR = 3, 0.3
"""Combinations that all structures are tried with, and by how much more than `TIE` times the best those misfit that are
tried with no others."""
FITTING = 0.02
"""A structure that misfits by no more on the fewest rows is likely the right one."""
CLOSE = 0.01
"""A structure that misfits by so much more than `TIE` times another may do as well with values of its own."""
FLOOR = 1e-5
"""Misfits below this count as this: two of them differ by chance only."""


@dataclass(eq=False)
class Entrant:
    """A structure to screen.

    choices  those that show at the BatchNorm at hand
    counted  the misfits at the BatchNorms before, each as often as its structure is unusual
    factor   how often the next one counts
    arrived  what arrived at the last of those (rows, …), None at the first
    """

    draft: Draft
    choices: tuple[Choice, ...]
    counted: tuple[float, ...]
    factor: float
    arrived: Tensor | None
    contenders: list[Combination] = field(default_factory=list)
    fit: float = math.inf
    rated: int = 0
    """Rows of the round that `fit` and the order of `contenders` are of; 0 where there was none."""
    order: list[tuple[Any, ...]] = field(default_factory=list)
    """The values of all that were tried of it, or of one of its kind, on the fewest rows, the best first."""

    @property
    def all_counted(self) -> tuple[float, ...]:
        return (*self.counted, self.factor * self.fit)


def screen(entrants: list[Entrant], k: int, samples: int, seed: int) -> list[Entrant]:
    """Those of `entrants` worth a full search at BatchNorm `k`, the best first; `fit` is set in all."""
    if len(entrants) <= ENOUGH:
        return entrants
    _prepare(entrants, k, samples, seed)
    alike: dict[object, list[Entrant]] = {}
    for entrant in entrants:
        own = id(entrant) if entrant.draft.structure is None else entrant.draft.structure_said
        alike.setdefault((own, _kind(entrant, k)), []).append(entrant)
    leaders = [same[0] for same in alike.values()]
    _rate_near(leaders, leaders, k, samples, seed)
    best = min((leader.all_counted for leader in leaders), key=sum)
    for leader, *others in alike.values():
        if not ties(leader.all_counted, best, FAR):  # far off, whatever arrives
            for other in others:
                other.fit, other.rated, other.contenders = leader.fit, leader.rated, other.contenders[:AT_FIRST]
    _rate_near(entrants, entrants, k, samples, seed)
    left = entrants
    for rows, most, slack, tried in ROUNDS:
        if len(left) == 1:
            break
        _rate(left, k, rows, samples, seed, tried)
        left = sorted(left, key=lambda entrant: sum(entrant.all_counted))
        best = left[0].all_counted
        left = [entrant for entrant in left[:most] if ties(entrant.all_counted, best, slack)]
    return left


def _rate_near(entrants: Sequence[Entrant], beside: Sequence[Entrant], k: int, samples: int, seed: int) -> None:
    """Rates `entrants` on the fewest rows; those far from the best of `beside` with a few of their contenders only."""
    rows, waiting = ROUNDS[0][0], {}
    for entrant in entrants:
        if entrant.rated != rows and len(entrant.contenders) > SHORT:
            waiting[id(entrant)] = entrant.contenders
            entrant.contenders = entrant.contenders[:SHORT]
    _rate(entrants, k, rows, samples, seed, AT_FIRST)
    best = min((entrant.all_counted for entrant in beside), key=sum)
    for entrant in entrants:
        if id(entrant) in waiting:
            near = ties(entrant.all_counted, best, FAR)
            entrant.contenders, entrant.rated = waiting[id(entrant)][: None if near else AT_FIRST], 0 if near else rows
    _rate(entrants, k, rows, samples, seed, AT_FIRST)


def worse(fits: Sequence[float], best: Sequence[float]) -> float:
    """How many times worse `fits` are than `best`, from the first BatchNorm on where they differ."""
    mine, its = _apart(fits, best)
    return mine / max(its, FLOOR) if mine or its else 1.0


def ties(fits: Sequence[float], best: Sequence[float], slack: float, most: float = math.inf) -> bool:
    """Whether `fits`, from where they differ on, are no worse than `TIE` times `best` and `slack`, or `most` times
    `best` where that is less."""
    mine, its = _apart(fits, best)
    return mine <= TIE * its + min(slack, most * max(its, FLOOR))


def _apart(fits: Sequence[float], best: Sequence[float]) -> tuple[float, float]:
    """What both come to from the first BatchNorm on where they differ; what nothing fits before it hides nothing."""
    first = next((i for i, (a, b) in enumerate(zip(fits, best, strict=True)) if a != b), len(fits))
    return sum(fits[first:]), sum(best[first:])


def _prepare(entrants: list[Entrant], k: int, samples: int, seed: int) -> None:
    """Sets each entrant's contenders. Which values are worth a try, one says for all that differ only in paddings and
    in what arrives, and where a usual structure fits, it says so for the others, too: they are there to be refuted."""
    classes: dict[tuple[int, str], list[Entrant]] = {}
    for entrant in entrants:
        classes.setdefault((id(entrant.arrived), _kind(entrant, k)), []).append(entrant)
    leaders = [members[0] for members in classes.values()]
    firsts: dict[str, Entrant] = {}
    for leader in leaders:
        firsts.setdefault(_kind(leader, k), leader)
    usual = [first for first in firsts.values() if _usual(first)]
    fitting: Entrant | None = None
    for i, first in enumerate(usual):
        _try([first], k, samples, seed)
        if first.fit <= FITTING:
            fitting, usual = first, usual[: i + 1]
            break
    others = [first for first in firsts.values() if first not in usual]
    skip = entrants[0].draft.skip
    if fitting is None and usual and skip is not None and skip.told and k >= skip.witness:
        others = []  # names say that it is no chain, and no usual one fits
    if fitting is None and others:  # what the best of one is with each value, all others are tried with
        tried = min(usual, key=lambda first: sum(first.all_counted)) if usual else others.pop(0)
        if not usual:
            _try([tried], k, samples, seed)
        for first in others:
            first.contenders = _as_in(tried, first, _varied(tried))
        _rate(others, k, ROUNDS[0][0], samples, seed, AT_FIRST)
        best = min((tried, *others), key=lambda first: sum(first.all_counted))
        _try([first for first in others if ties(first.all_counted, best.all_counted, CLOSE)], k, samples, seed)
    elif fitting is not None:
        for first in others:
            first.contenders = _as_in(fitting, first, fitting.contenders)
        _rate_near(others, [fitting], k, samples, seed)
        close = [first for first in others if ties(first.all_counted, fitting.all_counted, CLOSE)]
        _try([first for first in close if _usual(first)], k, samples, seed)
    for leader in leaders:
        first = firsts[_kind(leader, k)]
        leader.contenders = first.contenders if leader is first else _same_as(first, leader)
        leader.order = first.order
    for leader, *followers in classes.values():
        for follower in followers:
            follower.contenders = _same_as(leader, follower)
            follower.order = leader.order


def _usual(entrant: Entrant) -> bool:
    return entrant.draft.structure is None or entrant.draft.structure.usual


def _kind(entrant: Entrant, k: int) -> str:
    """What all share that differ in paddings, in what arrives or in neither."""
    norms, spec = witnesses(entrant.draft), entrant.draft.spec
    start = norms[k - 1] if k else 0
    layers = [(shortcuts.widest(layer) or (layer,))[0] for layer in spec.layers[start : norms[k]]]
    return repr((spec.shapes[start], layers, [(c.layer, c.field) for c in entrant.choices]))


def _try(leaders: list[Entrant], k: int, samples: int, seed: int) -> None:
    """Sets the contenders of each to the best of all combinations, or of the diverse ones and those one step from the
    best of them."""
    cut = []
    for leader in leaders:
        leader.rated = 0
        leader.contenders, complete = _contenders(leader.draft, leader.choices)
        cut += [] if complete else [leader]
    _rate(leaders, k, ROUNDS[0][0], samples, seed, AT_FIRST)
    for leader in cut:
        leader.rated = 0
        leader.contenders = one_step_away(leader.choices, leader.contenders[:AGAIN])
    _rate(cut, k, ROUNDS[0][0], samples, seed, AT_FIRST)


def _same_as(leader: Entrant, follower: Entrant) -> list[Combination]:
    """The contenders of `leader`, made of the choices of `follower`, which are in the same places."""
    return drafts_of(follower.draft, follower.choices, [values for values, _ in leader.contenders])


def _varied(tried: Entrant) -> list[Combination]:
    """Of all that was tried of `tried`, the best with each value of each choice."""
    found: dict[str, tuple[Any, ...]] = {}
    for values in tried.order:
        for place, value in enumerate(values):
            found.setdefault(f"{place} {value}", values)
    return drafts_of(tried.draft, tried.choices, {repr(values): values for values in found.values()}.values())


def _as_in(fitting: Entrant, other: Entrant, contenders: Sequence[Combination]) -> list[Combination]:
    """`contenders` of `fitting`, made of the choices of `other`; of a choice of its own, the first values."""
    places = {(choice.layer, choice.field): i for i, choice in enumerate(fitting.choices)}
    own = [values_to_try(c)[: TRIED.get(c.field, 1)] for c in other.choices if (c.layer, c.field) not in places]
    tried = []
    for taken, _ in contenders:
        for first in itertools.product(*own):
            rest = iter(first)
            here = [places.get((c.layer, c.field)) for c in other.choices]
            tried.append(tuple(next(rest) if place is None else taken[place] for place in here))
    return drafts_of(other.draft, other.choices, tried)


def _contenders(draft: Draft, choices: tuple[Choice, ...]) -> tuple[list[Combination], bool]:
    """The combinations to try, and whether these are all."""
    options = [kinds(draft, choice)[: TRIED.get(choice.field)] for choice in choices]
    complete = math.prod(map(len, options)) <= MOST
    if not complete:
        options = [_diverse(o) if c.field == "activation" else o for o, c in zip(options, choices, strict=True)]
    if math.prod(map(len, options)) > MOST:
        options = [o if c.field == "activation" else o[:2] for o, c in zip(options, choices, strict=True)]
    return drafts_of(draft, choices, itertools.islice(itertools.product(*options), MOST)), complete


def _rows(entrant: Entrant, k: int, rows: int, samples: int) -> int:
    """How many of `rows` rows to run of a structure: fewer where its images average over many places, too."""
    norms = witnesses(entrant.draft)
    shapes = entrant.draft.spec.shapes[norms[k - 1] if k else 0 : norms[k] + 1]
    fewer = max(rows // 2, rows * PLACES // max(math.prod(shapes[-1][1:]), PLACES))
    room = max(LEAST_ROWS, ELEMENTS // max(map(math.prod, shapes)))
    return min(fewer, room, samples if entrant.arrived is None else len(entrant.arrived))


def _channels(entrant: Entrant, k: int, rows: int) -> int:
    """How many channels to compute of a structure in a round of `rows` rows."""
    if rows > ROUNDS[0][0]:
        return SOME_CHANNELS
    places = math.prod(entrant.draft.spec.shapes[witnesses(entrant.draft)[k]][1:])
    return max(LEAST_CHANNELS, SOME_CHANNELS * PLACES // max(places, PLACES))


def _diverse(values: list[Any]) -> list[Any]:
    """The first of each kind in `DIVERSE`."""
    named = {value["name"]: value for value in reversed(values) if value["name"] in DIVERSE}
    return [value for value in values if value in named.values()] or values[:1]


@functools.lru_cache(4096)
def _word(layer: Layer) -> str:
    return repr(layer)


def _rate(entrants: Sequence[Entrant], k: int, rows: int, samples: int, seed: int, most: int = AGAIN) -> None:
    """Sets each entrant's `fit` to that of its best combination, and its contenders to the best of them."""
    for entrant in entrants:
        entrant.contenders = entrant.contenders[:most] if entrant.rated == rows else entrant.contenders
    entrants = [entrant for entrant in entrants if entrant.rated != rows]
    scores: dict[int, list[tuple[float, Combination]]] = {id(entrant): [] for entrant in entrants}
    sources: dict[tuple[int, int, int], list[Entrant]] = {}
    for entrant in entrants:
        key = id(entrant.arrived), _rows(entrant, k, rows, samples), _channels(entrant, k, rows)
        sources.setdefault(key, []).append(entrant)
    for (_, few, channels), group in sources.items():
        norms = witnesses(group[0].draft)
        start = norms[k - 1] if k else 0
        places = shortcuts.SOME if rows < ROUNDS[-1][0] else shortcuts.MOST
        work = [(entrant, one) for entrant in group for one in entrant.contenders]
        work.sort(key=lambda pair: (pair[1][1].spec.interface.latent, *map(_word, pair[1][1].spec.layers[start:])))
        stops = {id(entrant): witnesses(entrant.draft)[k] for entrant in group}
        made = partial(Runner, group[0].arrived, start, few, seed, rough=True, few=places, channels=channels)
        fits = side_by_side(partial(_fits, made, stops), work)
        for (entrant, combination), fit in zip(work, fits, strict=True):
            scores[id(entrant)].append((fit, combination))
    for entrant in entrants:
        ranked = sorted(scores[id(entrant)], key=lambda item: item[0])
        if len(ranked) > len(entrant.order):
            entrant.order = [values for _, (values, _) in ranked]
        ranked = ranked[:most]
        entrant.fit = ranked[0][0] if ranked else math.inf
        entrant.contenders = [one for _, one in ranked]
        entrant.rated = rows


def _fits(
    made: Callable[[], Runner], stops: Mapping[int, int], work: Sequence[tuple[Entrant, Combination]]
) -> list[float]:
    runner = made()
    return [float(runner.misfits(candidate, stops[id(entrant)]).median()) for entrant, (_, candidate) in work]
