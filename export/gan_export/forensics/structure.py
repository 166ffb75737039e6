"""The verdict on a draft's structure: what the search found, against everything that it tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gan_export.draft import Draft, Evidence, Skip
from gan_export.forensics.divergence import GOOD, contradicted
from gan_export.forensics.evidence import CLEAR
from gan_export.forensics.search import Outcome
from gan_export.forensics.statistics import witnesses

SOUND = 0.004
"""Below this a misfit is no reason to doubt the layers before its BatchNorm, whatever the others are."""
OUT_OF_LINE = 10.0
"""A misfit above SOUND and this many times the best of the BatchNorms before it says that something there is wrong."""
MARGIN = 4.0
"""Other structures that cost more than the best by more than this are not shown."""
RIVALS = 12


def judge_structure(draft: Draft, number: int, outcome: Outcome) -> Draft:
    """`draft` with its "structure" choice judged against the other drafts, which become its `rivals`."""
    choice = next((c for c in draft.choices if c.field == "structure"), None)
    if choice is None:
        return draft
    fits = outcome.states[0].fits
    beside = [other for n, other in outcome.states[0].drafts if n != number]
    same = {n for n, _ in outcome.states[0].drafts}
    closest = min((margin for n, margin in outcome.margins.items() if n not in same), default=None)
    evidence, said = Evidence.STRONG, []
    if choice.evidence is Evidence.PROVED:
        evidence = Evidence.PROVED
    elif closest is not None:
        said.append(f"the next other structure fits the statistics {closest:.3g} times worse, rare ones counted up")
        family = draft.structure is None and choice.evidence is Evidence.STRONG and number == 0
        evidence = Evidence.STRONG if closest >= CLEAR or family else Evidence.WEAK
    if beside and evidence is not Evidence.PROVED:
        said.append(f"{len(beside)} more differ only where no BatchNorm remembers")
        if draft.structure is None:
            settled = choice.evidence is Evidence.STRONG
        else:
            settled = draft.structure.usual and not any(d.structure is None or d.structure.usual for d in beside)
        if settled and draft.structure is not None:
            said[-1] += ", none of them usual"
        evidence = evidence if settled else Evidence.WEAK
    if draft.structure is not None and not draft.structure.listed and evidence is Evidence.STRONG:
        evidence = Evidence.WEAK
        said.append("nobody is known to have written such strides and paddings")
    if outcome.cut and evidence is Evidence.STRONG:
        evidence = Evidence.WEAK
        said.append("there are more structures than were tried")
    if draft.skip and not _answered(draft.skip, fits):
        evidence = Evidence.WEAK
        said.append(draft.skip.reason)
    if out_of_line(fits):
        evidence = Evidence.WEAK
        k = out_of_line(fits)[0]
        worse = (
            f"far worse ({fits[k]:.2g}) than those before it ({min(fits[:k]):.2g})" if k else f"nothing ({fits[k]:.2g})"
        )
        said.append(f"BatchNorm {k + 1} fits {worse}")
    reason = "; ".join(part for part in (choice.reason, *said) if part)
    updated = replace(choice, evidence=evidence, reason=reason or "shapes allow no other")
    return replace(
        draft,
        choices=tuple(updated if c is choice else c for c in draft.choices),
        rivals=_rivals(draft, beside, outcome) or draft.rivals,
    )


def unwitnessed(draft: Draft) -> Draft:
    """`draft`, for which no BatchNorm speaks: a doubt stays."""
    if draft.skip is None:
        return draft
    choices = tuple(
        replace(c, evidence=Evidence.WEAK, reason=f"{c.reason}; {draft.skip.reason}") if c.field == "structure" else c
        for c in draft.choices
    )
    return replace(draft, choices=choices, contradiction=contradiction(draft, ()))


def out_of_line(fits: Sequence[float]) -> list[int]:
    """The BatchNorms that misfit though the ones before them fit, or that nothing fits."""
    return [k for k, fit in enumerate(fits) if fit > GOOD or (k and SOUND < fit > OUT_OF_LINE * min(fits[:k]))]


def contradiction(draft: Draft, fits: Sequence[float]) -> str | None:
    """Why `draft` cannot be the network, or None.

    Either the first BatchNorms fit, so law, weights and statistics belong together, and a later one fits no chain; or
    the names say that it is none, and no BatchNorm speaks for it.
    """
    norms = witnesses(draft)
    if draft.structure is not None and contradicted(fits):
        listed = ", ".join(f"{k + 1} (layer {norms[k]}): {fit:.2g}" for k, fit in enumerate(fits) if fit > GOOD)
        missing = "its names say a residual network" if draft.skip and draft.skip.told else "such as a skip"
        return (
            f"no chain of these layers brings what BatchNorm {listed} remembers, though the ones before fit: "
            f"something is missing between them, {missing}"
        )
    if draft.skip and draft.skip.told and not _answered(draft.skip, fits):
        return draft.skip.reason
    return None


def _answered(skip: Skip, fits: Sequence[float]) -> bool:
    """Whether the BatchNorms behind the block with the skip remember what the chain brings them."""
    behind = fits[skip.witness :]
    return bool(behind) and max(behind) <= SOUND and not out_of_line(fits)


def _rivals(draft: Draft, beside: list[Draft], outcome: Outcome) -> tuple[Draft, ...]:
    """The other structures to show: those with the same trace, then those of the other states, likeliest first."""
    found = [other for other in beside if _cost(other) <= _cost(draft) + MARGIN]
    found += [state.drafts[0][1] for state in outcome.states[1:]]
    return tuple(replace(other, structure=None) for other in found[:RIVALS])


def _cost(draft: Draft) -> float:
    return draft.structure.cost if draft.structure else 0.0
