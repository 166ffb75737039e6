"""What is tried for the choices of one segment: values, combinations of them, and which of these are worth all rows.

The values are those that people's generators have, the usual ones first: ReLU before LeakyReLU 0.01, eps 1e-5 before
1e-3. That order is the habit that decides where the statistics do not. All combinations are run on a few rows, the
better ones on more (successive halving). Where they are too many, as between BatchNorms that stand far apart, a sample
of them is run and the best are improved one value at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.latents import LATENT_LAWS
from gan_core.spec.layers import LIMITED, SLOPED
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.statistics import witnesses
from gan_export.understanding.edit import with_values

SLOPES = (0.2, 0.1, 0.01, 0.3)
ACTIVATIONS: tuple[dict[str, Any], ...] = (
    {"name": "relu", "slope": None},
    *({"name": "leaky_relu", "slope": slope} for slope in SLOPES),
    {"name": "identity", "slope": None},
    {"name": "elu", "slope": None},
    {"name": "selu", "slope": None},
    {"name": "gelu", "slope": None},
    {"name": "silu", "slope": None},
    {"name": "tanh", "slope": None},
    {"name": "softplus", "slope": None},
    {"name": "sigmoid", "slope": None},
)
EPS = (1e-5, 0.8, 1e-3, 0.1)
"""torch's default; the PyTorch-GAN family's (who mean momentum); Keras's and TensorFlow's; and one between."""
NEAR = 0.01
"""Two eps whose effect differs by less than this share are near-identical."""
INVISIBLE = 5e-4
"""Two eps whose effect differs by less than this share are not worth a run of their own."""

_USUAL: dict[str, tuple[Any, ...]] = {"activation": ACTIVATIONS, "eps": EPS, "latent": LATENT_LAWS}
_NOT_TRIED = ("structure", "output", "value_range")


def values_to_try(choice: Choice) -> tuple[Any, ...]:
    """The values of `choice` worth running, without repeats: what a known family or the file's names suggest, then the
    usual ones, then the rest. A proved choice has one."""
    if choice.evidence is Evidence.PROVED or choice.field in _NOT_TRIED:
        return (choice.value,)
    values: list[Any] = []
    suggested = (choice.value,) if choice.evidence is not Evidence.NONE else ()
    for value in (*suggested, *_USUAL.get(choice.field, ()), choice.value, *choice.alternatives):
        if not any(same(choice.field, value, known) for known in values):
            values.append(value)
    return tuple(values)


def same(field: str, a: Any, b: Any) -> bool:
    """Whether two values mean the same network; LeakyReLU without a slope has 0.01."""
    return bool(_canonical(field, a) == _canonical(field, b))


def alike(draft: Draft, choice: Choice, a: Any, b: Any) -> bool:
    """Whether two values make networks so near that habit may decide between them: ReLU and LeakyReLU 0.01, or two eps
    that scale this BatchNorm's channels to within `NEAR` of each other (median channel)."""
    if choice.field == "eps" and choice.layer is not None:
        return eps_effect(draft, choice.layer, a, b) < NEAR
    if choice.field == "activation":
        return bool(_kind(a) == _kind(b))
    return same(choice.field, a, b)


def eps_effect(draft: Draft, layer: int, a: float, b: float) -> float:
    """By which share the outputs of the BatchNorm at `layer` differ between two eps (median channel)."""
    held = draft.weights[layer]
    if "running_var" not in held:
        return 0.0 if a == b else 1.0
    var = held["running_var"].double()
    return abs(float(((var + a) / (var + b)).sqrt().median()) - 1.0)


def segment_of(draft: Draft, choice: Choice) -> int:
    """Which witness (see `statistics.witnesses`) a choice shows in: 0 for the first; their number when after all.

    What a BatchNorm remembers depends on what stands before it. Its own eps shows only in the next.
    """
    return shown_at(witnesses(draft), choice)


def shown_at(norms: Sequence[int], choice: Choice) -> int:
    """`segment_of`, in a draft whose witnesses are `norms`."""
    return 0 if choice.layer is None else sum(index <= choice.layer for index in norms)


def _canonical(field: str, value: Any) -> Any:
    if field == "activation":
        name, slope = value["name"], value.get("slope")
        limits = value.get("limits") or LIMITED.get(name)
        return name, SLOPED.get(name) if slope is None else slope, None if limits is None else tuple(limits)
    return value


def _kind(activation: dict[str, Any]) -> Any:
    canonical = _canonical("activation", activation)
    return ("relu", None, None) if canonical == ("leaky_relu", 0.01, None) else canonical


