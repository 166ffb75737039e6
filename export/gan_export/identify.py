"""What a checkpoint is: reading, understanding and forensics put together, and the user's word above all three.

    identify(path, answers) → Identified: what was read, the draft, and which of its choices still want an answer
    source_of(identified)   → the `Source` the exporters take

A draft is exported unasked when nothing in it is a mere assumption that could change the images:
see `gan_export.assumptions`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.spec.generator_spec import flat
from gan_core.spec.layers import LabelOneHot
from gan_export.answers import Answers, parameter_of
from gan_export.assumptions import AS_YOU_SAID, answers_of, assumptions_of, doubts_of, unanswered, with_code
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics import best_of, fitting, investigate
from gan_export.forensics.statistics import GOOD
from gan_export.forensics.train_mode import Anew, forgotten, restated, statistics_anew
from gan_export.hypotheses.companion import Companion
from gan_export.hypotheses.judging import judge
from gan_export.hypotheses.likeness import RealOf, real_of
from gan_export.reading import Reading, SaidBy, read_checkpoint
from gan_export.reading.authors_code import facts_of
from gan_export.reading.authors_words import Fact
from gan_export.reading.beside import Beside, discriminator_of, file_beside
from gan_export.recompute import latents_said, recompute, recomputed_from, recomputed_words
from gan_export.source import Source, check_checkpoint, from_spec, read_spec
from gan_export.told import answered, as_decoder, as_trained, companions_of, heard, is_decoder, normed, told_of
from gan_export.understanding.edit import replaced
from gan_export.understanding.listed import LISTED, check_listed
from gan_export.understanding.module_tree import Tree
from gan_export.understanding.understand import draft_candidates, drafts_with_spec
from gan_export.understanding.units import OWN_CODE, batches_of
from gan_trainer.networks.generator import SpecGenerator, build

SOME_IMAGE = (1, 8, 8)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identified:
    """A checkpoint and what it was found to be, with `answers` to what it does not say itself.

    `draft` is None for a checkpoint that gan-train wrote.
    """

    reading: Reading
    draft: Draft | None
    answers: Answers = field(default_factory=Answers)

    @property
    def unanswered(self) -> tuple[Choice, ...]:
        """What an export has to ask about."""
        return () if self.draft is None else unanswered(self.draft)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why its images are likely wrong; empty where nothing speaks against it."""
        return () if self.draft is None else doubts_of(self.draft)


class NotUnderstoodError(GanportError):
    """The tensors were read, and are no chain from a latent to an image that a spec can say."""

    def __init__(self, reading: Reading, error: GanportError) -> None:
        super().__init__(f"{reading.path}: {error}", hint=with_code(error.hint or "", reading), code=error.code)
        self.reading = reading


def check_possible(identified: Identified) -> None:
    """Raises `GanportError` when the file contradicts every chain: no answer makes one right."""
    draft = identified.draft
    if draft is not None and draft.contradiction is not None:
        raise GanportError(
            f"{identified.reading.path}: {draft.contradiction}",
            hint=with_code(f"{OWN_CODE}; a chain that you know to be right: `spec`", identified.reading),
        )


def identify(path: Path, answers: Answers, on_note: Callable[[str], None] = log.info) -> Identified:
    """Finds out what the checkpoint at `path` is.

    Raises `GanportError` when it cannot be read, `NotUnderstoodError` when it holds no generator that is a chain.
    """
    path = check_checkpoint(path)
    log.debug("reading %s", path.name)
    try:
        said_by: SaidBy = "file" if answers.spec is None else "spec"
        reading = read_checkpoint(
            path, key=answers.key, raw=answers.raw, trust_pickle=answers.trust_pickle, said_by=said_by
        )
    except GanportError as error:
        beside = file_beside(path, "generator") if error.code == "discriminator" else None
        if beside is None:
            raise
        hint = f"the generator is probably {beside.name}, beside it"
        raise GanportError(str(error), hint=hint, code=error.code) from error
    if reading.ours is not None:
        _refuse_answers(path, answers, "spec")
        return Identified(reading, None, answers)
    if answers.spec is not None:
        _refuse_answers(answers.spec, answers)
        draft = fitting(drafts_with_spec(reading.tensors, read_spec(answers.spec)))
        draft = restated(draft, statistics_anew([draft], answers, on_note))
    else:
        real = real_of(answers.like)
        real(SOME_IMAGE)  # what is wrong with it is said before the search
        try:
            draft = _drafted(reading, answers, real, on_note)
        except GanportError as error:
            raise NotUnderstoodError(reading, error) from error
    return Identified(reading, draft, answers)


