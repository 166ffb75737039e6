"""The likeliest whole generator of a file, with the odds of everything in it that was open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gan_export.draft import STRUCTURE, Alternative, Choice, Draft, Evidence
from gan_export.forensics.statistics import GOOD
from gan_export.hypotheses.companion import Companion
from gan_export.hypotheses.likeness import RealOf
from gan_export.hypotheses.odds import Weighed, likeliest, weigh, weights
from gan_export.understanding.edit import find_choice, replaced

STRONG = 100.0
"""Odds from which evidence is called strong."""
MOST_ODDS = 1e4
"""The weights were fitted to some hundred generators: they cannot know of anything rarer than this."""
ONLY = "what the file lists allows nothing else that is usual"
TELLING = 0.7
"""What a measurement must add, in nats, to be named."""


def judge(
    drafts: Sequence[Draft],
    companions: Callable[[Draft], Sequence[Companion]],
    may_be: Callable[[Draft], bool] = lambda _: True,
    real: RealOf = lambda _: None,
) -> Draft:
    """The likeliest of `drafts` (structures over the same weights, the best first, their choices judged by what
    BatchNorms remember) with a value for everything open, the odds of each in its reason, and all that was drawn in
    `ranked`.

    `companions` gives the ways to run the network beside the generator on the images of a draft, `may_be` whether the
    file allows it, `real` the real images to compare with.
    """
    first = drafts[0]
    if not first.open_choices:
        return first
    every = likeliest(drafts)
    listed = [one for one in every if may_be(one.draft)]
    if not listed:
        return first
    shapes = {(draft.spec.interface.image, draft.spec.interface.n_classes): draft for draft in drafts}
    ways = [one for draft in shapes.values() for one in companions(draft)]
    weighed = weigh(listed, ways, real)
    shown = real(first.spec.interface.image)
    names = (ways[0].name if ways else "", "" if shown is None else f"the images of {shown.name}")
    best = weighed[0]
    draft = best.hypothesis.draft
    for aspect, words in best.hypothesis.taken.items():
        odds, rival = _odds(weighed, partial(_taken, aspect=aspect), words)
        if rival is None:
            if any(one.taken.get(aspect) != words for one in every):  # and all of those are refused by the file
                for layer, field in best.hypothesis.places[aspect]:
                    only = replace(find_choice(draft, layer, field), evidence=Evidence.STRONG, reason=ONLY, habit=False)
                    draft = replaced(draft, only)
            continue
        reason, habit = _reason(best, rival, words, odds, aspect, names)
        for layer, field in best.hypothesis.places[aspect]:
            draft = replaced(draft, _judged(find_choice(draft, layer, field), odds, reason, habit=habit))
    structure = draft.structure_choice
    if structure is not None and not structure.evidence.settled and len(drafts) > 1:
        odds, rival = _odds(weighed, _structure, structure.value)
        if rival is not None:
            reason, habit = _reason(best, rival, "this structure", odds, STRUCTURE, names)
            judged = _judged(structure, odds, reason, habit=habit)
            doubted = draft.skip is not None or any(fit > GOOD for fit in first.fits)
            draft = replaced(draft, replace(judged, evidence=Evidence.WEAK) if doubted else judged)
    whole = min(MOST_ODDS, best.likelihood / max(1.0 - best.likelihood, 1e-12))
    several = len({_structure(one) for one in weighed}) > 1
    ranked = tuple(
        Alternative(one.hypothesis.draft, one.likelihood, _words(one, structured=several)) for one in weighed
    )
    return replace(draft, ranked=(replace(ranked[0], draft=draft), *ranked[1:]), odds=whole, fit=first.fit)


def _odds(weighed: Sequence[Weighed], said: Callable[[Weighed], object], value: object) -> tuple[float, Weighed | None]:
    """(how much likelier `value` is than everything else that `said` gives, the likeliest that says otherwise)."""
    own = sum(one.likelihood for one in weighed if said(one) == value)
    rival = next((one for one in weighed if said(one) != value), None)
    others = sum(one.likelihood for one in weighed if said(one) != value)
    return min(MOST_ODDS, own / max(others, 1e-12)), rival


def _taken(one: Weighed, aspect: str) -> object:
    return one.hypothesis.taken.get(aspect)


def _structure(one: Weighed) -> object:
    return one.hypothesis.draft.structure_said


def _judged(choice: Choice, odds: float, reason: str, *, habit: bool) -> Choice:
    evidence = Evidence.STRONG if odds >= STRONG else Evidence.WEAK if odds >= 1.0 else Evidence.NONE
    said = reason if choice.evidence is Evidence.NONE or not choice.reason else f"{choice.reason}; {reason}"
    return replace(choice, evidence=evidence, odds=odds, reason=said, habit=habit)


USUAL = "what is usual"


def _reason(
    best: Weighed, rival: Weighed, words: str, odds: float, aspect: str, names: tuple[str, str]
) -> tuple[str, bool]:
    """(why `words` and not what the likeliest `rival` says, whether habit tells most of it). `names` are those of the
    network beside and of the real images."""
    other = "another" if aspect == STRUCTURE else rival.hypothesis.taken.get(aspect, "another")
    terms = (
        (names[0], best.by_companion - rival.by_companion),
        (names[1], best.by_likeness - rival.by_likeness),
        ("the look of the images", best.by_looks - rival.by_looks),
        (USUAL, weights().cost * (rival.hypothesis.cost - best.hypothesis.cost)),
    )
    telling = [name for name, nats in sorted(terms, key=lambda term: -term[1]) if nats > TELLING]
    by = f", by {' and '.join(telling)}" if telling else ""
    return f"{words} {odds_words(odds)} over {other}{by}", telling[:1] in ([], [USUAL])


def odds_words(odds: float) -> str:
    """ "240 : 1", "over 1000 : 1", "3 : 2"."""
    if odds >= 1000:
        return "over 1000 : 1"
    return f"{odds:.0f} : 1" if odds >= 10 else f"{odds:.1f} : 1"


def _words(one: Weighed, *, structured: bool) -> str:
    """What a hypothesis says of everything that is open, and of its structure where that is."""
    taken = [f"{name} {words}" for name, words in one.hypothesis.taken.items()]
    return ", ".join(([str(_structure(one))] if structured else []) + taken)


def percent(likelihood: float) -> str:
    """ "97 %", "under 1 %"."""
    return "under 1 %" if likelihood < 0.01 else "over 99 %" if likelihood > 0.99 else f"{100 * likelihood:.0f} %"
