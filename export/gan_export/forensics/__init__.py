"""Activations, eps, latent distribution and structure, found from the running statistics of the BatchNorms.

A trained BatchNorm remembers the mean and variance of what reached it. `investigate` takes drafts, runs candidate
networks on latents of candidate laws, and gives the best draft with evidence for every choice; `misfits_of` says how
well one draft fits (docs/forensics.md has the method and its limits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_core.errors import GanportError
from gan_core.spec.layers import BatchNorm
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.evidence import CLEAR, follow_habit, settle
from gan_export.forensics.screening import worse
from gan_export.forensics.search import BEAM, Note, search
from gan_export.forensics.statistics import (
    GOOD,
    branched,
    misfits_of,
    witnesses,
)
from gan_export.forensics.trials import same, segment_of
from gan_export.forensics.verdicts import (
    contradiction,
    distrusted,
    doubted,
    judge_output,
    judge_structure,
    like,
    shown_by,
    unwitnessed,
)
from gan_export.forensics.weighing import Weigher, reweigh, tied
from gan_export.understanding.edit import replaced

__all__ = ["fitting", "investigate", "misfits_of"]


SAMPLES, ENCODED = 2048, 512
"""Latents that are run, and those in place of an encoder's: of unknown distribution, more of them tell no more."""


def _silent(_: str) -> None:
    """Takes a note and drops it."""


def investigate(
    drafts: Sequence[Draft],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    on_note: Note = _silent,
    width: int = BEAM,
    weighed: bool = True,
) -> Draft:
    """The best of `drafts` (structural candidates over the same weights, the likeliest first) with its choices judged.

    Choices that are proved stay. The others take the value that fits best; `evidence`, `reason` (with the numbers) and
    `alternatives` (best first) say how sure that is; `fit` is the mean misfit over the BatchNorms, None without any.
    What is not about one choice becomes a note. At most `samples` latents are run, fewer where images are large, and
    `width` candidates that fit about equally well side by side; the result depends on the arguments only. Without
    `weighed` the choices have no odds, which take most of the time. `on_note` gets a line per BatchNorm while it works.

    Raises `GanportError` when `drafts` is empty or none of them can be run.
    """
    if not drafts:
        raise GanportError(
            "expected at least one drafted generator, got none", hint="draft_candidates makes them from a state_dict"
        )
    if samples < 2:
        raise GanportError(f"samples must be at least 2, got {samples}", hint="leave it out: 2048 are enough")
    if drafts[0].encoder_made:
        samples = min(samples, ENCODED)
    face = drafts[0].spec.interface
    if face.styles is not None or face.input is not None:  # nothing to ask, or no latents to ask with
        return drafts[0]
    with torch.inference_mode():
        if branched(drafts[0]):
            return judge_output(_fitted(drafts[0], samples, seed), seed)
        count = len(witnesses(drafts[0]))
        if not count:
            return judge_output(
                doubted(_noted(_without_trace(unwitnessed(drafts[0])), *_why_no_witness(drafts[0]))), seed
            )
        rivals = [draft for draft in drafts if len(witnesses(draft)) == count]
        outcome = search(rivals, samples, seed, on_note, width)
        best = outcome.states[0]
        number, draft = best.drafts[0]
        draft = replace(draft, recomputed=drafts[0].recomputed)  # a structure found here was made from the file
        draft = judge_structure(settle(draft, best, outcome), number, outcome)
        against = contradiction(draft, best.fits)
        if weighed:
            shown = shown_by(draft, best.fits, contradicted=against is not None)
            asked = {(c.layer, c.field): c for step in best.steps[:shown] for c in step.choices}
            weigher = Weigher(draft, samples, seed + samples)
            draft = tied(reweigh(draft, asked, weigher), weigher, shown)
        draft = follow_habit(_doubted_where(_overruled(drafts[0], draft), draft))
        draft = distrusted(
            replace(draft, fit=sum(best.fits) / count, fits=best.fits, contradiction=against),
            best.fits,
            samples,
            seed,
        )
        silent = sum(isinstance(layer, BatchNorm) for layer in draft.spec.layers) - count
        if silent and not draft.recomputed:
            draft = _noted(draft, f"{silent} BatchNorm{'s' * (silent > 1)} never saw training and cannot be asked")
        draft = judge_output(doubted(draft), seed)
        return replace(draft, rivals=tuple(like(rival, draft, seed) for rival in draft.rivals))


