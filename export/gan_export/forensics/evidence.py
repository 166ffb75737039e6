"""What the search found, as evidence for each choice: the thresholds and the words.

The thresholds were set on 200 random generators; docs/forensics.md has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.screening import FLOOR
from gan_export.forensics.search import Outcome, State, Step
from gan_export.forensics.statistics import GOOD, witnesses
from gan_export.forensics.trials import Trial, alike, same, segment_of, values_to_try
from gan_export.understanding.edit import with_choice

CLEAR = 3.0
"""The next different value must fit this many times worse for strong evidence …"""
PAIRED = 6.0
"""… or worse channel by channel, by this many standard errors, and at least SOME times worse."""
SOME = 1.5
OVERRULES = 3.0
"""A near-identical value replaces the usual one when it fits better by this many standard errors, and SOME times."""
LEANS = 1.0
"""Between ReLU and LeakyReLU 0.01: by this many, it is said, and the evidence is weak."""
TOO_CLOSE = 2.0
"""A more usual value that fits worse by no more than this many standard errors is preferred."""
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
    for trial in sorted((chosen, *step.trials, *step.near()), key=lambda t: (t is not chosen, t.fit)):
        if not any(same(field, trial.values[position], known.values[position]) for known in best):
            best.append(trial)
    return [_rival(chosen, trial, position) for trial in best]


def settle(draft: Draft, state: State, outcome: Outcome) -> Draft:
    """`draft` with every choice that the statistics can show updated from `state`, the best of `outcome`."""
    norms = witnesses(draft)
    for k, step in enumerate(state.steps):
        for i, choice in enumerate(step.choices):
            draft = with_choice(draft, _judged(draft, choice, step, i, k, norms[k], outcome.states))
    return draft


def _judged(draft: Draft, choice: Choice, step: Step, i: int, k: int, layer: int, states: Sequence[State]) -> Choice:
    """`choice`, as it was before the search, as the trials of `step` show it: the `i`-th of witness `k`, at `layer`."""
    rivals = ranked_values(step, i)
    first = _taken(choice, rivals)
    rest = [rival for rival in rivals if rival is not first]
    near = [rival for rival in rest if alike(draft, choice, rival.value, first.value)]
    others = [rival for rival in rest if rival not in near]
    reason = f"the mismatch at BatchNorm {k + 1} (layer {layer}) is {first.fit:.2g}"
    evidence = Evidence.STRONG
    if first.fit > GOOD:
        evidence = Evidence.WEAK
        reason += ", and nothing tried fits well"
    if others:
        rival = others[0]
        ratio = max(rival.fit / max(first.fit, FLOOR), _later_ratio(states, k, i, step, rival.value))
        reason += f"; with {value_text(rival.value)} it is {rival.fit:.2g}"
        if not _clear(ratio, rival.paired - first.paired):
            evidence = Evidence.WEAK
            reason += ", which is too close to tell"
        elif ratio >= 10:
            reason += f", {ratio:.0f} times as much" if ratio < 1000 else ", more than 1000 times as much"
    if near:
        against_habit = first is not rivals[0]
        leaning = min(near, key=lambda rival: rival.paired)
        if against_habit and not _clear(near[0].fit / max(first.fit, FLOOR), near[0].paired - first.paired):
            evidence = Evidence.WEAK
            reason += f"; {value_text(near[0].value)} nearly ties ({near[0].fit:.2g})"
        elif choice.field == "activation" and leaning.paired - first.paired <= -LEANS:
            evidence = Evidence.WEAK
            reason += f"; {value_text(leaning.value)}, almost the same network but rarer, may be the truth"
        else:
            reason += f"; {' and '.join(value_text(r.value) for r in near[:2])} would be almost the same network"
    alternatives = _ranked(choice, first.value, [rival.value for rival in rivals])
    found = replace(choice, value=first.value, evidence=evidence, reason=reason, alternatives=alternatives, habit=False)
    return _with_family(choice, found) if choice.evidence is Evidence.STRONG else found


def _clear(ratio: float, paired: float) -> bool:
    """Whether a value that fits `ratio` times worse, by `paired` standard errors, is out of the question."""
    return ratio >= CLEAR or (ratio >= SOME and paired >= PAIRED)


def _taken(choice: Choice, rivals: list[Rival]) -> Rival:
    """The rival to believe: the first, unless a later one fits clearly better, or a more usual one about as well."""
    better = min(rivals, key=lambda rival: rival.paired)
    if better.paired <= -OVERRULES and rivals[0].fit >= SOME * max(better.fit, FLOOR):
        return better
    usual = values_to_try(choice)

    def place(rival: Rival) -> int:
        return next(i for i, value in enumerate(usual) if same(choice.field, value, rival.value))

    return min((r for r in rivals if r is rivals[0] or (r.paired < TOO_CLOSE and r.ratio < CLEAR)), key=place)


def _with_family(family: Choice, found: Choice) -> Choice:
    """What to believe when a known family's habit and the statistics speak: clear statistics, else the family."""
    if same(family.field, found.value, family.value):
        told = found.evidence is Evidence.WEAK
        return replace(found, evidence=Evidence.STRONG, reason=f"{found.reason}; {family.reason}", habit=told)
    if found.evidence is Evidence.WEAK:
        return replace(family, reason=f"{family.reason}; the statistics do not tell: {found.reason}")
    return replace(found, reason=f"{found.reason}; this overrules {value_text(family.value)}, {family.reason}")


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


def follow_habit(draft: Draft) -> Draft:
    """Choices that leave no trace: where nothing else speaks, as the author did in the nearest layer that shows it.

    A habit is no evidence: `gan_export.identify` says which of these are asked about.
    """
    count = len(witnesses(draft))
    for choice in draft.choices:
        if choice.field not in ("activation", "eps") or segment_of(draft, choice) < count or choice.evidence.settled:
            continue
        reason = "no BatchNorm stands after it that could remember it"
        if choice.evidence is Evidence.WEAK:
            draft = with_choice(draft, replace(choice, reason=f"{choice.reason}; {reason}"))
            continue
        shown = [
            other
            for other in draft.choices
            if other.field == choice.field and segment_of(draft, other) < count and other.value != IDENTITY
        ]
        value = choice.value
        if shown and any(same(choice.field, shown[-1].value, known) for known in values_to_try(choice)):
            value = shown[-1].value
            reason += f"; assumed as in layer {shown[-1].layer}: {value_text(value)}"
        alternatives = _ranked(choice, value, ())
        draft = with_choice(draft, replace(choice, value=value, reason=reason, alternatives=alternatives))
    return draft


def _rival(chosen: Trial, trial: Trial, i: int) -> Rival:
    both = chosen.kl[:: len(chosen.kl) // len(trial.kl)]  # a trial on few rows is of some channels
    difference = trial.kl.clamp(max=MOST_KL) - both.clamp(max=MOST_KL)
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


def value_text(value: Any) -> str:
    """A choice's value in a word or two."""
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if "mode" in value:
        return str(value["mode"])
    return value["name"] if value.get("slope") is None else f"{value['name']} {value['slope']:g}"