def _drafted(reading: Reading, answers: Answers, real: RealOf, on_note: Callable[[str], None]) -> Draft:
    """The likeliest draft of the tensors, investigated; the other structures beside it."""
    beside = discriminator_of(reading, answers.discriminator)
    facts, note = facts_of(reading.tensors, reading.path, answers.source)
    if facts or note:
        on_note(note or f"the author's code is read, too: {facts[0].where}")
    said = [fact for fact in facts if fact.place]
    drafts = drafts_of(reading, beside, answers, said=said)
    beside = None if drafts[0].knows_classes else beside
    named = answers.discriminator is not None
    asked = "the encoder" if reading.encoder and not named else beside and f"the discriminator ({beside.where})"
    if asked and (drafts[0].open_choices or drafts[0].family == "chain"):
        on_note(f"{asked} is asked, too")
    ways = functools.cache(functools.partial(companions_of, reading, beside, named=named))
    anew = statistics_anew(drafts, answers, on_note, decoder=is_decoder(reading))
    if anew is not None:
        kept = forgotten(reading.tensors, drafts[0])
        drafts = drafts_of(reading, beside, answers, tensors=kept, recomputed=anew.latents, said=said)
    if is_decoder(reading):
        drafts = as_trained(drafts, ways, on_note)
    draft = investigate(drafts, on_note=log.debug)
    if anew is None and said and any(fit > GOOD for fit in draft.fits):  # the code may not be this file's
        unsaid = [each.trained_as(drafts[0]) for each in drafts_of(reading, beside, answers)]
        if [each.spec for each in unsaid] != [each.spec for each in drafts]:
            other = investigate(unsaid, on_note=log.debug)
            if other.fits and max(other.fits) < max(draft.fits):
                draft, drafts = other, unsaid
    if anew is None and isinstance(drafts[0].spec.layers[0], LabelOneHot):
        turned = drafts_of(reading, beside, answers, said=said, label_first=True)
        if turned[0].notes != drafts[0].notes:  # of two branches, either's values may come first
            number, draft = best_of([draft, investigate(turned, on_note=log.debug)])
            drafts = (drafts, turned)[number]
    if anew is not None and any(fit > GOOD for fit in draft.fits):
        kept = forgotten(reading.tensors, drafts[0], every=True)
        drafts = drafts_of(reading, beside, answers, tensors=kept, recomputed=anew.latents, said=said)
        draft = investigate(drafts)
    tree = Tree(reading.tensors, reading.modules)
    checked = bool(tree) and draft.family != LISTED and answers.output is None and not draft.knows_classes

    def may_be(other: Draft) -> bool:
        try:
            if checked:
                check_listed(other, tree)
        except GanportError:
            return False
        return True

    if draft.contradiction is None and draft.spec.interface.input is None:
        draft = _judged(draft, drafts, lambda one: heard(one, facts, reading.tensors), anew, ways, may_be, real)
        if asked and not ways(draft.spec.interface.image, draft.spec.interface.n_classes):
            draft = replace(draft, notes=(*draft.notes, f"{asked} was not read"))
    if checked:
        check_listed(draft, tree)
    others = tuple(replace(other, structure=None) for other in draft.rivals or drafts)
    draft = replace(draft, rivals=tuple(d for d in others if d.structure_said != draft.structure_said))
    return draft if answers.pick is None else _picked(draft, answers.pick)


def drafts_of(
    reading: Reading,
    beside: Beside | None,
    answers: Answers = Answers(),
    *,
    tensors: Mapping[str, Tensor] | None = None,
    recomputed: int = 0,
    said: Sequence[Fact] = (),
    label_first: bool = False,
) -> list[Draft]:
    """What the tensors may be by their names and shapes, the likeliest first; no statistics are asked.

    tensors     in the place of the file's
    recomputed  how many latents their running statistics are to be computed again from
    said        what the author's code says of places; left out where no generator comes of it
    label_first as in `draft_candidates`

    Raises `GanportError` when they are no generator that is a chain.
    """
    if reading.positional and all(name.isdecimal() for name in reading.tensors):
        raise GanportError(
            f"{len(reading.tensors)} tensors without names, and no network with the same shapes to name them",
            hint="give the network's own code: `module` file.py:Class",
        )
    told, given = told_of(reading, answers, beside), tensors or reading.tensors
    about: Any = {"modules": reading.modules, "settings": reading.settings, "image": answers.image, "told": told}
    about["label_first"] = label_first
    try:
        found = draft_candidates(given, **about, said=said)
    except GanportError:
        if not said:
            raise
        found = draft_candidates(given, **about)
    images = [each for each in found if each.spec.interface.channels in IMAGE_CHANNELS]
    drafts = [replace(each, recomputed=recomputed, batches=batches_of(given)) for each in images]
    drafts = [answered(as_decoder(each) if is_decoder(reading) else each, answers) for each in drafts]
    drafts = [normed(each, answers.image_stats) for each in drafts]
    if not drafts:
        raise GanportError(
            f"it generates images of {found[0].spec.interface.channels} channels, expected 1, 3 (RGB) or 4 (RGBA)",
            hint="give the network's own code, with the channels to keep: `module` file.py:Class",
        )
    return drafts


