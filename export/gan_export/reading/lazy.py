"""Tensors that are known but not loaded: shape, dtype, and where their bytes lie.

A hostile file may claim any shape. Nothing here allocates before the claim was held against the bytes that the file
really has: a `Blob` is a stretch of the file (mapped, not read), a `Storage` looks at it with a dtype, a `LazyTensor`
looks at a storage with a shape and strides, and `load` copies out the numbers of the few tensors that are wanted.

numpy's arrays and scalars become lazy tensors and Python numbers where their dtype is numeric. An array of objects is a
pickle within the pickle: what it holds was read like everything else, and it becomes `Inert`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.files.archive import FORGED
from gan_export.reading.inert import DamagedError, GlobalName, Inert, brief
from gan_export.reading.roles import words

MAX_DIMS = 16
MAX_EXPANDED = 1 << 16
"""Elements that a tensor may have beyond its storage's (stride 0, as `expand` makes): a bias or a noise map."""


@dataclass(eq=False, slots=True)
class Blob:
    """`nbytes` of raw data. `buffer` is None until the reader knows where in the file they lie (legacy format).

    `check` raises `GanportError` when they are not the bytes that were written; called before they are used.
    """

    nbytes: int
    location: str = "cpu"
    buffer: memoryview | None = None
    check: Callable[[], object] | None = None


@dataclass(eq=False, slots=True)
class Storage:
    """A blob (from byte `start`, `nbytes` long) seen as elements of `dtype`; None where a tensor brings its own.

    `problem` says why its numbers cannot be had (quantised), and is raised when they are asked for.
    """

    blob: Blob
    dtype: torch.dtype | None
    start: int
    nbytes: int
    problem: str = ""

    def view(self, offset_bytes: int, nbytes: int) -> Storage:
        """A part of this storage. Raises `GanportError` when it reaches beyond."""
        if not 0 <= offset_bytes <= offset_bytes + nbytes <= self.nbytes:
            raise GanportError(f"a storage's view reaches beyond its {self.nbytes:,} bytes", hint=FORGED)
        return Storage(self.blob, self.dtype, self.start + offset_bytes, nbytes, self.problem)


class LazyTensor:
    """A tensor of `shape` and `dtype`, not loaded. `location` is the device tag in the file ("cuda:0", "cpu" …).

    Equality and hash are identity's. `problem` says why the numbers cannot be had, "" when they can.
    """

    __slots__ = ("_load", "dtype", "location", "problem", "shape")

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        load: Callable[[], Tensor] | None = None,
        *,
        location: str = "cpu",
        problem: str = "",
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.location = location
        self.problem = problem
        self._load = load

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def load(self) -> Tensor:
        """The numbers, contiguous, in memory of their own. Raises `GanportError` when they cannot be had."""
        if self.problem or self._load is None:
            raise DamagedError(f"a tensor cannot be read: {self.problem or 'it has no data'}")
        return self._load()

    def become(self, other: LazyTensor) -> None:
        """Takes over all of `other` (a pickle makes an array first and fills it later)."""
        self.shape, self.dtype, self.location = other.shape, other.dtype, other.location
        self.problem, self._load = other.problem, other._load


def strided(
    storage: Storage, offset: int, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype | None = None
) -> LazyTensor:
    """The tensor that torch would make with `set_(storage, offset, shape, stride)`; offset and strides in elements.

    Raises `GanportError` when shape or strides are not plain numbers or reach beyond the storage.
    """
    dtype = dtype or storage.dtype or torch.uint8
    shape, stride = _numbers(shape, "shape"), _numbers(stride, "stride")
    (offset,) = _numbers((offset,), "offset")
    if len(shape) != len(stride):
        raise GanportError(
            f"a tensor has shape {_short(shape)} and strides {_short(stride)}, which do not belong together",
            hint=FORGED,
        )
    if not is_shape(shape):
        raise GanportError(f"a tensor claims shape {_short(shape)}, beyond all memory", hint=FORGED)
    numel, held = math.prod(shape), storage.nbytes // dtype.itemsize
    reach = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) + 1 if numel else 0
    if reach > held or numel > max(held, MAX_EXPANDED):
        raise GanportError(
            f"a tensor claims shape {_short(shape)} ({numel * dtype.itemsize / 2**30:.3g} GiB), "
            f"the file holds {storage.nbytes:,} bytes for it",
            hint=FORGED,
        )

    def load() -> Tensor:
        if numel == 0:
            return torch.empty(shape, dtype=dtype)
        if storage.blob.buffer is None:
            raise DamagedError("a tensor cannot be read: its storage is missing from the file")
        if storage.blob.check is not None:
            storage.blob.check()
        start, end = storage.start, storage.start + held * dtype.itemsize
        flat = frombuffer(storage.blob.buffer[start:end], dtype)
        return flat.as_strided(shape, stride, offset).clone(memory_format=torch.contiguous_format)

    return LazyTensor(tuple(shape), dtype, load, location=storage.blob.location, problem=storage.problem)


