"""What a checkpoint is: reading, understanding and forensics put together, and the user's word above all three.

    identify(path, answers) → Identified: what was read, the draft, and which of its choices still want an answer
    source_of(identified)   → the `Source` the exporters take

A draft is exported unasked when nothing in it is a mere assumption that could change the images:
see `gan_export.assumptions`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
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
from gan_export.reading import Reading, read_checkpoint
from gan_export.source import Source, check_checkpoint, check_file, from_spec
from gan_export.understanding.edit import with_value
from gan_export.understanding.listed import LISTED, check_listed
from gan_export.understanding.module_tree import Tree
from gan_export.understanding.understand import draft_candidates, draft_with_spec
from gan_trainer.networks.build import SpecGenerator, build

MAX_SPEC_BYTES = 16 << 20
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
        super().__init__(f"{reading.path}: {error}", hint=error.hint)
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
    reading = read_checkpoint(path, key=answers.key, raw=answers.raw, trust_pickle=answers.trust_pickle)
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
    if reading.positional and all(name.isdecimal() for name in reading.tensors):
        raise GanportError(
            f"{len(reading.tensors)} tensors without names, and no network with the same shapes to name them",
            hint="give the network's own code: `module` file.py:Class",
        )
    found = draft_candidates(reading.tensors, modules=reading.modules, image=answers.image)
    drafts = [_answered(draft, answers) for draft in found if draft.spec.interface.channels in IMAGE_CHANNELS]
    if not drafts:
        raise GanportError(
            f"it draws images of {found[0].spec.interface.channels} channels, expected 1, 3 (RGB) or 4 (RGBA)",
            hint="give the network's own code, with the channels to keep: `module` file.py:Class",
        )
    draft = investigate(drafts, on_note=on_note)
    tree = Tree(reading.tensors, reading.modules)
    if tree and draft.family != LISTED and answers.output is None:
        check_listed(draft, tree)
    others = draft.rivals or tuple(dataclasses.replace(other, structure=None) for other in drafts)
    return dataclasses.replace(draft, rivals=tuple(d for d in others if _structure(d) != _structure(draft)))


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
        if value is not None:
            draft = with_value(draft, choice, value, evidence=Evidence.PROVED, reason=AS_YOU_SAID)
    return draft


def _refuse_answers(said_by: Path, answers: Answers, *also: str) -> None:
    """An answer about something that `said_by`, a checkpoint of ours or a spec, settles is an error, not ignored."""
    for said in (*also, "image", "latent", "output", "value_range"):
        if getattr(answers, said) is not None:
            name = {"output": "output_activation"}.get(said, said)
            raise GanportError(f"{said_by} says all of this itself, `{name}` has no place", hint=f"leave out `{name}`")