def _picked(draft: Draft, row: int) -> Draft:
    """Row `row` of the sheet of candidates, as the user says it is right."""
    if row > len(draft.ranked):
        count = len(draft.ranked)
        raise GanportError(
            f"`pick` names row {row}, expected one of 1 to {count}" if count else "`pick` has nothing to choose from",
            hint="the sheet of candidates has the numbers" if count else "nothing is left to choose: leave out `pick`",
        )
    taken = draft.ranked[row - 1].draft
    for choice in taken.open_choices:
        taken = replaced(taken, replace(choice, evidence=Evidence.PROVED, reason=AS_YOU_SAID))
    return replace(taken, ranked=draft.ranked, fit=draft.fit, fits=draft.fits)


RIVALS = 6
"""Other structures that are drawn where nothing settles it."""
USUAL, USUAL_SAMPLES = 3, 64
"""Usual structures beside those that the statistics left, where they fit nothing, and latents for their choices."""


def _judged(
    draft: Draft,
    drafts: Sequence[Draft],
    code: Callable[[Draft], Draft],
    anew: Anew | None,
    ways: Callable[[tuple[int, int, int], int], Sequence[Companion]],
    may_be: Callable[[Draft], bool],
    real: RealOf,
) -> Draft:
    """`draft` with what nothing settled decided by the odds of whole generators, and another structure where that is
    likelier. `code` adds what the author's code says; `ways` gives those to run the network beside on images (C, H, W)
    of so many classes."""
    structure = draft.structure_choice
    open_structure = structure is not None and not structure.evidence.settled
    rivals = list(draft.rivals[:RIVALS]) if open_structure else []
    if open_structure and (draft.fit is None or max(draft.fits) > GOOD):  # no statistics tell: what is usual does
        known = [each.structure_said for each in (draft, *rivals)]
        others = [other for other in drafts if other.structure_said not in known][
            : RIVALS if draft.fit is None else USUAL
        ]
        for number, other in enumerate(others, 1):  # as it is, with no other structures searched for
            log.debug("another usual structure, %d of %d", number, len(others))
            found = investigate([replace(other, structure=None)], samples=USUAL_SAMPLES, width=1, weighed=False)
            rivals.append(replace(found, structure=other.structure))
    draft, *rivals = [restated(code(one), anew) for one in (draft, *rivals)]

    def companions(one: Draft) -> Sequence[Companion]:
        return ways(one.spec.interface.image, one.spec.interface.n_classes)

    return judge([draft, *rivals], companions, may_be, real)


def source_of(identified: Identified) -> Source:
    """The generator as the exporters take it, with what it rests on in its assumptions.

    Raises `GanportError` for a checkpoint of ours whose weights do not fit its spec.
    """
    reading, draft = identified.reading, identified.draft
    provenance = provenance_of(reading)
    if reading.ours is not None:
        ours = reading.ours
        try:
            module, n = ours.module(), latents_said(identified.answers, ours.spec.interface)
            if n:
                recompute(module.eval(), ours.spec.interface, n)
        except GanportError as error:
            raise GanportError(f"{reading.path}: {error}", hint=error.hint) from error
        about = {"weights": ours.which, "training": ours.training, "answers": recomputed_words(n)}
        return from_spec(ours.spec, module, provenance=provenance | recomputed_from(n), **about)
    assert draft is not None
    return from_spec(
        draft.spec,
        module_of(draft),
        weights=reading.which,
        provenance=provenance | {"family": draft.family} | recomputed_from(draft.recomputed),
        assumptions=assumptions_of(draft),
        answers=answers_of(draft, identified.answers),
        doubts=doubts_of(draft),
    )


def provenance_of(reading: Reading) -> dict[str, Any]:
    """Which file, and what in it, a source was read from; no folders."""
    return {
        "file": reading.path.name,
        "sha256": reading.sha256,
        "size_bytes": reading.size_bytes,
        "format": reading.format,
        "key": reading.chosen,
    }


def module_of(draft: Draft) -> SpecGenerator:
    """The draft's generator with its weights, in eval mode, its running statistics computed again where the draft says
    so."""
    module = build(draft.spec)
    missing = module.load_state_dict(flat(draft.weights), strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    module.eval()
    if draft.recomputed:
        recompute(module, draft.spec.interface, draft.recomputed)
    return module


def _refuse_answers(said_by: Path, answers: Answers, *also: str) -> None:
    """An answer about something that `said_by`, a checkpoint of ours or a spec, settles is an error, not ignored."""
    settled = ("image", "latent", "output", "value_range", "activation", "z_dim", "n_classes")
    for said in (*also, *settled, "discriminator", "source", "like", "image_stats", "pick"):
        if getattr(answers, said) is not None:
            name = parameter_of(said)
            raise GanportError(f"{said_by} says all of this itself, `{name}` has no place", hint=f"leave out `{name}`")