MOST = 600
"""More combinations than this are not listed. First all choices but activations keep to their two most usual values; if
that does not help, only combinations with one activation throughout are listed. `narrow` improves the best."""

SMALL = 0.05
"""Two eps whose effect differs by less than this share are compared on all rows."""

Combination = tuple[tuple[Any, ...], Draft]
"""Values, aligned with the choices, and the draft that has them."""


def combinations(draft: Draft, choices: tuple[Choice, ...]) -> tuple[list[Combination], bool]:
    """One combination of each kind, early choices varying slowest, and whether these are all.

    Of near-identical values (`alike`) only the usual one is tried here. Combinations that make no network
    are left out.
    """
    options = [kinds(draft, choice) for choice in choices]
    complete = _count(options) <= MOST
    if not complete:
        options = [o if c.field == "activation" else o[:2] for o, c in zip(options, choices, strict=True)]
    if _count(options) <= MOST:
        tried = list(itertools.product(*options))
    else:
        tried = _one_activation(choices, options)
    return drafts_of(draft, choices, tried), complete


def drafts_of(draft: Draft, choices: tuple[Choice, ...], tried: Iterable[tuple[Any, ...]]) -> list[Combination]:
    """Each of `tried` (aligned with the choices) with the draft that has it, where a network comes of it."""
    found: list[Combination] = []
    for values in tried:
        with contextlib.suppress(GanportError):
            found.append((values, with_values(draft, choices, values)))
    return found


def _count(options: list[list[Any]]) -> int:
    return math.prod(map(len, options))


def _one_activation(choices: tuple[Choice, ...], options: list[list[Any]]) -> list[tuple[Any, ...]]:
    """The combinations in which every activation has the same value."""
    tied = [choice.field == "activation" for choice in choices]
    rest = [values for values, is_tied in zip(options, tied, strict=True) if not is_tied]
    shared = next((values for values, is_tied in zip(options, tied, strict=True) if is_tied), [None])
    tried: list[tuple[Any, ...]] = []
    for value in shared:
        for others in itertools.product(*rest):
            remaining = iter(others)
            tried.append(tuple(value if is_tied else next(remaining) for is_tied in tied))
    return tried


def one_step_away(choices: tuple[Choice, ...], starts: list[Combination]) -> list[Combination]:
    """`starts` and every combination that differs from one of them in a single choice."""
    found = list(starts)
    known = [values for values, _ in starts]
    for values, draft in starts:
        for i, choice in enumerate(choices):
            for value in kinds(draft, choice):
                changed = (*values[:i], value, *values[i + 1 :])
                if changed in known:
                    continue
                known.append(changed)
                found += [(changed, candidate) for _, candidate in drafts_of(draft, (choice,), [(value,)])]
    return found


def neighbours(draft: Draft, choices: tuple[Choice, ...], values: tuple[Any, ...]) -> list[Combination]:
    """`values` with one of them exchanged for a near-identical one, or for another eps whose effect is small."""
    found: list[Combination] = []
    for i, choice in enumerate(choices):
        for value in values_to_try(choice):
            if same(choice.field, value, values[i]):
                continue
            if choice.field == "eps" and choice.layer is not None:
                close = INVISIBLE < eps_effect(draft, choice.layer, value, values[i]) < SMALL
            else:
                close = alike(draft, choice, value, values[i])
            changed = (*values[:i], value, *values[i + 1 :])
            found += [(changed, candidate) for _, candidate in drafts_of(draft, (choice,), [(value,)] * close)]
    return found


def kinds(draft: Draft, choice: Choice) -> list[Any]:
    """The values to try of a choice, of near-identical ones the usual one."""
    found: list[Any] = []
    for value in values_to_try(choice):
        if not any(alike(draft, choice, value, known) for known in found):
            found.append(value)
    return found


TIE = 3.0


class Rung(NamedTuple):
    """A run of combinations on some of the rows: a `share`th of them, `least` at least, and not where there are `few`
    combinations. The best `keep` go on that misfit by no more than `times` the best and `more`."""

    share: int
    least: int
    few: int
    keep: int
    times: float
    more: float


RUNGS = Rung(64, 8, 40, 40, TIE, 0.05), Rung(16, 16, 10, 10, 10.0, 0.01), Rung(4, 16, 2, 4, 10.0, 0.002)
REFUTED = 30.0, 0.02
"""The best rival of a choice goes on, too, but not to all rows where it misfits by more than so many times the best and
so much more on the last rung."""
STEPPED = 3
"""Of so many the neighbours are tried, where the rest is not."""
ROUNDS, STARTS, CLIMBED = 8, 4, 1
"""Improving: from the best STARTS, at most ROUNDS times, on the rows of the rung CLIMBED."""


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


