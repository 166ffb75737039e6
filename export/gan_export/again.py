"""The generator that a file was exported from, once more: for `gan-export verify`.

The file's contract says what the checkpoint itself may not: the spec, the key and the weights that were taken, or how a
live module was called. Code is never run on a file's word: `module` has to name it again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.fields import from_json
from gan_core.files.archive import is_archive, read_contract
from gan_core.files.model_file import sha256_of
from gan_core.said import OnnxAnswers, parse_inputs
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.adopt import original_of
from gan_export.answers import Answers, LiveAnswers
from gan_export.artefact import read_onnx
from gan_export.draft import Draft
from gan_export.families.registry import family_drafts
from gan_export.forensics import fitting
from gan_export.identify import Identified, identify, source_of
from gan_export.live.source import KEY, live_source
from gan_export.proof.prove import ADOPTED
from gan_export.reading import Reading, read_checkpoint
from gan_export.recompute import RECOMPUTED
from gan_export.source import Source, check_checkpoint
from gan_export.told import by_image
from gan_export.understanding.understand import drafts_with_spec

log = logging.getLogger(__name__)


def source_again(model: Path, ckpt: Path | None, module: str | None) -> Source:
    """The generator in `ckpt`, or of the code `module`, as the file `model` understands it.

    A stranger's checkpoint need not be understood again: only the tensors come from it. Raises `GanportError` when
    model, checkpoint and code do not belong together.
    """
    contract = read_contract(model) if is_archive(model) else read_onnx(model)[1]
    try:
        return _source_of(model, contract, ckpt, module)
    except GanportError as error:
        file, said = contract.source.get("file"), contract.source.get("sha256")
        if ckpt is None or not said or not ckpt.is_file() or sha256_of(ckpt) == said:
            raise
        why = str(error).removeprefix(f"{ckpt}: ")
        raise GanportError(
            f"{ckpt} is another file than {file}, which {model} was exported from: {why}",
            hint=f"name the checkpoint with the sha256 {said}",
        ) from error


def _source_of(model: Path, contract: Contract, ckpt: Path | None, module: str | None) -> Source:
    """`source_again`, for the contract of `model`."""
    if ADOPTED in contract.source and ckpt is not None and module is None:
        return original_of(ckpt, from_json(OnnxAnswers, contract.source[ADOPTED]))
    if contract.spec is None and KEY in contract.source:
        return _live_again(contract, ckpt, module)
    if module is not None or ckpt is None:
        raise GanportError(f"{model} was not exported from code, `module` has no place", hint="leave out `module`")
    n = int(contract.source.get(RECOMPUTED, 0))
    if contract.spec is None or "family" not in contract.source:
        return source_of(identify(ckpt, Answers(recompute_stats=bool(n) or None, stats_latents=n or None)))
    key, raw = contract.source.get("key") or None, contract.weights == "raw"
    reading = read_checkpoint(check_checkpoint(ckpt), key=key, raw=raw, said_by="spec")
    if reading.ours is not None:
        return source_of(Identified(reading, None))
    return source_of(Identified(reading, replace(_drafted(reading, contract), recomputed=n)))


def _drafted(reading: Reading, contract: Contract) -> Draft:
    """The spec of the contract with the file's weights: as its family makes them of the tensors, where it has one."""
    spec = GeneratorSpec.from_json(contract.spec)
    for draft in family_drafts(reading.tensors, reading.settings, reading.modules):
        kinds = {layer.kind for layer in spec.layers}
        if draft.spec.interface.input is not None and "batch_norm" not in kinds:
            draft = by_image(draft)
        if draft.family == contract.source["family"] and draft.spec.tensors() == spec.tensors():
            return replace(draft, spec=spec)
    return fitting(drafts_with_spec(reading.tensors, spec))


def _live_again(contract: Contract, ckpt: Path | None, module: str | None) -> Source:
    said, of_code = contract.source[KEY], contract.source.get("format") == "code"
    if module is None:
        raise GanportError(
            f"the file was exported from code, {said.get('module')}, expected `module` to compare with it",
            hint=f"`module` path/to/{said.get('module')}",
        )
    if ckpt is None and not of_code:
        raise GanportError(
            f"the file was exported with the weights in {contract.source.get('file')}, expected `ckpt` beside `module`",
            hint="`ckpt` FILE",
        )
    if ckpt is not None and of_code:
        raise GanportError(
            "the file was exported with the weights that the code comes with, `ckpt` has no place",
            hint="leave out `ckpt`",
        )
    source = live_source(ckpt, _answers_of(contract, module))
    if source.provenance[KEY]["sha256"] != said.get("sha256"):
        log.info("the code is not the one that was exported: its sha256 differs")
    return source


def _answers_of(contract: Contract, module: str) -> Answers:
    """What was said and found at the export. Raises `ContractError` for a contract that does not say it."""
    interface, said = contract.interface, contract.source[KEY]
    try:
        output = said["output"]
        live = LiveAnswers(
            module=module,
            args=said["args"],
            constants=tuple((str(name), str(text)) for name, text in said["constants"].items()),
            inputs=parse_inputs(said["inputs"]),
            z_dim=interface.z_dim or None,
            z_shape=said["z_shape"],
            n_classes=interface.n_classes,
            output_index=output if isinstance(output, int) else None,
            output_key=output if isinstance(output, str) else None,
            noise=said["noise"],
        )
        return Answers(
            key=contract.source.get("key") or None,
            raw=contract.weights == "raw" and contract.source.get("format") != "code",
            image=interface.image,
            latent=interface.latent if interface.input is None else None,
            output=said["output_activation"],
            value_range=interface.value_range,
            recompute_stats=RECOMPUTED in contract.source or None,
            stats_latents=contract.source.get(RECOMPUTED),
            live=live,
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ContractError(
            f"the file does not say how its module was called: {error!r}", hint="export it again"
        ) from error
