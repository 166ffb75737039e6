"""numpy arrays and scalars in a pickle, as lazy tensors and Python numbers; numeric dtypes only.

An object array is a pickle within the pickle: what it holds was read like everything else, and it becomes `Inert`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.budget import brief
from gan_export.reading.inert import GlobalName, Inert
from gan_export.reading.lazy import LazyTensor, is_shape
from gan_export.reading.words import words

NUMERIC = words("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16")
_DAMAGED = "the file is damaged or forged"


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
            raise GanportError("a numpy array's state is not numpy's", hint=_DAMAGED)
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
        raise GanportError("a numpy array's shape or data is not numpy's", hint=_DAMAGED)
    if math.prod(shape) * dtype.numpy().itemsize != len(data):
        raise GanportError(
            f"a numpy array claims shape {str(shape)[:60]} of {dtype.code}, the file holds {len(data):,} bytes for it",
            hint="the file is damaged or made to exhaust memory; get it again from its author",
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
        raise GanportError("a numpy number has the wrong size", hint=_DAMAGED)
    return np.frombuffer(data, dtype.numpy())[0].item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    """Protocol 5: numpy._core.numeric._frombuffer(data, dtype, shape, order)."""
    made = array(shape, dtype, order == "F", data)
    return made if made is not None else Inert(GlobalName("numpy", "ndarray"), (data,))


HANDLERS: dict[tuple[str, str], Callable[..., Any]] = {
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
