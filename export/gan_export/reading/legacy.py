"""torch's formats from before the zip, after torch/serialization.py; all data stays in the mapped file.

Legacy: magic number, protocol, system info, the object, the storages' keys, a pickle each. Then for every key: int64
number of elements, raw bytes. The object names its storages before their bytes come; they are looked up at the end.

Tar, before 0.1.10: members "storages" and "tensors" (pickles and raw data in turn), and "pickle", which refers to both
by number.
"""

from __future__ import annotations

import struct
import tarfile
from typing import Any

import torch

from gan_core.errors import GanportError
from gan_export.reading import rebuild, unpickler
from gan_export.reading.inert import Budget, DamagedError, GlobalName, brief
from gan_export.reading.lazy import MAX_DIMS, Blob, LazyTensor, Storage, strided
from gan_export.reading.unpickler import Stream

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_STORAGE_KEY = 100


def starts_legacy(head: bytes | bytearray) -> bool:
    """Whether a file that begins with `head` (64 bytes) begins with legacy torch's magic number."""
    return MAGIC.to_bytes(10, "little") in head[:40] or str(MAGIC).encode() in head[:40]


def load_legacy(data: memoryview, budget: Budget) -> Any:
    """The object in legacy bytes, tensors lazy. Raises `GanportError` when damaged, cut short or hostile."""
    stream = Stream(data)
    magic = unpickler.load(stream, no_persistent, budget)
    protocol = unpickler.load(stream, no_persistent, budget)
    if magic != MAGIC or protocol != PROTOCOL:
        raise DamagedError(f"it begins like a legacy torch file, but its protocol is {brief(protocol, 20)}")
    system = unpickler.load(stream, no_persistent, budget)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise GanportError("it was saved on a big-endian machine", hint="load and save it again on a little-endian one")
    storages = _Storages(len(data))
    content = unpickler.load(stream, storages.persistent_load, budget, nested_storage)
    keys = unpickler.load(stream, no_persistent, budget)
    if not isinstance(keys, list):
        raise DamagedError("a legacy torch file lacks the list of its storages")
    for key in keys:
        storages.place(key, stream)
    return content


def nested_storage(data: bytes | bytearray, budget: Budget) -> Any:
    """`torch.storage._load_from_bytes`: a storage saved in legacy format, within a pickle."""
    if not starts_legacy(data[:64]):
        raise DamagedError("a pickled storage is not in torch's format")
    return load_legacy(memoryview(data), budget)


class _Storages:
    """The storages that a legacy pickle speaks of before their bytes come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blobs: dict[str, tuple[Blob, int]] = {}

    def persistent_load(self, saved: Any) -> Any:
        """("storage", type, key, device, elements, view) or ("module", class, source file, source text)."""
        kind = saved[0] if isinstance(saved, tuple) and saved else None
        if kind == "module" and len(saved) > 1:
            return saved[1]
        if kind != "storage" or len(saved) != 6:
            raise bad_persistent_id(saved)
        _, storage_class, key, location, numel, view = saved
        dtype, problem = rebuild.storage_type(storage_class)
        if type(numel) is not int or numel < 0:
            raise bad_persistent_id(saved)
        key = storage_key(key)
        itemsize = dtype.itemsize if dtype else 1
        nbytes = numel * itemsize
        if nbytes > self._limit:
            raise DamagedError(f"it claims a storage of {nbytes:,} bytes, the file has {self._limit:,}")
        blob, _ = self._blobs.setdefault(key, (Blob(nbytes, brief(location)), itemsize))
        storage = Storage(blob, dtype, 0, min(nbytes, blob.nbytes), problem)
        if view is None:
            return storage
        if not isinstance(view, tuple) or len(view) != 3 or not all(type(v) is int for v in view[1:]):
            raise bad_persistent_id(saved)
        return storage.view(view[1] * itemsize, view[2] * itemsize)

    def place(self, key: Any, stream: Stream) -> None:
        """Notes where the next storage's bytes lie."""
        key = storage_key(key)
        if key not in self._blobs:
            raise DamagedError("a legacy torch file lists a storage that nothing uses")
        blob, itemsize = self._blobs[key]
        (numel,) = struct.unpack("<q", stream.take(8))
        if numel * itemsize != blob.nbytes:
            raise DamagedError(f"a storage of {blob.nbytes:,} bytes comes with {numel * itemsize:,}")
        blob.buffer = stream.take(blob.nbytes)


