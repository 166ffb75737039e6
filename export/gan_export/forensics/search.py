"""The search: from BatchNorm to BatchNorm, each segment's choices against what its BatchNorm remembers.

The statistic at a BatchNorm depends on nothing behind it. So the choices that stand before the first are found first;
then, with those held, the choices between the first and the second, starting from what arrived at the first; and so on.
Within a segment, `trials.narrow` says which combinations of values are run on all rows.
Combinations that fit about equally well are carried on side by side (a beam), and the next BatchNorms decide.
Candidates of different structure run in the same beam and share the work on what they have in common.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.runner import SOME_CHANNELS, Runner, side_by_side
from gan_export.forensics.screening import LEAST_CHANNELS, Entrant, screen, ties, worse
from gan_export.forensics.shortcuts import MOST, SOME
from gan_export.forensics.statistics import ELEMENTS, GOOD, contradicted, rows_between, witnesses
from gan_export.forensics.trials import (
    RUNGS,
    Combination,
    Rank,
    Scored,
    Trial,
    drafts_of,
    narrow,
    neighbours,
    shown_at,
    values_to_try,
)
from gan_export.understanding.edit import with_value
from gan_export.understanding.units import needs_code

log = logging.getLogger(__name__)

BEAM = 4
SLACK, MORE = 0.002, 2.0
"""Fits up to TIE times the best plus SLACK, or MORE times the best where that is less, are carried on side by side."""
TOLD = 128
"""Latents that are run on where no chain fits."""
LUCKY = 2.0
"""So many times worse than on all samples may a misfit be on a quarter of them."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """What was tried for the choices between two BatchNorms.

    chosen  the trial this state went on with
    trials  one of each kind, the best first
    near    gives the trials of `chosen` with one value exchanged for a near-identical one; run where they are asked for
    """

    choices: tuple[Choice, ...]
    chosen: Trial
    trials: tuple[Trial, ...]
    near: Callable[[], tuple[Trial, ...]] = field(default=tuple, compare=False, repr=False)


@dataclass(frozen=True)
class State:
    """Candidates that agree up to a witness: what arrives there, the misfits so far, and what was tried on the way.

    drafts   (number among the drafts that were given, draft with what was chosen so far), best first
    factors  how many times each misfit counts: more where few people size a network so
    """

    drafts: tuple[tuple[int, Draft], ...]
    steps: tuple[Step, ...] = ()
    factors: tuple[float, ...] = ()
    arrived: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def fits(self) -> tuple[float, ...]:
        return tuple(step.chosen.fit for step in self.steps)

    @property
    def counted(self) -> tuple[float, ...]:
        """The misfits, each as often as its structure is unusual."""
        return tuple(fit * factor for fit, factor in zip(self.fits, self.factors, strict=True))

    @property
    def factor(self) -> float:
        """How many times the next misfit counts."""
        structure = self.drafts[0][1].structure
        return structure.stretch if structure else 1.0


@dataclass(frozen=True)
class Outcome:
    """The states that reached the last witness, best first, and how far each given draft fell behind.

    margins  number of a draft → how many times worse than the best it was where it was last seen (1: never left it),
             misfits counted as in `State.counted`
    cut      whether structures were left out of the lists unseen
    """

    states: tuple[State, ...]
    margins: dict[int, float]
    cut: bool = False


def search(drafts: Sequence[Draft], samples: int, seed: int, on_note: Note, width: int = BEAM) -> Outcome:
    """Runs `drafts` from witness to witness, at most `width` states side by side. They have equally many witnesses, at
    least one.

    Raises `GanportError` when no candidate can be run.
    """
    pool = _Pool(list(drafts))
    beam = [State(tuple(enumerate(drafts)))]
    count = len(witnesses(drafts[0]))
    for k in range(count):
        if all(state.drafts[0][1].structure is not None and contradicted(state.fits) for state in beam):
            arrived = beam[0].arrived  # no chain fits: what is behind only has to be told by how much
            beam = [replace(beam[0], arrived=None if arrived is None else arrived[:TOLD])]
        else:
            beam = pool.varied(beam, k)
        log.debug("BatchNorm %d of %d: %d structures", k + 1, count, sum(len(state.drafts) for state in beam))
        groups = _screened([group for state in beam for group in _groups(state, k)], k, samples, seed, pool)
        log.debug("BatchNorm %d of %d: the best %d of these", k + 1, count, len(groups))
        reached: list[State] = []
        for group, order in groups:
            reached += _extend(group, k, samples, seed, order, reached)
        if not reached:
            raise needs_code("no candidate network can be run as far as its BatchNorms")
        merged = sorted(_merge(reached, k), key=lambda state: sum(state.counted))
        for state in reversed(merged):
            pool.margins |= {number: worse(state.counted, merged[0].counted) for number, _ in state.drafts}
        beam = [state for state in merged[:width] if ties(state.counted, merged[0].counted, SLACK, MORE)]
        if k + 1 < count:
            beam = [_advance(_compared(state, k, samples, seed), k, samples, seed) for state in beam]
        else:  # nothing is run from here, and of the best alone the evidence is told
            beam[0] = _compared(beam[0], k, samples, seed)
        on_note(f"BatchNorm {k + 1}: mismatch {beam[0].fits[-1]:.2g}")
    beam = pool.varied(beam, count)
    return Outcome(tuple(beam), pool.margins, pool.cut)


class _Pool:
    """The drafts by number, and what became of them; more come in as the search goes on."""

    def __init__(self, drafts: list[Draft]) -> None:
        self.count = len(drafts)
        self.margins: dict[int, float] = {}
        self.cut = False

    def varied(self, beam: list[State], k: int) -> list[State]:
        """`beam` with each draft replaced by its variants up to BatchNorm `k`, which take over what was chosen."""
        return [self._varied(state, k) for state in beam]

    def _varied(self, state: State, k: int) -> State:
        drafts: dict[object, tuple[int, Draft]] = {}
        seen: set[Hashable] = set()
        choices = tuple(choice for step in state.steps for choice in step.choices)
        values = tuple(value for step in state.steps for value in step.chosen.values)
        for number, draft in state.drafts:
            if draft.structure is None:
                drafts[number] = number, draft
                continue
            shared = draft.structure.variants.shared(k)
            if shared in seen:
                self.margins.pop(number, None)
                continue
            seen.add(shared)
            found = draft.structure.variants.drafts(k)
            if not found:
                drafts[number] = number, draft
                continue
            self.margins.pop(number, None)
            for variant in found:
                for _, chosen in drafts_of(_as_said(draft, variant), choices, [values]):
                    self.cut |= chosen.structure is not None and chosen.structure.cut
                    drafts[variant.spec.layers, variant.spec.interface.n_classes] = self.count, chosen
                    self.count += 1
        return replace(state, drafts=tuple(sorted(drafts.values(), key=_rank)))


def _as_said(draft: Draft, variant: Draft) -> Draft:
    """`variant` with what the user said of `draft`, and what is known of its training."""
    variant = variant.trained_as(draft)
    for said in draft.choices:
        if said.field in ("latent", "output") and said.evidence is Evidence.PROVED:
            choice = next(c for c in variant.choices if c.field == said.field)
            variant = with_value(variant, choice, said.value, evidence=said.evidence, reason=said.reason)
    return variant


def _screened(
    groups: list[State], k: int, samples: int, seed: int, pool: _Pool
) -> list[tuple[State, list[tuple[Any, ...]]]]:
    """The groups worth a full search, with `Entrant.order`; the margins of the others go to `pool`."""
    entrants = {
        id(entrant): (entrant, group)
        for group in groups
        if (
            entrant := Entrant(
                group.drafts[0][1],
                _open_choices(group.drafts[0][1], k),
                group.counted,
                group.factor,
                group.arrived,
            )
        )
    }
    left = screen([entrant for entrant, _ in entrants.values()], k, samples, seed)
    best, last = left[0], k + 1 == len(witnesses(left[0].draft))
    if best.rated and not last and contradicted((*entrants[id(best)][1].fits, best.fit / LUCKY)):
        left = [best]  # the next BatchNorms are only told of one
    for entrant, group in entrants.values():
        if entrant not in left:
            pool.margins |= {number: worse(entrant.all_counted, left[0].all_counted) for number, _ in group.drafts}
    return [(entrants[id(entrant)][1], entrant.order) for entrant in left]


def _extend(
    state: State, k: int, samples: int, seed: int, order: list[tuple[Any, ...]], others: Sequence[State]
) -> list[State]:
    """The best continuations of `state`, whose drafts agree up to witness `k`, at most BEAM; see `_advance`. `order` is
    that of the values on the fewest rows, where it is known; `others` continue states before this one."""
    _, draft = state.drafts[0]
    rank, rows = _ranker(state, k, samples, seed)
    choices = _open_choices(draft, k)
    best = min((other.counted for other in others), key=sum, default=None)

    def beaten(fit: float) -> bool:
        return best is not None and not ties((*state.counted, state.factor * fit / LUCKY), best, SLACK, MORE)

    final, dropped = narrow(rank, draft, choices, rows, order, beaten, near=bool(others))
    trials = (*(trial for trial, _ in final), *dropped)
    following: list[State] = []
    for trial in [trial for trial, _ in final[:BEAM] if ties([trial.fit], [final[0][0].fit], SLACK, MORE)]:
        step = Step(choices, trial, trials)
        drafts = tuple(
            (number, next((made for _, made in drafts_of(other, choices, [trial.values])), other))
            for number, other in state.drafts
        )
        following.append(
            replace(state, drafts=drafts, steps=(*state.steps, step), factors=(*state.factors, state.factor))
        )
    return following


def _ranker(state: State, k: int, samples: int, seed: int) -> tuple[Rank, int]:
    """(a function that runs combinations on from `state` to witness `k`, how many rows there are)."""
    start, stop, rows = _span(state, k, samples)

    def rank(contenders: list[Combination], some: int) -> list[Scored]:
        channels = SOME_CHANNELS if some > max(RUNGS[0].least, rows // 32) else LEAST_CHANNELS
        few = SOME if some < rows else MOST

        def run(part: Sequence[Combination]) -> list[Scored]:
            runner = Runner(state.arrived, start, some, seed, rough=some < rows, few=few, channels=channels)
            scored: list[Scored] = []
            for values, candidate in part:
                kl = runner.misfits(candidate, stop)
                scored.append((Trial(values, float(kl.median()), some, kl), candidate))
            return scored

        return sorted(side_by_side(run, contenders), key=lambda item: item[0].fit)

    return rank, rows


def _compared(state: State, k: int, samples: int, seed: int) -> State:
    """`state`, extended to witness `k`, with the trials near the chosen one, where that is the best of its step; run at
    once where what arrives fills memory."""
    step = state.steps[-1]
    if step.chosen is not step.trials[0] or step.chosen.fit > GOOD:  # which of two that do not fit is no matter
        return state

    @functools.cache
    def near() -> tuple[Trial, ...]:
        rank, rows = _ranker(state, k, samples, seed)
        return tuple(t for t, _ in rank(neighbours(state.drafts[0][1], step.choices, step.chosen.values), rows))

    if state.arrived is not None and state.arrived.numel() > ELEMENTS:
        near()
    return replace(state, steps=(*state.steps[:-1], replace(step, near=near)))


def _advance(state: State, k: int, samples: int, seed: int) -> State:
    """`state`, extended to witness `k`, with what arrives there; done for the few that go on, as it fills memory."""
    start, stop, rows = _span(state, k, samples)
    return replace(state, arrived=Runner(state.arrived, start, rows, seed).run(state.drafts[0][1], stop))


def _span(state: State, k: int, samples: int) -> tuple[int, int, int]:
    """(layer to start from, layer of witness `k`, rows to run) for a state at witness `k - 1`."""
    _, draft = state.drafts[0]
    norms = witnesses(draft)
    start = norms[k - 1] if k else 0
    return (
        start,
        norms[k],
        rows_between(draft, start, norms[k], samples if state.arrived is None else len(state.arrived)),
    )


def _open_choices(draft: Draft, k: int) -> tuple[Choice, ...]:
    """The choices that show at witness `k` first and have more than one value to try."""
    norms = witnesses(draft)
    return tuple(c for c in draft.choices if shown_at(norms, c) == k and len(values_to_try(c)) > 1)


def _groups(state: State, k: int) -> list[State]:
    """`state` split into candidates that have the same layers and the same choices up to witness `k`."""
    groups: dict[str, State] = {}
    for number, draft in state.drafts:
        stop = witnesses(draft)[k]
        options = [(c.layer, c.field, values_to_try(c)) for c in _open_choices(draft, k)]
        key = repr((stop, draft.spec.shapes[: stop + 1], draft.spec.layers[:stop], options))
        known = groups.get(key)
        groups[key] = replace(state, drafts=(*(known.drafts if known else ()), (number, draft)))
    return list(groups.values())


def _merge(states: list[State], k: int) -> list[State]:
    """Joins states whose candidates agree up to BatchNorm `k`."""
    merged: dict[object, State] = {}
    for state in states:
        _, draft = state.drafts[0]
        stop = witnesses(draft)[k]
        used = tuple(id(tensor) for owned in draft.weights[: stop + 1] for tensor in owned.values())
        key = (draft.spec.interface.latent, draft.spec.layers[:stop], used)
        known = merged.get(key)
        merged[key] = (
            state if known is None else replace(known, drafts=tuple(sorted((*known.drafts, *state.drafts), key=_rank)))
        )
    return list(merged.values())


def _rank(numbered: tuple[int, Draft]) -> tuple[float, int]:
    number, draft = numbered
    return draft.structure.cost if draft.structure else -1.0, number
