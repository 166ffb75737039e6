"""torch's first format, the tar of before 0.1.10.

Members "storages" and "tensors" (pickles and raw data in turn), and "pickle", which refers to both by number. After
torch/serialization.py (`legacy_load`), without unpacking anything to the disk.
"""

from __future__ import annotations

import struct
import tarfile
from typing import Any

import torch

from gan_core.errors import GanportError
from gan_core.files.archive import HINT
from gan_export.reading import legacy, rebuild, unpickler
from gan_export.reading.budget import Budget, brief
from gan_export.reading.inert import GlobalName
from gan_export.reading.lazy import MAX_DIMS, Blob, LazyTensor, Storage, strided
from gan_export.reading.stream import Stream


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
        key = legacy.storage_key(saved)
        if key in tensors:
            return tensors[key]
        if key in storages:
            return storages[key]
        raise legacy.bad_persistent_id(saved)

    return unpickler.load(Stream(parts["pickle"]), persistent_load, budget, legacy.nested_storage)


def _members(data: memoryview) -> dict[str, memoryview]:
    """Name → bytes of a tar's plain files."""
    parts: dict[str, memoryview] = {}
    try:
        with tarfile.open(fileobj=Stream(data).as_file(), mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse() and member.offset_data + member.size <= len(data):
                    parts[member.name] = data[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, ValueError, OSError, OverflowError, UnicodeError) as error:
        raise GanportError("it is a damaged tar archive", hint=HINT) from error
    return parts


def _tar_storages(stream: Stream, budget: Budget) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for _ in range(_count(stream, budget)):
        key, location, storage_class = _fields(stream, budget, 3)
        dtype, problem = rebuild.storage_type(storage_class)
        (numel,) = struct.unpack("<q", stream.take(8))
        nbytes = numel * (dtype or torch.uint8).itemsize
        storages[legacy.storage_key(key)] = Storage(
            Blob(nbytes, brief(location), stream.take(nbytes)), dtype, 0, nbytes, problem
        )
    views = unpickler.load(stream, legacy.no_persistent, budget)
    for view in views if isinstance(views, list) else ():
        if not isinstance(view, tuple) or len(view) != 4 or not all(type(number) is int for number in view[2:]):
            raise GanportError("a tar checkpoint's storage views are damaged", hint=HINT)
        root = _held(storages, view[1])
        itemsize = (root.dtype or torch.uint8).itemsize
        storages[legacy.storage_key(view[0])] = root.view(view[2] * itemsize, view[3] * itemsize)
    return storages


def _tar_tensors(stream: Stream, storages: dict[str, Storage], budget: Budget) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for _ in range(_count(stream, budget)):
        key, storage, _kind = _fields(stream, budget, 3)
        root = _held(storages, storage)
        (dims,) = struct.unpack("<i4x", stream.take(8))
        if not 0 <= dims <= MAX_DIMS:
            raise GanportError(f"a tar checkpoint's tensor has {dims:,} dimensions", hint=HINT)
        numbers = struct.unpack(f"<{2 * dims + 1}q", stream.take(8 * (2 * dims + 1)))
        tensors[legacy.storage_key(key)] = strided(root, numbers[-1], numbers[:dims], numbers[dims : 2 * dims])
    return tensors


def _held(storages: dict[str, Storage], key: Any) -> Storage:
    held = storages.get(legacy.storage_key(key))
    if held is None:
        raise GanportError("a tar checkpoint's tensor has no storage", hint=HINT)
    return held


def _count(stream: Stream, budget: Budget) -> int:
    count = unpickler.load(stream, legacy.no_persistent, budget)
    if type(count) is not int or not 0 <= count <= len(stream.data):
        raise GanportError("a tar checkpoint is damaged", hint=HINT)
    return count


def _fields(stream: Stream, budget: Budget, count: int) -> tuple[Any, ...]:
    fields = unpickler.load(stream, legacy.no_persistent, budget)
    if not isinstance(fields, tuple) or len(fields) != count:
        raise GanportError("a tar checkpoint is damaged", hint=HINT)
    return fields
