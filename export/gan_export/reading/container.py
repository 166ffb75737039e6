"""From a file to its tree of objects: which format it is (by content, never by suffix), tensors lazy, nothing run.

A large file is mapped, not read. A zip's entries must be stored, as torch stores them, and give the checksums listed
for them (`gan_core.files.archive`). A .safetensors file is a length, a JSON header, and the numbers. What is no
checkpoint at all is told apart by its first bytes, each kind with its own sentence and hint.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gan_core.errors import GanportError
from gan_core.files.archive import FORGED, Record, read_records
from gan_export.reading import legacy, rebuild, unpickler
from gan_export.reading.inert import Budget, DamagedError, brief
from gan_export.reading.lazy import Blob, LazyTensor, Storage, is_shape, strided
from gan_export.reading.unpickler import Stream

MAX_HELD_BYTES = 1 << 32
"""See `bytes_of`."""


@dataclass(frozen=True)
class Container:
    """A file's format, the tree of plain containers, `Inert` records and `LazyTensor`s in it, what is left to spend."""

    format: str
    tree: Any
    size: int
    budget: Budget


def open_container(path: Path) -> Container:
    """Reads the structure of the file at `path`. Raises `GanportError`, whose message begins with "it …"."""
    with path.open("rb") as handle:
        kind = sniff(handle)
        data = bytes_of(handle)
        budget = Budget.of_file(len(data))
        if kind == "torch-zip":
            return _open_zip(read_records(handle, data), len(data), budget)
    loaders: dict[str, Callable[[], Any]] = {
        "safetensors": lambda: load_safetensors(data),
        "torch-legacy": lambda: legacy.load_legacy(data, budget),
        "torch-tar": lambda: legacy.load_tar(data, budget),
        "pickle": lambda: _open_pickle(data, budget),
    }
    return Container(kind, loaders[kind](), len(data), budget)


def bytes_of(handle: BinaryIO) -> memoryview:
    """The bytes of an open file, writable as torch wants them; the file stays as it is.

    Read, up to `MAX_HELD_BYTES`: where another process cuts a mapped file short, the system ends this one without a
    word (SIGBUS). A larger file is mapped.
    """
    size = os.fstat(handle.fileno()).st_size
    if not 0 < size <= MAX_HELD_BYTES:
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY))
    held = mmap.mmap(-1, size)
    handle.seek(0)
    return memoryview(held)[: handle.readinto(held)]  # type: ignore[attr-defined]


def sniff(handle: BinaryIO) -> str:
    """The format of an open file by its first bytes. Raises `GanportError` for what is no checkpoint at all."""
    size = os.fstat(handle.fileno()).st_size
    head = handle.read(512)
    if head[:4] == b"PK\x03\x04":
        return "torch-zip"
    if starts_safetensors(head, size):
        return "safetensors"
    check_foreign(head, size)
    if legacy.starts_legacy(head):
        return "torch-legacy"
    if head[257:262] == b"ustar":
        return "torch-tar"
    if _starts_pickle(head):
        return "pickle"
    raise GanportError(
        f"it is no checkpoint of any known format (it begins with {_begins(head)})",
        hint="expected a file from torch.save or pickle.dump, or .safetensors",
    )


def _begins(head: bytes) -> str:
    """The first bytes for people: as text where they are text."""
    line = head.split(b"\n")[0][:40].decode("latin-1")
    return repr(line) if line.isascii() and line.isprintable() and len(line) > 2 else head[:8].hex(" ")


# --------------------------------------------------------------------------------------------------------------- zip


