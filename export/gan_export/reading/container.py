"""From a file to its tree of objects: which format it is (by content, never by suffix), tensors lazy, nothing run.

A large file is mapped, not read. A zip's entries must be stored, as torch stores them, and
give the checksums listed for them (`gan_core.files.archive`).
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gan_core.errors import GanportError
from gan_core.files.archive import FORGED, HINT, Record, read_records
from gan_export.reading import legacy, rebuild, safetensors_file, tar, unpickler
from gan_export.reading.budget import Budget, brief
from gan_export.reading.foreign import check_foreign
from gan_export.reading.lazy import Blob, Storage
from gan_export.reading.stream import Stream

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
        "safetensors": lambda: safetensors_file.load_safetensors(data),
        "torch-legacy": lambda: legacy.load_legacy(data, budget),
        "torch-tar": lambda: tar.load_tar(data, budget),
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
    if safetensors_file.starts_safetensors(head, size):
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
            raise GanportError("a tensor's numbers are missing from the archive", hint=HINT)
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
    if any(name.endswith(("model.json", "model.py")) or "/code/" in name for name in names):
        raise GanportError(f"it is a TorchScript or packaged model (with {shown}) without data.pkl", hint=HINT)
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
