"""The calls of the CUDA runtime that the CUDA engine makes, by ctypes: streams, events, page-locked memory, copies.

onnxruntime's Python interface copies to and from the GPU through pageable memory and waits for each copy. The library
is the one that onnxruntime-gpu has loaded itself (`libcudart`, of the CUDA version it was built for); signatures as in
NVIDIA's CUDA Runtime API reference. Handles (streams, events) and addresses are integers.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the default stream
_DISABLE_TIMING = 2  # cudaEventDisableTiming


class CudaError(RuntimeError):
    """A CUDA call that failed, or a library that is not there."""


class CudaRuntime:
    """The CUDA runtime of device 0 of this process.

    cuda_version   "13.0", as onnxruntime says what it was built for (`onnxruntime.cuda_version`)
    Raises `CudaError` where the library does not load.
    """

    def __init__(self, cuda_version: str) -> None:
        major = cuda_version.split(".")[0]
        if not major.isdigit():
            raise CudaError(f"onnxruntime does not say its CUDA version: {cuda_version!r}")
        name = f"cudart64_{major}.dll" if sys.platform == "win32" else f"libcudart.so.{major}"
        try:
            self._library: Any = ctypes.CDLL(name)
        except OSError as error:
            raise CudaError(str(error)) from error
        self._call("cudaSetDevice", ctypes.c_int(0))

    def new_stream(self) -> int:
        """A stream. It lives as long as the process: a session may hold it longer than we do."""
        return self._new("cudaStreamCreateWithFlags", ctypes.c_uint(_NON_BLOCKING))

    def new_event(self) -> int:
        """An event without a clock."""
        return self._new("cudaEventCreateWithFlags", ctypes.c_uint(_DISABLE_TIMING))

    def record(self, event: int, stream: int) -> None:
        """`event` happens when `stream` has done all that it was given so far."""
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def stream_waits(self, stream: int, event: int) -> None:
        """What `stream` is given from here on waits for `event`; the caller does not."""
        self._call("cudaStreamWaitEvent", ctypes.c_void_p(stream), ctypes.c_void_p(event), ctypes.c_uint(0))

    def wait(self, event: int) -> None:
        """Waits for `event`, other Python threads going on."""
        self._call("cudaEventSynchronize", ctypes.c_void_p(event))

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array in page-locked memory, which the GPU copies without the CPU; freed with the array.

        Ordinary memory where no more pages can be locked: slower, not wrong.
        """
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = ctypes.c_void_p()
        try:
            self._call("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(max(count, 1)), ctypes.c_uint(0))
        except CudaError:
            return np.zeros(shape, dtype)
        assert pointer.value is not None
        buffer = (ctypes.c_ubyte * count).from_address(pointer.value)
        weakref.finalize(buffer, self._library.cudaFreeHost, ctypes.c_void_p(pointer.value)).atexit = False
        return np.ndarray(shape, dtype, buffer)  # type: ignore[arg-type]

    def to_device(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Copies a contiguous array to `address` on the GPU, in the order of `stream`."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def to_host(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Fills a contiguous array from `address` on the GPU, in the order of `stream`."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def _copy(self, to: int, source: int, count: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(count),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _new(self, function: str, flags: ctypes.c_uint) -> int:
        handle = ctypes.c_void_p()
        self._call(function, ctypes.byref(handle), flags)
        return int(handle.value or 0)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            explain = self._library.cudaGetErrorString
            explain.restype = ctypes.c_char_p
            raise CudaError(f"{function}: {(explain(ctypes.c_int(code)) or b'?').decode(errors='replace')} ({code})")