def narrow(
    rank: Rank,
    draft: Draft,
    choices: tuple[Choice, ...],
    rows: int,
    order: Sequence[tuple[Any, ...]] = (),
    beaten: Callable[[float], bool] = lambda _: False,
    *,
    near: bool = False,
) -> tuple[list[Scored], list[Trial]]:
    """(the combinations that got as far as all `rows`, best first; the trials of the others, by misfit).

    order   all values, the best first, where they were tried on few rows already: not done again
    beaten  whether none needs to run on all rows where the best on a quarter of them misfits by so much
    near    whether, where `order` has some of the values only, those one step from the best of these are enough
    """
    contenders, complete = combinations(draft, choices)
    if complete:
        contenders = _first_in(order, contenders, RUNGS[0].keep)
        if near and len(contenders) > RUNGS[0].keep:
            close = [one for one in contenders if any(_steps(one[0], values) < 2 for values in order[:STEPPED])]
            contenders = close or contenders
    dropped: list[Trial] = []
    scored: list[Scored] = []
    if not complete:
        scored = _climb(rank, choices, contenders, rows)
        contenders = _again(scored)
    for rung in RUNGS if complete else RUNGS[CLIMBED:]:
        some = max(rung.least, rows // rung.share)
        if len(contenders) <= rung.few or some >= rows:
            continue
        if not scored or scored[0][0].rows != some:
            scored = rank(contenders, some)
        best = scored[0][0].fit
        if 4 * some >= rows and beaten(best):
            return scored[:1], sorted([*dropped, *(trial for trial, _ in scored[1:])], key=lambda trial: trial.fit)
        limit = rung.times * best + rung.more
        rivals = {_first_rival(scored, position) for position in range(len(choices))}
        if rung is RUNGS[-1]:
            rivals = {i for i in rivals if scored[i][0].fit <= REFUTED[0] * best + REFUTED[1]}
        passed = [i in rivals or (i < rung.keep and trial.fit <= limit) for i, (trial, _) in enumerate(scored)]
        dropped += [trial for (trial, _), go_on in zip(scored, passed, strict=True) if not go_on]
        scored = [one for one, go_on in zip(scored, passed, strict=True) if go_on]
        contenders = _again(scored)
    return rank(contenders, rows), sorted(dropped, key=lambda trial: trial.fit)


def _first_in(order: Sequence[tuple[Any, ...]], contenders: list[Combination], most: int) -> list[Combination]:
    """The `most` of `contenders` that come first in `order`, among them one with another value than the first for each
    choice; all where `order` does not have all."""
    places = {repr(values): i for i, values in enumerate(order)}
    if len(contenders) <= most or any(repr(values) not in places for values, _ in contenders):
        return contenders
    ordered = sorted(contenders, key=lambda one: places[repr(one[0])])
    best = ordered[0][0]
    others = [next((i for i, (v, _) in enumerate(ordered) if v[at] != own), 0) for at, own in enumerate(best)]
    likely = most - len(set(others))
    return [one for i, one in enumerate(ordered) if i < likely or i in others]


def _steps(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def _climb(rank: Rank, choices: tuple[Choice, ...], contenders: list[Combination], rows: int) -> list[Scored]:
    """`contenders` and what improving the best of them leads to, on the rows of the rung `CLIMBED`."""
    some = max(RUNGS[CLIMBED].least, rows // RUNGS[CLIMBED].share)
    pool = rank(contenders, some)
    seen = {repr(trial.values) for trial, _ in pool}
    improved: set[str] = set()
    for _ in range(ROUNDS):
        starts = [item for item in pool[:STARTS] if repr(item[0].values) not in improved]
        if not starts:
            break
        improved |= {repr(trial.values) for trial, _ in starts}
        fresh = [found for found in one_step_away(choices, _again(starts)) if repr(found[0]) not in seen]
        seen |= {repr(values) for values, _ in fresh}
        pool = sorted([*pool, *rank(fresh, some)], key=lambda item: item[0].fit)
    return pool


def _again(scored: list[Scored]) -> list[Combination]:
    return [(trial.values, candidate) for trial, candidate in scored]


def _first_rival(ranked: list[Scored], position: int) -> int:
    """Where the best trial stands whose value at `position` is another than the first's; 0 when there is none.

    It goes on whatever its rank: evidence is a comparison, and wants both sides on the same rows.
    """
    best = ranked[0][0].values[position]
    return next((i for i, (trial, _) in enumerate(ranked) if trial.values[position] != best), 0)
