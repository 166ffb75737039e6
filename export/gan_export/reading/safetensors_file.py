"""A .safetensors file as lazy tensors: a length, a JSON header, and the numbers, which stay in the mapped file."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import torch

from gan_core.errors import GanportError
from gan_core.files.archive import HINT
from gan_export.reading import rebuild
from gan_export.reading.lazy import Blob, LazyTensor, Storage, is_shape, strided

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


def load_safetensors(data: memoryview) -> dict[str, LazyTensor]:
    """Name → tensor, the numbers left in the mapped file.

    Raises `GanportError` when the header is not the format's, or does not describe the bytes behind it, each once.
    """
    length = int.from_bytes(data[:8], "little")
    body = data[8 + length :]
    header = _header(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors: dict[str, LazyTensor] = {}
    spans = []
    for name in sorted(header, key=_natural):  # the format keeps no order: its writer sorts "10" before "2"
        tensor, span = _tensor(str(rebuild.safe_key(name)), header[name], body)
        tensors[str(rebuild.safe_key(name))] = tensor
        spans.append(span)
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise _damaged("its tensors overlap, or leave bytes between them")
        end = last
    if end != len(body):
        raise _damaged(f"its header describes {end:,} bytes of numbers, the file holds {len(body):,}")
    return tensors


def _header(text: memoryview) -> dict[str, Any]:
    try:
        header = json.loads(text.tobytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged("its header is no JSON, or says one thing twice") from error
    if not isinstance(header, dict):
        raise _damaged("its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name twice")
    return made


def _tensor(name: str, entry: Any, body: memoryview) -> tuple[LazyTensor, tuple[int, int]]:
    """The tensor that a header's `entry` describes, and where its bytes lie."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise _damaged(f"{name[:80]} has no dtype")
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise GanportError(
            f"{name[:80]} has the dtype {entry['dtype'][:20]!r}, which ganport does not read", hint="save it as float32"
        )
    shape, span = entry.get("shape"), entry.get("data_offsets")
    if not is_shape(shape) or not is_shape(span) or len(span) != 2 or not span[0] <= span[1] <= len(body):
        raise _damaged(f"{name[:80]} has no shape, or lies beyond the file's end")
    first, last = span
    if last - first != math.prod(shape) * dtype.itemsize:
        raise _damaged(f"{name[:80]} has a shape that its {last - first:,} bytes do not fit")
    storage = Storage(Blob(last - first, "cpu", body[first:last]), dtype, 0, last - first)
    strides = [math.prod(shape[index + 1 :]) for index in range(len(shape))]
    return strided(storage, 0, shape, strides), (first, last)


def _damaged(why: str) -> GanportError:
    return GanportError(f"it is a damaged .safetensors file: {why}", hint=HINT)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts "layers.2" before "layers.10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdigit() and len(part) < 20 else (1, 0, part) for part in parts]
