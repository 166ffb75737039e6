"""A `Source` as a TorchScript file: traced, frozen, its contract in the archive.

The archive is rewritten after torch has made it: its debug records name files of this machine, and its class names
count the exports of this process. What is left depends on the checkpoint alone.
"""

from __future__ import annotations

import dataclasses
import io
import re
import zipfile
from typing import Any

import torch
from torch import Tensor

from gan_core.contract import Contract
from gan_core.errors import JobError
from gan_core.files.archive import EXTRA, entries_sha256
from gan_export import jit
from gan_export.fold_modules import fold_modules
from gan_export.source import Source
from gan_export.wrapper import example_inputs, export_module

_MANGLED = re.compile(rb"___torch_mangle_\d+")
_PLAIN = b"generator"
_ALIGNMENT = 64
"""torch aligns tensors to 64 bytes in the archive, so that they can be mapped."""
_LOCAL_HEADER_BYTES = 30
"""A zip entry's local header, before its name. (APPNOTE.TXT 4.3.7)"""


def to_torchscript(source: Source) -> tuple[Any, tuple[str, ...]]:
    """The scripted module of `source`, and the names of the passes applied.

    forward(z) or forward(z, label) → (image, pixels), as in ONNX. Raises `JobError` when torch cannot trace it.
    """
    module = export_module(source)
    passes: tuple[str, ...] = ("freeze",)
    if source.spec is not None and fold_modules(module.generator):
        passes = ("fold_norms", "freeze")
    try:
        traced = jit.trace_frozen(module, example_inputs(source))
        if hasattr(module.generator, "symbolic") and not _draws(traced, example_inputs(source, 2)):
            setattr(module.generator, "symbolic", True)  # noqa: B010 (a plain attribute, which mypy takes for a part)
            traced = jit.trace_frozen(module, example_inputs(source))
        return traced, passes
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        raise JobError(
            f"torch.jit cannot trace this generator: {type(error).__name__}: {lines[0][:200]}",
            hint="run again with --debug for torch's own report",
        ) from error


def _draws(traced: Any, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a traced module draws as many images as it is given latents, whatever it was traced with."""
    try:
        with jit.plain_execution(), torch.no_grad():
            return len(traced(*inputs)[0]) == len(inputs[0])
    except Exception:  # a shape that does not fit
        return False


def to_archive(module: Any, contract: Contract) -> bytes:
    """The bytes of a TorchScript file that carries `contract`: one extra file for each of its keys."""
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(jit.save_bytes(module))) as archive:
        for name in archive.namelist():
            if name.endswith(".debug_pkl") or name.endswith("/.data/serialization_id"):
                continue
            data = archive.read(name)
            if name.endswith((".py", "/data.pkl")):
                data = _MANGLED.sub(_PLAIN, data)
            parts[_MANGLED.sub(_PLAIN, name.encode()).decode()] = data
    root = next(iter(parts)).split("/")[0]
    contract = dataclasses.replace(contract, graph_sha256=entries_sha256(parts))
    for key, text in contract.to_metadata().items():
        parts[f"{root}/{EXTRA}/{key}"] = text.encode("utf-8")
    return stored_zip(parts)


def stored_zip(parts: dict[str, bytes]) -> bytes:
    """An uncompressed zip with fixed dates, each entry's data aligned as torch does it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)  # dated 1980, whatever the clock says
            offset = buffer.tell() + _LOCAL_HEADER_BYTES + len(name.encode())
            padding = -(offset + 4) % _ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"\0" * padding
            archive.writestr(info, data)
    return buffer.getvalue()
