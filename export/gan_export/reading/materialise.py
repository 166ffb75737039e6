"""From the chosen lazy tensors to float32 on the CPU: device tags dropped, dtypes converted, numbers checked."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.lazy import LazyTensor

MAX_GROWTH = 8
"""Times the file's size that the weights may take in memory: fp16 doubles, shared storages count once each."""
SLACK_BYTES = 16 << 20


def materialise(lazy: dict[str, LazyTensor], file_bytes: int, source: str) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors, notes): floating tensors as float32, others (counters, masks) as they are; contiguous, on the CPU.

    `source` names the place in the file, for errors. Raises `GanportError` for quantised, complex, empty-handed and
    non-finite tensors, and for claims that the file's size belies.
    """
    for name, tensor in lazy.items():
        if tensor.problem:
            raise GanportError(f"{name} cannot be read: {tensor.problem}", hint=_hint(tensor))
        if tensor.dtype.is_complex:
            raise GanportError(
                f"{name} is complex ({tensor.dtype}), ganport exports real weights", hint="save real tensors"
            )
        quantised = not tensor.dtype.is_floating_point and len(tensor.shape) in (2, 4) and name.endswith("weight")
        if quantised and tensor.dtype != torch.bool:
            raise GanportError(f"{name} is quantised ({_short(tensor.dtype)})", hint="export the unquantised weights")
    claimed = sum(tensor.numel * 4 for tensor in lazy.values())
    if claimed > MAX_GROWTH * file_bytes + SLACK_BYTES:
        raise GanportError(
            f"its tensors would take {claimed / 2**30:.3g} GiB, from a file of {file_bytes:,} bytes",
            hint="the file is made to exhaust memory; get it again from its author",
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in lazy.items():
        loaded = tensor.load()
        if loaded.dtype.is_floating_point:
            loaded = _checked(name, loaded, source)
        tensors[name] = loaded
    return tensors, _notes(lazy)


def _checked(name: str, tensor: Tensor, source: str) -> Tensor:
    single = tensor.to(torch.float32)
    bad = int((~torch.isfinite(single)).sum())
    if bad:
        where = f" at {source}" if source else ""
        if not torch.isfinite(tensor.to(torch.float64)).all():
            what = "NaN" if bool(torch.isnan(single).any()) else "infinite"
            raise GanportError(
                f"{name}{where} holds {bad:,} {what} of {single.numel():,} numbers: the training diverged",
                hint="take an earlier checkpoint of the run",
            )
        raise GanportError(
            f"{name}{where} holds {bad:,} numbers beyond float32", hint="ganport exports float32 weights"
        )
    return single


def _notes(lazy: dict[str, LazyTensor]) -> list[str]:
    notes = []
    kinds = Counter(tensor.dtype for tensor in lazy.values() if tensor.dtype.is_floating_point)
    for dtype, count in kinds.items():
        if dtype != torch.float32:
            notes.append(f"{count} tensors converted from {_short(dtype)} to float32")
    devices = sorted({tensor.location for tensor in lazy.values() if tensor.location not in ("cpu", "")})
    if devices:
        shown = ", ".join(device if device.isprintable() else ascii(device) for device in devices[:4])
        notes.append(f"saved on {shown}, read to the CPU")
    return notes


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _hint(tensor: LazyTensor) -> str:
    if "quantised" in tensor.problem:
        return "export the unquantised weights, and quantise the artefact: gan-export onnx … --precision int8"
    return "save the plain tensors: state_dict() after moving the network to the CPU"
