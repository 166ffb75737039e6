"""A .safetensors file as lazy tensors: the package validates the header, the numbers stay in the mapped file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from gan_export.reading import rebuild
from gan_export.reading.lazy import Blob, LazyTensor, Storage, strided
from gan_serve.archive import HINT
from gan_serve.errors import GanportError, MissingPackageError

MAX_HEADER = 100_000_000


def starts_safetensors(head: bytes, size: int) -> bool:
    if len(head) < 10:
        return False
    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= min(MAX_HEADER, size - 8) and head[8:9] == b"{"


_SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "U16": torch.uint16,
    "U32": torch.uint32, "U64": torch.uint64,
}  # fmt: skip


def load_safetensors(path: Path, data: memoryview) -> dict[str, LazyTensor]:
    """Name → tensor. The package validates the header (offsets, sizes, overlaps), the bytes stay in the mapped file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingPackageError("safetensors", "export", "reading a .safetensors file") from error
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
    except SafetensorError as error:
        raise GanportError(f"it is a damaged .safetensors file ({str(error)[:120]})", hint=HINT) from error
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    body = data[8 + length :]
    tensors: dict[str, LazyTensor] = {}
    for name in sorted(names, key=_natural):  # the format keeps no order: its writer sorts "10" before "2"
        entry = header[name]
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise GanportError(
                f"{name[:80]} has the dtype {entry['dtype']}, which ganport does not read", hint="save it as float32"
            )
        first, last = entry["data_offsets"]
        storage = Storage(Blob(last - first, "cpu", body[first:last]), dtype, 0, last - first)
        shape = tuple(entry["shape"])
        strides = tuple(torch.Size(shape[index + 1 :]).numel() for index in range(len(shape)))
        tensors[str(rebuild.safe_key(name))] = strided(storage, 0, shape, strides)
    return tensors


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts "layers.2" before "layers.10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdigit() and len(part) < 20 else (1, 0, part) for part in parts]
