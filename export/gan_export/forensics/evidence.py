"""What the search found, as evidence for each choice: the thresholds and the words.

The thresholds were set on the random generators of `gan_bench.forensics_accuracy`; docs/forensics.md has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.candidates import alike, same, segment_of, values_to_try
from gan_export.forensics.search import FLOOR, Outcome, State, Step, Trial
from gan_export.forensics.statistics import witnesses
from gan_export.understanding.edit import with_value

GOOD = 0.02
"""A misfit below this is good: the right network leaves 0.0001 to 0.005."""
CLEAR = 3.0
"""The next different value must fit this many times worse for strong evidence …"""
PAIRED = 6.0
"""… or worse channel by channel, by this many standard errors."""
LEANS = 1.0
"""Between near-identical values habit decides; when the other one fits better by this many standard errors, it is said."""
OVERRULES = 3.0
"""By this many, it is taken."""


IDENTITY = {"name": "identity", "slope": None}
MOST_KL = 100.0
"""One channel's misfit counts up to this in the paired comparison."""


@dataclass(frozen=True)
class Rival:
    """A value that was tried, its misfit, how many times worse that is, and the paired t (positive: worse)."""

    value: Any
    fit: float
    ratio: float
    paired: float


def ranked_values(step: Step, position: int) -> list[Rival]:
    """The values tried for the choice at `position`, the chosen one first, the others by misfit."""
    chosen = step.chosen
    field = step.choices[position].field
    best: list[Trial] = []
    for trial in sorted((chosen, *step.trials, *step.nearby), key=lambda t: (t is not chosen, t.fit)):
        if not any(same(field, trial.values[position], known.values[position]) for known in best):
            best.append(trial)
    return [_rival(chosen, trial, position) for trial in best]


def settle(draft: Draft, state: State, outcome: Outcome) -> Draft:
    """`draft` with every choice that the statistics can show updated from `state`, the best of `outcome`."""
    found: dict[tuple[int | None, str], tuple[Step, int]] = {
        (choice.layer, choice.field): (step, i) for step in state.steps for i, choice in enumerate(step.choices)
    }
    norms = witnesses(draft)
    for choice in draft.choices:
        if (choice.layer, choice.field) in found:
            step, i = found[choice.layer, choice.field]
            k = state.steps.index(step)
            draft = _update(draft, _judged(draft, choice, step, i, k, norms[k], outcome.states))
    return _follow_habit(draft, len(norms))


def _judged(
    draft: Draft, choice: Choice, step: Step, i: int, k: int, layer: int, states: Sequence[State]
) -> Choice:
    rivals = ranked_values(step, i)
    first, fit = rivals[0], step.chosen.fit
    others = [rival for rival in rivals[1:] if not alike(draft, choice, rival.value, first.value)]
    near = [rival for rival in rivals[1:] if alike(draft, choice, rival.value, first.value)]
    alternatives = _ranked(choice, first.value, [r.value for r in rivals])
    place = f"what reaches BatchNorm {k + 1} (layer {layer}) misfits by {fit:.2g}"
    value, evidence = first.value, Evidence.STRONG
    leaning = min(near, key=lambda rival: rival.paired, default=None)
    remark = ""
    if leaning is not None and leaning.paired <= -OVERRULES:
        value = leaning.value
        remark = f"; {_text(first.value)} nearly ties ({_number(first.fit)})"
        alternatives = _ranked(choice, value, [r.value for r in rivals])
    elif leaning is not None and leaning.paired <= -LEANS:
        evidence = Evidence.WEAK
        remark = f"; {_text(leaning.value)} fits a little better ({_number(leaning.fit)}) and is the rarer one"
    elif near:
        remark = f"; {' and '.join(_text(rival.value) for rival in near[:2])} would be almost the same network"
    if not others:
        return replace(choice, value=value, evidence=evidence, reason=place + remark, alternatives=alternatives)
    rival = others[0]
    ratio = max(rival.ratio, _later_ratio(states, k, i, step, rival.value))
    place += f"; with {_text(rival.value)} by {_number(rival.fit)}"
    if fit > GOOD:
        evidence = Evidence.WEAK
        place += ", and nothing tried fits well"
    elif ratio < CLEAR and rival.paired < PAIRED:
        evidence = Evidence.WEAK
        place += ", which is too close to tell"
    elif ratio >= 10:
        place += f", {min(ratio, 9999):.0f} times as much"
    if choice.evidence is Evidence.STRONG and not same(choice.field, value, choice.value):
        if evidence is Evidence.WEAK:
            return replace(choice, reason=f"{choice.reason}; the statistics do not tell: {place}")
        remark += f"; this overrules: {choice.reason}, {_text(choice.value)}"
    elif choice.evidence is Evidence.STRONG:
        evidence = Evidence.STRONG
        remark += f"; {choice.reason}"
    return replace(choice, value=value, evidence=evidence, reason=place + remark, alternatives=alternatives)