def best_of(found: Sequence[Draft]) -> tuple[int, Draft]:
    """(number, draft) of the one whose BatchNorms fit best, of at least two that were investigated: other orders of the
    same weights. Its structure is in doubt where the next fits about as well."""
    number, clearly = _first([draft.fits for draft in found])
    best = found[number]
    structure = best.structure_choice
    if structure is None or clearly:
        return number, best
    reason = f"{structure.reason}; either branch's values may come first"
    return number, replaced(best, replace(structure, evidence=Evidence.WEAK, reason=reason))


def fitting(drafts: Sequence[Draft]) -> Draft:
    """The one whose BatchNorms fit, of drafts with one spec: other orders of the same weights.

    Raises `GanportError` when the BatchNorms do not tell them apart.
    """
    if len(drafts) == 1:
        return drafts[0]
    number, clearly = _first([misfits_of(draft, ENCODED) for draft in drafts])
    if not clearly:
        raise GanportError(
            "the spec does not say whether the values of z or of the label come first, and the BatchNorms do not tell",
            hint="give the network's own code: `module` file.py:Class",
        )
    return drafts[number]


def _first(fits: Sequence[tuple[float, ...]]) -> tuple[int, bool]:
    """(number of the best of at least two, whether the next is clearly worse)."""
    number, second, *_ = sorted(range(len(fits)), key=lambda one: sum(fits[one]))
    return number, worse(fits[second], fits[number]) >= CLEAR


def _fitted(draft: Draft, samples: int, seed: int) -> Draft:
    """A network of a known family that is no chain, with how it fits as it stands: no other structure is tried."""
    fits = misfits_of(draft, samples, seed)
    bad = [f"{number} by {fit:.2g}" for number, fit in enumerate(fits, 1) if fit > GOOD]
    noted = (
        _noted(draft, f"BatchNorm {', '.join(bad)} does not fit (a good mismatch is under {GOOD:g})") if bad else draft
    )
    return replace(noted, fits=fits, fit=sum(fits) / len(fits) if fits else None)


def _overruled(before: Draft, after: Draft) -> set[str]:
    """The fields in which the statistics say otherwise than the code of a known family somewhere."""
    found = {(choice.layer, choice.field): choice for choice in after.choices}
    family = [choice for choice in before.choices if choice.habit]
    known = [(choice, found.get((choice.layer, choice.field))) for choice in family]
    return {was.field for was, now in known if now is not None and not same(was.field, was.value, now.value)}


def _doubted_where(fields: set[str], draft: Draft) -> Draft:
    """`draft`, of edited code of a known family, without its word on activations and eps, where they are of `fields`
    and no BatchNorm remembers them."""
    count = len(witnesses(draft))

    def judged(choice: Choice) -> Choice:
        seen = choice.field not in ("activation", "eps") or segment_of(draft, choice) < count
        if choice.field not in fields or seen or not choice.habit or choice.evidence is Evidence.PROVED:
            return choice
        return replace(choice, evidence=Evidence.NONE, reason=f"not {choice.reason} elsewhere", habit=False)

    return replace(draft, choices=tuple(judged(choice) for choice in draft.choices))


def _why_no_witness(draft: Draft) -> tuple[str, ...]:
    if draft.recomputed:
        return ()
    if any(isinstance(layer, BatchNorm) for layer in draft.spec.layers):
        return ("the BatchNorms never saw training (mean 0, variance 1), so their statistics show nothing",)
    return ("there is no BatchNorm in this file, so no statistics show what shapes cannot",)


def _without_trace(draft: Draft) -> Draft:
    reason = "no BatchNorm remembers anything that would show it"

    def judged(choice: Choice) -> Choice:
        if choice.evidence is not Evidence.NONE or choice.field in ("structure", "output"):
            return choice
        return replace(choice, reason=f"{choice.reason}; {reason}" if choice.reason else reason)

    return replace(draft, choices=tuple(judged(choice) for choice in draft.choices))


def _noted(draft: Draft, *notes: str) -> Draft:
    return replace(draft, notes=(*draft.notes, *notes))
