"""What a checkpoint is: reading, understanding and forensics put together, and the user's word above all three.

    identify(path, answers) → Identified: what was read, the draft, and which of its choices still want an answer
    source_of(identified)   → the `Source` the exporters take

A draft is exported unasked when nothing in it is a mere assumption that could change the images:
see `gan_export.assumptions`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_core.errors import GanportError
from gan_core.interface import IMAGE_CHANNELS
from gan_core.spec.generator_spec import GeneratorSpec, SpecError, flat
from gan_export.answers import OUTPUT_RANGES, Answers
from gan_export.assumptions import AS_YOU_SAID, answers_of, assumptions_of, doubts_of, unanswered
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics import investigate
from gan_export.hypotheses.discriminator import Discriminator, label_beside, read_discriminators, sloped
from gan_export.hypotheses.judging import judge
from gan_export.reading import Reading, read_checkpoint
from gan_export.reading.beside import Beside, discriminator_of, file_beside
from gan_export.reading.roles import tokens
from gan_export.source import Source, check_checkpoint, check_file, from_spec
from gan_export.understanding.edit import find_choice, replaced, with_value
from gan_export.understanding.heads import Told
from gan_export.understanding.listed import LISTED, check_listed
from gan_export.understanding.module_tree import Tree
from gan_export.understanding.slots import SIGMOID
from gan_export.understanding.understand import draft_candidates, draft_with_spec
from gan_trainer.networks.build import SpecGenerator, build

MAX_SPEC_BYTES = 16 << 20
DECODER_END = "decoders of variational autoencoders end in a sigmoid"
DECODER_ODDS = 30.0
"""Of those that were looked at, 19 of 20 end in a sigmoid."""
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
        super().__init__(f"{reading.path}: {error}", hint=error.hint, code=error.code)
        self.reading = reading


def check_possible(identified: Identified) -> None:
    """Raises `GanportError` when the file contradicts every chain: no answer makes one right."""
    draft = identified.draft
    if draft is not None and draft.contradiction is not None:
        raise GanportError(
            f"{identified.reading.path}: {draft.contradiction}",
            hint="give the network's own code: `module` file.py:Class; a chain that you know to be right: `spec`",
        )


def identify(path: Path, answers: Answers, on_note: Callable[[str], None] = log.info) -> Identified:
    """Finds out what the checkpoint at `path` is.

    Raises `GanportError` when it cannot be read, `NotUnderstoodError` when it holds no generator that is a chain.
    """
    path = check_checkpoint(path)
    try:
        reading = read_checkpoint(path, key=answers.key, raw=answers.raw, trust_pickle=answers.trust_pickle)
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
        draft = draft_with_spec(reading.tensors, read_spec(answers.spec))
    else:
        try:
            draft = _drafted(reading, answers, on_note)
        except GanportError as error:
            raise NotUnderstoodError(reading, error) from error
    return Identified(reading, draft, answers)


def _drafted(reading: Reading, answers: Answers, on_note: Callable[[str], None]) -> Draft:
    """The likeliest draft of the tensors, investigated; the other structures beside it."""
    beside = discriminator_of(reading, answers.discriminator)
    if beside is not None:
        on_note(f"the discriminator is asked, too: {beside.where}")
    drafts = drafts_of(reading, beside, answers)
    draft = investigate(drafts, on_note=on_note)
    tree = Tree(reading.tensors, reading.modules)
    checked = bool(tree) and draft.family != LISTED and answers.output is None

    def may_be(other: Draft) -> bool:
        try:
            if checked:
                check_listed(other, tree)
        except GanportError:
            return False
        return True

    if draft.contradiction is None:
        draft = _judged(draft, drafts, beside, may_be)
    if checked:
        check_listed(draft, tree)
    others = tuple(dataclasses.replace(other, structure=None) for other in draft.rivals or drafts)
    draft = dataclasses.replace(draft, rivals=tuple(d for d in others if _structure(d) != _structure(draft)))
    return draft if answers.pick is None else _picked(draft, answers.pick)


def drafts_of(reading: Reading, beside: Beside | None, answers: Answers = Answers()) -> list[Draft]:
    """What the tensors may be by their names and shapes, the likeliest first; no statistics are asked.

    Raises `GanportError` when they are no generator that is a chain.
    """
    if reading.positional and all(name.isdecimal() for name in reading.tensors):
        raise GanportError(
            f"{len(reading.tensors)} tensors without names, and no network with the same shapes to name them",
            hint="give the network's own code: `module` file.py:Class",
        )
    told = _told(reading, answers, beside)
    found = draft_candidates(reading.tensors, modules=reading.modules, image=answers.image, told=told)
    drafts = [draft for draft in found if draft.spec.interface.channels in IMAGE_CHANNELS]
    decoder = reading.decoder is not None or _called_decoder(reading)
    drafts = [_answered(_as_decoder(draft) if decoder else draft, answers) for draft in drafts]
    if not drafts:
        raise GanportError(
            f"it draws images of {found[0].spec.interface.channels} channels, expected 1, 3 (RGB) or 4 (RGBA)",
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
        taken = replaced(taken, dataclasses.replace(choice, evidence=Evidence.PROVED, reason=AS_YOU_SAID))
    return dataclasses.replace(taken, ranked=draft.ranked, fit=draft.fit, fits=draft.fits)


RIVALS = 6
"""Other structures that are drawn where nothing settles it."""


def _told(reading: Reading, answers: Answers, beside: Beside | None) -> Told:
    """What the user, an encoder or a discriminator says of the generator's inputs."""
    if answers.z_dim is not None or answers.n_classes:
        return Told(answers.z_dim, answers.n_classes or 0, "your word")
    if reading.decoder is not None:
        return Told(reading.decoder.latent, reading.decoder.classes, "the encoder")
    if beside is not None and answers.n_classes is None:
        return Told(None, label_beside(beside.tensors, reading.tensors), "the discriminator")
    return Told()


