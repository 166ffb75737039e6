"""From a file to its tree of objects: which format it is (by content, never by suffix), tensors lazy, nothing run.

The file is mapped, not read. A zip's entries must be stored, as torch stores them, and no larger than the file.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan_export.reading import legacy, rebuild, safetensors_file, tar, unpickler
from gan_export.reading.budget import Budget
from gan_export.reading.foreign import check_foreign
from gan_export.reading.lazy import Blob, Storage
from gan_export.reading.stream import HINT, Stream
from gan_serve.errors import GanportError

_LOCAL_HEADER = 30
_MAX_DIRECTORY = 32 << 20


@dataclass(frozen=True)
class Container:
    """A file's format and the tree of plain containers, `Inert` records and `LazyTensor`s in it."""

    format: str
    tree: Any
    size: int


def open_container(path: Path) -> Container:
    """Reads the structure of the file at `path`. Raises `GanportError`, whose message begins with "it …"."""
    size = path.stat().st_size
    kind = sniff(path)
    with path.open("rb") as handle:
        # Copy-on-write: torch wants writable memory, the file stays as it is.
        data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY))
    budget = Budget()
    if kind == "torch-zip":
        return _open_zip(path, data, budget)
    loaders: dict[str, Callable[[], Any]] = {
        "safetensors": lambda: safetensors_file.load_safetensors(path, data),
        "torch-legacy": lambda: legacy.load_legacy(data, budget),
        "torch-tar": lambda: tar.load_tar(data, budget),
        "pickle": lambda: _open_pickle(data, budget),
    }
    return Container(kind, loaders[kind](), size)


def sniff(path: Path) -> str:
    """The format of the file by its first bytes. Raises `GanportError` for what is no checkpoint at all."""
    size = path.stat().st_size
    with path.open("rb") as handle:
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


def _open_zip(path: Path, data: memoryview, budget: Budget) -> Container:
    records = _zip_records(path, data)
    pickles = [name for name in records if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        _explain_other_zip(records)
    root = pickles[0].rpartition("/")[0]
    prefix = f"{root}/" if root else ""
    if bytes(records.get(f"{prefix}byteorder", b"little")) != b"little":
        raise GanportError("it was saved on a big-endian machine", hint="load and save it again on a little-endian one")
    blobs: dict[str, Blob] = {}

    def persistent_load(saved: Any) -> Storage:
        """("storage", type, key, device, elements)."""
        if not isinstance(saved, tuple) or len(saved) != 5 or saved[0] != "storage":
            raise legacy.bad_persistent_id(saved)
        _, storage_class, key, location, numel = saved
        dtype, problem = rebuild.storage_type(storage_class)
        if not isinstance(key, (str, int)) or type(numel) is not int or numel < 0:
            raise legacy.bad_persistent_id(saved)
        nbytes = numel * (dtype or torch.uint8).itemsize
        record = records.get(f"{prefix}data/{key}")
        if record is None:
            raise GanportError("a tensor's numbers are missing from the archive", hint=HINT)
        if nbytes > len(record):
            raise GanportError(
                f"a tensor claims {nbytes:,} bytes, the archive holds {len(record):,} for it",
                hint="the file is damaged or made to exhaust memory; get it again from its author",
            )
        blob = blobs.setdefault(str(key), Blob(len(record), str(location)[:40], record))
        return Storage(blob, dtype, 0, nbytes, problem)

    stream = Stream(records[pickles[0]])
    tree = unpickler.load(stream, persistent_load, budget, legacy.nested_storage)
    script = any(name.startswith(f"{prefix}code/") for name in records)
    return Container("torchscript" if script else "torch-zip", tree, len(data))


def _zip_records(path: Path, data: memoryview) -> dict[str, memoryview]:
    """Name → bytes of a zip's entries, not copied. Raises `GanportError` when cut short, compressed or overlapping."""
    try:
        _check_directory(data)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise GanportError(
            f"it is a zip archive cut short or damaged ({len(data):,} bytes, without the list of contents at its end)",
            hint=HINT,
        ) from error
    texts = [entry.filename for entry in entries if "/code/" in entry.filename]  # compressed, and never looked at
    entries = [entry for entry in entries if "/code/" not in entry.filename]
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1]
    claimed = sum(entry.file_size for entry in entries)
    if packed:
        raise GanportError(
            f"it is a compressed zip archive ({claimed:,} bytes in {len(data):,}), torch leaves its own uncompressed",
            hint="if a checkpoint lies inside, unpack it (unzip FILE) and name that",
        )
    if claimed > len(data):
        raise GanportError(
            f"it is a zip archive that claims {claimed:,} bytes in a file of {len(data):,}",
            hint="the file is damaged or made to exhaust memory; get it again from its author",
        )
    records = dict.fromkeys(texts, data[:0])
    for entry in entries:
        start = entry.header_offset
        if not 0 <= start <= len(data) - _LOCAL_HEADER or bytes(data[start : start + 4]) != b"PK\x03\x04":
            raise GanportError("it is a damaged zip archive", hint=HINT)
        names, extra = struct.unpack("<HH", data[start + 26 : start + 30])
        first = start + _LOCAL_HEADER + names + extra
        if first + entry.file_size > len(data):
            raise GanportError("it is a zip archive cut short", hint=HINT)
        records[entry.filename] = data[first : first + entry.file_size]
    return records


def _check_directory(data: memoryview) -> None:
    """Raises `GanportError` when the list of contents is so long that reading it would take the memory."""
    tail = data[-(1 << 16) - 128 :].tobytes()
    end = tail.rfind(b"PK\x05\x06")
    if 0 <= end <= len(tail) - 22:
        (size,) = struct.unpack("<L", tail[end + 12 : end + 16])
        large = tail.rfind(b"PK\x06\x06", 0, end)
        if size == 0xFFFFFFFF and large >= 0:
            (size,) = struct.unpack("<Q", tail[large + 40 : large + 48])
        if size > _MAX_DIRECTORY:
            raise GanportError(
                f"it is a zip archive whose list of contents alone takes {size:,} bytes", hint="it is no checkpoint"
            )


def _explain_other_zip(records: dict[str, memoryview]) -> None:
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
