"""torch's format from before the zip: pickles and raw storages in a row.

Magic number, protocol, system info, the object, the storages' keys: a pickle each. Then for every key: int64 number of
elements, raw bytes. The object names its storages before their bytes come; they are looked up at the end.

After torch/serialization.py (`_legacy_load`). All data stays in the mapped file.
"""

from __future__ import annotations

import struct
from typing import Any

from gan_core.errors import GanportError
from gan_core.files.archive import HINT
from gan_export.reading import rebuild, unpickler
from gan_export.reading.budget import Budget, brief
from gan_export.reading.lazy import Blob, Storage
from gan_export.reading.stream import Stream

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
        raise GanportError(f"it begins like a legacy torch file, but its protocol is {brief(protocol, 20)}", hint=HINT)
    system = unpickler.load(stream, no_persistent, budget)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise GanportError("it was saved on a big-endian machine", hint="load and save it again on a little-endian one")
    storages = _Storages(len(data))
    content = unpickler.load(stream, storages.persistent_load, budget, nested_storage)
    keys = unpickler.load(stream, no_persistent, budget)
    if not isinstance(keys, list):
        raise GanportError("a legacy torch file lacks the list of its storages", hint=HINT)
    for key in keys:
        storages.place(key, stream)
    return content


def nested_storage(data: bytes | bytearray, budget: Budget) -> Any:
    """`torch.storage._load_from_bytes`: a storage saved in legacy format, within a pickle."""
    if not starts_legacy(data[:64]):
        raise GanportError("a pickled storage is not in torch's format", hint="the file is damaged or forged")
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
            raise GanportError(f"it claims a storage of {nbytes:,} bytes, the file has {self._limit:,}", hint=HINT)
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
            raise GanportError("a legacy torch file lists a storage that nothing uses", hint=HINT)
        blob, itemsize = self._blobs[key]
        (numel,) = struct.unpack("<q", stream.take(8))
        if numel * itemsize != blob.nbytes:
            raise GanportError(f"a storage of {blob.nbytes:,} bytes comes with {numel * itemsize:,}", hint=HINT)
        blob.buffer = stream.take(blob.nbytes)


def storage_key(key: Any) -> str:
    """The name that a file gives a storage. Raises `GanportError` when it is no short text or number."""
    if not isinstance(key, (str, int)) or (isinstance(key, str) and len(key) > MAX_STORAGE_KEY):
        raise GanportError(
            f"a storage is named by something else than a number ({type(key).__name__})", hint="the file is forged"
        )
    return str(key)


def bad_persistent_id(saved: Any) -> GanportError:
    """The error for a persistent id that is not a storage's."""
    return GanportError(
        f"the pickle in it refers to something that is not a tensor storage ({type(saved).__name__})",
        hint="it was not written by torch.save: get a state_dict or .safetensors from a source you trust",
    )


def no_persistent(saved: Any) -> Any:
    raise bad_persistent_id(saved)