def storage_key(key: Any) -> str:
    """The name that a file gives a storage. Raises `GanportError` when it is no short text or number."""
    if not isinstance(key, (str, int)) or (isinstance(key, str) and len(key) > MAX_STORAGE_KEY):
        raise DamagedError(f"a storage is named by something else than a number ({type(key).__name__})")
    return str(key)


def bad_persistent_id(saved: Any) -> GanportError:
    """The error for a persistent id that is not a storage's."""
    return GanportError(
        f"the pickle in it refers to something that is not a tensor storage ({type(saved).__name__})",
        hint="it was not written by torch.save: get a state_dict or .safetensors from a source you trust",
    )


def no_persistent(saved: Any) -> Any:
    raise bad_persistent_id(saved)


def load_tar(data: memoryview, budget: Budget) -> Any:
    """The object in a tar of torch before 0.1.10. Raises `GanportError` when it is another tar, damaged or hostile."""
    parts = _members(data)
    if not {"storages", "tensors", "pickle"} <= parts.keys():
        names = ", ".join(name for name in list(parts)[:3] if name.isprintable()) or "nothing"
        raise GanportError(
            f"it is a tar archive (with {names[:100]}), not a checkpoint",
            hint="unpack it (tar -xf FILE) and name the checkpoint inside",
        )
    storages = _tar_storages(Stream(parts["storages"]), budget)
    tensors = _tar_tensors(Stream(parts["tensors"]), storages, budget)

    def persistent_load(saved: Any) -> Any:
        if isinstance(saved, tuple) and saved and isinstance(saved[0], GlobalName):
            return saved[0]
        key = storage_key(saved)
        if key in tensors:
            return tensors[key]
        if key in storages:
            return storages[key]
        raise bad_persistent_id(saved)

    return unpickler.load(Stream(parts["pickle"]), persistent_load, budget, nested_storage)


def _members(data: memoryview) -> dict[str, memoryview]:
    """Name → bytes of a tar's plain files."""
    parts: dict[str, memoryview] = {}
    try:
        with tarfile.open(fileobj=Stream(data).as_file(), mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse() and member.offset_data + member.size <= len(data):
                    parts[member.name] = data[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, ValueError, OSError, OverflowError, UnicodeError) as error:
        raise DamagedError("it is a damaged tar archive") from error
    return parts


def _tar_storages(stream: Stream, budget: Budget) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for _ in range(_count(stream, budget)):
        key, location, storage_class = _fields(stream, budget, 3)
        dtype, problem = rebuild.storage_type(storage_class)
        (numel,) = struct.unpack("<q", stream.take(8))
        nbytes = numel * (dtype or torch.uint8).itemsize
        storages[storage_key(key)] = Storage(
            Blob(nbytes, brief(location), stream.take(nbytes)), dtype, 0, nbytes, problem
        )
    views = unpickler.load(stream, no_persistent, budget)
    for view in views if isinstance(views, list) else ():
        if not isinstance(view, tuple) or len(view) != 4 or not all(type(number) is int for number in view[2:]):
            raise DamagedError("a tar checkpoint's storage views are damaged")
        root = _held(storages, view[1])
        itemsize = (root.dtype or torch.uint8).itemsize
        storages[storage_key(view[0])] = root.view(view[2] * itemsize, view[3] * itemsize)
    return storages


def _tar_tensors(stream: Stream, storages: dict[str, Storage], budget: Budget) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for _ in range(_count(stream, budget)):
        key, storage, _kind = _fields(stream, budget, 3)
        root = _held(storages, storage)
        (dims,) = struct.unpack("<i4x", stream.take(8))
        if not 0 <= dims <= MAX_DIMS:
            raise DamagedError(f"a tar checkpoint's tensor has {dims:,} dimensions")
        numbers = struct.unpack(f"<{2 * dims + 1}q", stream.take(8 * (2 * dims + 1)))
        tensors[storage_key(key)] = strided(root, numbers[-1], numbers[:dims], numbers[dims : 2 * dims])
    return tensors


def _held(storages: dict[str, Storage], key: Any) -> Storage:
    held = storages.get(storage_key(key))
    if held is None:
        raise DamagedError("a tar checkpoint's tensor has no storage")
    return held


def _count(stream: Stream, budget: Budget) -> int:
    count = unpickler.load(stream, no_persistent, budget)
    if type(count) is not int or not 0 <= count <= len(stream.data):
        raise DamagedError("a tar checkpoint is damaged")
    return count


def _fields(stream: Stream, budget: Budget, count: int) -> tuple[Any, ...]:
    fields = unpickler.load(stream, no_persistent, budget)
    if not isinstance(fields, tuple) or len(fields) != count:
        raise DamagedError("a tar checkpoint is damaged")
    return fields