def _judged(draft: Draft, drafts: Sequence[Draft], beside: Beside | None, may_be: Callable[[Draft], bool]) -> Draft:
    """`draft` with what nothing settled decided by the odds of whole generators, and another structure where that is
    likelier."""
    open_structure = any(c.field == "structure" and not c.evidence.settled for c in draft.choices)
    rivals: Sequence[Draft] = draft.rivals[:RIVALS] if open_structure else ()
    if open_structure and draft.fit is None:
        rivals = [investigate([other]) for other in drafts[1 : RIVALS + 1]]

    def ways(one: Draft) -> Sequence[Discriminator]:
        if beside is None:
            return ()
        found = read_discriminators(beside.tensors, one.spec.interface.image, one.spec.interface.n_classes)
        return sloped(found)

    judged = judge([draft, *rivals], ways, may_be)
    if beside is not None and not ways(judged):
        judged = dataclasses.replace(judged, notes=(*judged.notes, f"the discriminator of {beside.where} was not read"))
    return judged


def _called_decoder(reading: Reading) -> bool:
    """Whether the file, or what was chosen in it, is called a decoder or a variational autoencoder."""
    named = {*tokens(reading.path.stem), *tokens(reading.chosen.rpartition(".")[2])}
    return bool(named & {"decoder", "dec", "vae", "cvae"})


def _as_decoder(draft: Draft) -> Draft:
    """`draft` as the decoder of a variational autoencoder: z is N(0, 1), and a sigmoid nearly always ends it."""
    for choice in draft.choices:
        if choice.field == "latent" and not choice.evidence.settled:
            reason = "the prior of a variational autoencoder"
            draft = with_value(draft, choice, "normal", evidence=Evidence.STRONG, reason=reason)
        elif choice.field == "output" and choice.evidence is Evidence.NONE:
            draft = with_value(draft, choice, SIGMOID, evidence=Evidence.WEAK, reason=DECODER_END)
            draft = replaced(draft, dataclasses.replace(find_choice(draft, choice.layer, "output"), odds=DECODER_ODDS))
    return draft


def _structure(draft: Draft) -> Any:
    return next((choice.value for choice in draft.choices if choice.field == "structure"), None)


def source_of(identified: Identified) -> Source:
    """The generator as the exporters take it, with what it rests on in its assumptions.

    Raises `GanportError` for a checkpoint of ours whose weights do not fit its spec.
    """
    reading, draft = identified.reading, identified.draft
    provenance = provenance_of(reading)
    if reading.ours is not None:
        ours = reading.ours
        try:
            module = ours.module()
        except GanportError as error:
            raise GanportError(f"{reading.path}: {error}", hint=error.hint) from error
        return from_spec(ours.spec, module, weights=ours.which, provenance=provenance, training=ours.training)
    assert draft is not None
    return from_spec(
        draft.spec,
        module_of(draft),
        weights=reading.which,
        provenance=provenance | {"family": draft.family},
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
    """The draft's generator with its weights, in eval mode."""
    module = build(draft.spec)
    missing = module.load_state_dict(flat(draft.weights), strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return module.eval()


def read_spec(path: Path) -> GeneratorSpec:
    """The spec in a file. Raises `GanportError` when there is none."""
    path = check_file(path, "spec")
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise GanportError(
            f"{path} has {path.stat().st_size:,} bytes, expected a spec of at most {MAX_SPEC_BYTES:,}",
            hint="`spec` takes the JSON that gan-export inspect writes; the checkpoint goes to `ckpt`",
        )
    try:
        return GeneratorSpec.loads(path.read_bytes())
    except SpecError as error:
        raise GanportError(f"{path}: {error}", hint=error.hint) from error


def _answered(draft: Draft, answers: Answers) -> Draft:
    """The draft with every answer in its place, as proved: nobody knows better than the user."""
    for choice in draft.choices:
        value: Any = None
        if choice.field == "latent" and answers.latent is not None:
            value = answers.latent
        elif choice.field == "value_range" and (answers.value_range or answers.output):
            value = list(answers.value_range or OUTPUT_RANGES[answers.output or "identity"])
        elif choice.field == "output" and (answers.output is not None or answers.value_range is not None):
            value_range = answers.value_range or OUTPUT_RANGES[answers.output or "identity"]
            shape = choice.value if answers.output is None else {"name": answers.output, "slope": None}
            value = shape | {"value_range": list(value_range)}
        elif choice.field == "activation" and answers.activation is not None and not choice.evidence.settled:
            value = answers.activation if choice.evidence is Evidence.NONE else None
        if value is not None:
            draft = with_value(draft, choice, value, evidence=Evidence.PROVED, reason=AS_YOU_SAID)
    return draft


def _refuse_answers(said_by: Path, answers: Answers, *also: str) -> None:
    """An answer about something that `said_by`, a checkpoint of ours or a spec, settles is an error, not ignored."""
    for said in (*also, "image", "latent", "output", "value_range", "activation", "z_dim", "n_classes", "pick"):
        if getattr(answers, said) is not None:
            name = {"output": "output_activation", "n_classes": "classes"}.get(said, said)
            raise GanportError(f"{said_by} says all of this itself, `{name}` has no place", hint=f"leave out `{name}`")