def _open_zip(records: dict[str, Record], size: int, budget: Budget) -> Container:
    pickles = [name for name in records if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        _explain_other_zip(records)
    root = pickles[0].rpartition("/")[0]
    prefix = f"{root}/" if root else ""
    order = records.get(f"{prefix}byteorder")
    if order is not None and bytes(order.checked()) != b"little":
        raise GanportError("it was saved on a big-endian machine", hint="load and save it again on a little-endian one")
    stem = f"{prefix}data/"
    numbers = {name[len(stem) :]: record for name, record in records.items() if name.startswith(stem)}
    blobs: dict[str, Blob] = {}

    def persistent_load(saved: Any) -> Storage:
        """("storage", type, key, device, elements)."""
        if not isinstance(saved, tuple) or len(saved) != 5 or saved[0] != "storage":
            raise legacy.bad_persistent_id(saved)
        _, storage_class, key, location, numel = saved
        dtype, problem = rebuild.storage_type(storage_class)
        if type(numel) is not int or numel < 0:
            raise legacy.bad_persistent_id(saved)
        key = legacy.storage_key(key)
        nbytes = numel * (dtype or torch.uint8).itemsize
        record = numbers.get(key)
        if record is None:
            raise DamagedError("a tensor's numbers are missing from the archive")
        held = len(record.data)
        if nbytes > held:
            raise GanportError(f"a tensor claims {nbytes:,} bytes, the archive holds {held:,} for it", hint=FORGED)
        blob = blobs.setdefault(key, Blob(held, brief(location), record.data, record.checked))
        return Storage(blob, dtype, 0, nbytes, problem)

    stream = Stream(records[pickles[0]].checked())
    tree = unpickler.load(stream, persistent_load, budget, legacy.nested_storage)
    script = any(name.startswith(f"{prefix}code/") for name in records)
    return Container("torchscript" if script else "torch-zip", tree, size, budget)


def _explain_other_zip(records: Iterable[str]) -> None:
    names = list(records)
    shown = ", ".join(name[:40] for name in names[:3] if name.isprintable()) or "nothing"
    if names and all(name.endswith(".npy") for name in names):
        raise GanportError("it is a NumPy .npz archive", hint="only PyTorch checkpoints and .safetensors are read")
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        raise GanportError("it is a Keras model", hint=OTHERS_MODEL)
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        raise GanportError(
            "it is a program of torch.export",
            hint="save its weights: torch.save(torch.export.load(FILE).state_dict, 'g.pth')",
        )
    if any(name.endswith(("model.json", "model.py")) or "/code/" in name for name in names):
        raise DamagedError(f"it is a TorchScript or packaged model (with {shown}) without data.pkl")
    raise GanportError(
        f"it is a zip archive (with {shown}), not one that torch.save wrote",
        hint="unpack it (unzip FILE) and name the checkpoint inside",
    )


# ------------------------------------------------------------------------------------------------------------ pickle


def _starts_pickle(head: bytes) -> bool:
    """A binary pickle's PROTO, or what a text pickle of an object can begin with."""
    if head[:1] == pickle.PROTO:
        return len(head) > 1 and head[1] <= pickle.HIGHEST_PROTOCOL
    return head[:1] in (b"(", b"c", b"}", b"]", b")") and len(head) > 1


def _open_pickle(data: memoryview, budget: Budget) -> Any:
    def persistent_load(saved: Any) -> Any:
        raise legacy.bad_persistent_id(saved)

    return unpickler.load(Stream(data), persistent_load, budget, legacy.nested_storage)


OTHERS_MODEL = "convert it to ONNX, as tf2onnx does for TensorFlow and Keras; then: gan-export adopt FILE.onnx"
_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    # first bytes, where, what it is, what to do
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file itself", "in its repository: git lfs pull"),
    (b"PK\x05\x06", 0, "an empty zip archive", "the download or the copy failed: get the file again"),
    (b"\x1f\x8b", 0, "compressed with gzip", "unpack it first: gunzip FILE, or tar -xzf FILE"),
    (b"BZh", 0, "compressed with bzip2", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ", 0, "compressed with xz", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed with zstd", "unpack it first: zstd -d FILE"),
    (b"7z\xbc\xaf", 0, "a 7-Zip archive", "unpack it first: 7z x FILE"),
    (b"Rar!", 0, "a RAR archive", "unpack it first"),
    (b"\x89HDF", 0, "an HDF5 file, as Keras writes them", OTHERS_MODEL),
    (b"\x93NUMPY", 0, "one NumPy array (.npy)", "only PyTorch checkpoints and .safetensors are read"),
    (b"GGUF", 0, "a GGUF language model", "only PyTorch checkpoints and .safetensors are read"),
    (b"TFL3", 4, "a TensorFlow Lite model", OTHERS_MODEL),
    (b"\x08\x01\x12", 0, "a TensorFlow SavedModel", OTHERS_MODEL),
    (b"\x89PNG", 0, "a PNG image", "name the checkpoint, not a picture of its samples"),
    (b"\xff\xd8\xff", 0, "a JPEG image", "name the checkpoint, not a picture of its samples"),
    (b"GIF8", 0, "a GIF image", "name the checkpoint, not a picture of its samples"),
    (b"%PDF", 0, "a PDF document", "name the checkpoint"),
    (b"\x7fELF", 0, "a program", "name the checkpoint"),
    (b"SQLite format 3", 0, "an SQLite database", "name the checkpoint"),
)  # fmt: skip

_DOWNLOAD = "download it again with the link to the file itself (on GitHub: the Raw or Download button)"


def check_foreign(head: bytes, size: int) -> None:
    """Raises `GanportError` when a file of `size` bytes that begins with `head` (up to 512 bytes) is something else."""
    if size == 0:
        raise GanportError("it is empty (0 bytes)", hint="the download or the copy failed: get the file again")
    for signature, offset, what, hint in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            raise GanportError(f"it is {what}", hint=hint)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.match(rb"<!doctype html|<html|<head|<!-- .{0,80}<html", text, re.DOTALL):
        raise GanportError("it is an HTML page, saved instead of the file that it links to", hint=_DOWNLOAD)
    if text.startswith((b"<?xml", b"<error")):
        raise GanportError("it is an XML answer of a web server, saved instead of the file", hint=_DOWNLOAD)
    if text.startswith((b'{"', b"{\n", b"{\r", b"[{")) or text == b"{}":
        raise GanportError("it is JSON text, not weights", hint="name the checkpoint; a spec goes to `spec`")
    if (head[:1] == b"\x08" and b"pytorch" in head[:64]) or b"\x12\x07pytorch" in head[:64]:
        raise GanportError("it is an ONNX model already, not a checkpoint", hint="generate images with it: gan-gen")


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
    return DamagedError(f"it is a damaged .safetensors file: {why}")


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts "layers.2" before "layers.10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdigit() and len(part) < 20 else (1, 0, part) for part in parts]