def _later_ratio(states: Sequence[State], k: int, i: int, step: Step, value: Any) -> float:
    """How many times worse the best state with `value` is, over the witnesses from `k` on; 0 when none was carried on.

    A value that the beam carried past its own witness is judged by the later ones as well.
    """
    field = step.choices[i].field
    best = sum(states[0].fits[k:])
    for state in states[1:]:
        other = state.steps[k]
        if len(other.choices) == len(step.choices) and same(field, other.chosen.values[i], value):
            return sum(state.fits[k:]) / max(best, FLOOR)
    return 0.0


def _follow_habit(draft: Draft, count: int) -> Draft:
    """Choices that leave no trace take what the same author did in the nearest layer before that shows it."""
    for choice in draft.choices:
        if choice.field not in ("activation", "eps") or segment_of(draft, choice) < count or choice.evidence.settled:
            continue
        shown = [
            other
            for other in draft.choices
            if other.field == choice.field
            and other.evidence.settled
            and segment_of(draft, other) < count
            and other.value != IDENTITY
        ]
        reason = "no BatchNorm stands after it that could remember it"
        if shown and any(same(choice.field, shown[-1].value, value) for value in values_to_try(choice)):
            updated = with_value(draft, choice, shown[-1].value)
            reason += f"; assumed as in layer {shown[-1].layer}: {_text(shown[-1].value)}"
            choice = next(c for c in updated.choices if (c.layer, c.field) == (choice.layer, choice.field))
        draft = _update(draft, replace(choice, evidence=Evidence.NONE, reason=reason))
    return draft


def _update(draft: Draft, choice: Choice) -> Draft:
    """`draft` with `choice` in place of the one on the same layer and field, the spec following its value."""
    old = next(c for c in draft.choices if (c.layer, c.field) == (choice.layer, choice.field))
    draft = with_value(draft, old, choice.value)
    choices = tuple(choice if (c.layer, c.field) == (choice.layer, choice.field) else c for c in draft.choices)
    return replace(draft, choices=choices)


def _rival(chosen: Trial, trial: Trial, i: int) -> Rival:
    difference = trial.kl.clamp(max=MOST_KL) - chosen.kl.clamp(max=MOST_KL)
    spread = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    paired = float(difference.mean()) / spread if spread > 0 else 0.0
    return Rival(trial.values[i], trial.fit, trial.fit / max(chosen.fit, FLOOR), paired)


def _ranked(choice: Choice, taken: Any, best_first: Sequence[Any]) -> tuple[Any, ...]:
    """Every value but `taken`: those that were run by misfit, then the rest."""
    values: list[Any] = [taken]
    for value in (*best_first, *values_to_try(choice)):
        if not any(same(choice.field, value, known) for known in values):
            values.append(value)
    return tuple(values[1:])


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if "mode" in value:
        return str(value["mode"])
    return value["name"] if value.get("slope") is None else f"{value['name']} {value['slope']:g}"


def _number(fit: float) -> str:
    return f"{fit:.2g}"