def frombuffer(buffer: memoryview, dtype: torch.dtype) -> Tensor:
    """The buffer's bytes as a flat tensor; copied only where the buffer is read-only or not aligned."""
    misaligned = False
    if not buffer.readonly:
        flat = torch.frombuffer(buffer, dtype=torch.uint8)
        misaligned = flat.data_ptr() % dtype.itemsize != 0
    if buffer.readonly or misaligned:
        flat = torch.frombuffer(bytearray(buffer), dtype=torch.uint8)
    return flat.view(dtype)


def is_shape(values: object) -> TypeGuard[Sequence[int]]:
    """Whether `values` is a shape that torch could make, be the tensor empty or expanded."""
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMS:
        return False
    return all(type(v) is int and v >= 0 for v in values) and math.prod(v or 1 for v in values) < 1 << 60


def _numbers(values: Sequence[int], what: str) -> tuple[int, ...]:
    if (
        not isinstance(values, (tuple, list))
        or len(values) > MAX_DIMS
        or not all(type(v) is int and 0 <= v < 1 << 63 for v in values)
    ):
        raise DamagedError(f"a tensor's {what} is not a few whole numbers")
    return tuple(values)


def _short(shape: Sequence[int]) -> str:
    text = "×".join(map(str, shape)) or "()"
    return text if len(text) <= 60 else text[:57] + "…"


NUMERIC = words("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16")


class NumpyDtype:
    """`numpy.dtype("f4")`; the byte order arrives later, as its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="

    @property
    def numeric(self) -> bool:
        return self.code in NUMERIC

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.code}")

    def torch(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, np.dtype(self.code))).dtype


class NumpyArray(LazyTensor):
    """An array whose data has not come yet. After `build` it is an ordinary lazy tensor."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(problem="it is an array without data")

    def build(self, state: Any) -> None:
        """Takes numpy's state (version, shape, dtype, Fortran order, data)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise DamagedError("a numpy array's state is not numpy's")
        _, shape, dtype, fortran, data = state
        made = array(shape, dtype, bool(fortran), data)
        if made is not None:
            self.become(made)
        else:
            self.problem = "it is an array of objects, not of numbers"


def array(shape: Any, dtype: Any, fortran: bool, data: Any) -> LazyTensor | None:
    """The lazy tensor of an array's raw data, None for objects. Raises `GanportError` when shape and data disagree."""
    if not isinstance(dtype, NumpyDtype) or not dtype.numeric:
        return None
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(shape, tuple) or not is_shape(shape) or not isinstance(data, (bytes, bytearray)):
        raise DamagedError("a numpy array's shape or data is not numpy's")
    if math.prod(shape) * dtype.numpy().itemsize != len(data):
        raise DamagedError(
            f"a numpy array claims shape {str(shape)[:60]} of {dtype.code}, the file holds {len(data):,} bytes for it"
        )

    def load() -> Tensor:
        flat = np.frombuffer(data, dtype.numpy()).astype(np.dtype(dtype.code))
        return torch.from_numpy(flat.reshape(shape, order="F" if fortran else "C").copy(order="C"))

    return LazyTensor(tuple(shape), dtype.torch(), load)


def _reconstruct(*_: Any) -> NumpyArray:
    return NumpyArray()


def _dtype(code: Any, *_: Any) -> NumpyDtype:
    """numpy.dtype("f4", False, True), or numpy.dtype(numpy.float32)."""
    if isinstance(code, GlobalName):
        code = np.dtype(code.name).str[1:] if code.name in np.sctypeDict else "O8"
    text = brief(code, 8).lstrip("<>=|")
    return NumpyDtype("b1" if text == "?" else text)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(dtype, NumpyDtype) or not dtype.numeric or not isinstance(data, bytes):
        return Inert(GlobalName("numpy", "scalar"), (data,))
    if len(data) != dtype.numpy().itemsize:
        raise DamagedError("a numpy number has the wrong size")
    return np.frombuffer(data, dtype.numpy())[0].item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    """Protocol 5: numpy._core.numeric._frombuffer(data, dtype, shape, order)."""
    made = array(shape, dtype, order == "F", data)
    return made if made is not None else Inert(GlobalName("numpy", "ndarray"), (data,))


ARRAY_HANDLERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
} | {
    (f"numpy.{core}.{module}", name): handler
    for core in ("core", "_core")
    for module, name, handler in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
