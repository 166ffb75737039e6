"""A live module once more, as an artefact's contract says that it was called: for `gan-export verify`.

The code is never run on a file's word: `--module` has to name it again. All else is in the contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_export.answers import Answers, LiveAnswers
from gan_export.live.source import KEY, live_source
from gan_export.options import parse_inputs
from gan_export.source import Source
from gan_serve.terminal import console


def is_live(contract: Contract) -> bool:
    """Whether the file was exported from a live module."""
    return contract.spec is None and KEY in contract.source


def source_again(contract: Contract, module: str | None, ckpt: Path | None) -> Source:
    """The source of a file that was exported from a live module. Raises `GanportError` when it cannot be had again."""
    said = contract.source[KEY]
    if module is None:
        raise GanportError(
            f"the file was exported from code, {said.get('module')}, expected --module to compare with it",
            hint=f"--module path/to/{said.get('module')}",
        )
    if ckpt is None and contract.source.get("format") != "code":
        raise GanportError(
            f"the file was exported with the weights in {contract.source.get('file')}, expected --ckpt beside --module",
            hint="--ckpt FILE",
        )
    if ckpt is not None and contract.source.get("format") == "code":
        raise GanportError(
            "the file was exported with the weights that the code comes with, --ckpt has no place",
            hint="leave out --ckpt",
        )
    source = live_source(ckpt, answers_of(contract, said, module))
    if source.provenance[KEY]["sha256"] != said.get("sha256"):
        console.note("the code is not the one that was exported: its sha256 differs")
    return source


def answers_of(contract: Contract, said: dict[str, Any], module: str) -> Answers:
    """What was said and found at the export. Raises `ContractError` for a contract that does not say it."""
    try:
        output = said["output"]
        live = LiveAnswers(
            module=module,
            args=said["args"],
            constants=tuple((str(name), str(text)) for name, text in said["constants"].items()),
            inputs=parse_inputs(said["inputs"]),
            z_dim=contract.interface.z_dim,
            z_shape=said["z_shape"],
            n_classes=contract.interface.n_classes,
            output_index=output if isinstance(output, int) else None,
            output_key=output if isinstance(output, str) else None,
            noise=said["noise"],
        )
        return Answers(
            key=contract.source.get("key") or None,
            raw=contract.weights == "raw" and contract.source.get("format") != "code",
            image=contract.interface.image,
            latent=contract.interface.latent,
            output=said["output_activation"],
            value_range=contract.interface.value_range,
            live=live,
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ContractError(
            f"the file does not say how its module was called: {error!r}", hint="export it again"
        ) from error
