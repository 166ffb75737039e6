"""`gan-export verify --ckpt`: the PyTorch side of a file that was exported before.

A stranger's checkpoint need not be understood again: the file's contract names the spec, the key and the weights that
were taken, and only the tensors come from the checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.archive import is_archive, read_contract
from gan_export.answers import Answers
from gan_export.artefact import read_onnx
from gan_export.identify import Identified, identify, source_of
from gan_export.live.again import is_live, source_again
from gan_export.reading import read_checkpoint
from gan_export.source import Source
from gan_export.understanding import draft_with_spec


def source_for(model: Path, ckpt: Path | None, module: str | None = None) -> Source:
    """The generator in `ckpt`, under the spec that `model` carries; for a live one, that of the code `module`.

    Raises `GanportError` when they do not fit.
    """
    contract = read_contract(model) if is_archive(model) else read_onnx(model)[1]
    if is_live(contract):
        return source_again(contract, module, ckpt)
    if module is not None:
        raise GanportError(f"{model} was not exported from code, --module has no place", hint="leave out --module")
    assert ckpt is not None
    if contract.spec is None or "family" not in contract.source:
        return source_of(identify(ckpt, Answers()))
    reading = read_checkpoint(ckpt, key=contract.source.get("key") or None, raw=contract.weights == "raw")
    if reading.ours is not None:
        return source_of(Identified(reading, None))
    return source_of(Identified(reading, draft_with_spec(reading.tensors, contract.spec)))
