"""A model file becomes a generator that draws: sessions of onnxruntime, providers, the pixels of a batch.

Here are batches: what goes into a run and what has to come out of it, as the graph takes and gives it, and work on them
in threads, in order. A file of ours is held against its contract; what the ports of a stranger's file mean, `foreign`
finds out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Generator as Results
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.files.metadata import Dims, Port
from gan_core.interface import Interface, parse_classes

Labels = I64 | F32 | None
"""The classes of a batch (n,); None without classes; shares of them (n, n_classes) where `Generator.mixes_classes`."""
Given = npt.NDArray[Any]
"""What a batch is made of: latents float32 (n, z_dim), or pixels uint8 (n, H, W, C) where a generator takes images."""
Feed = tuple[Given, Labels]
"""One batch: its inputs, and its labels."""
Classes = int | str | Sequence[int] | Sequence[str] | Sequence[int | str] | None
"""Classes as callers name them: by index or name, one for all images or one for each."""

T = TypeVar("T")
R = TypeVar("R")

OTHER_IMAGES = "the file is damaged or was changed after its export; export it again"
_LATENTS_AT_ONCE = 256
"""Latents are cheap by the hundred: of 16, NumPy's calls cost more than what they compute."""


def check_drawn(
    contract: Contract,
    given: tuple[int, ...],
    *,
    image_NCHW: npt.NDArray[Any] | None = None,
    pixels_NHWC: npt.NDArray[Any] | None = None,
) -> None:
    """Holds what a runtime made of a batch of the shape `given`, latents (n, z_dim) or pixels (n, H, W, C), against the
    contract: count, sizes, channels and element type.

    Raises `ContractError`, with what was expected and what was found.
    """
    n, (c, h, w) = given[0], contract.interface.made_of(given)
    wanted: dict[str, tuple[Any, tuple[int, ...], type[np.generic]]] = {
        "image": (image_NCHW, (n, c, h, w), np.float32),
        "pixels": (pixels_NHWC, (n, h, w, c), np.uint8),
    }
    for name, (made, shape, kind) in wanted.items():
        if made is not None and (np.shape(made) != shape or getattr(made, "dtype", None) != kind):
            found = f"{getattr(made, 'dtype', type(made).__name__)} {np.shape(made)}"
            inputs = "latents" if contract.interface.input is None else "images"
            raise ContractError(
                f"the model gave {name} {found} for {n} {inputs}, expected {np.dtype(kind)} {shape}", hint=OTHER_IMAGES
            )


def feeds(
    n: int, size: int, latents_of: Callable[[int, int], F32], labels_of: Callable[[int, int], Labels]
) -> Iterator[Feed]:
    """`n` images in batches of `size`: `latents_of(start, stop)` is asked for some hundreds at a time."""
    together = size * max(1, _LATENTS_AT_ONCE // size)
    for first in range(0, n, together):
        z = latents_of(first, min(first + together, n))
        for start in range(first, first + len(z), size):
            stop = min(start + size, first + len(z))
            yield z[start - first : stop - first], labels_of(start, stop)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Results[R, None, None]:
    """`work(item)` of every item, in order, in up to `threads` threads.

    Threads and not processes: what is done here (onnxruntime, zlib, the system's calls) lets go of Python's lock. At
    most `threads + 1` items are taken ahead of the result that is yielded, by the thread that iterates: memory stays
    flat in their number. An exception of `work` is raised in its place; then, and when the iterator is closed, no more
    work is begun, and what is under way is waited for.
    """
    if threads == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > threads + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def indices_of(labels: Classes, count: int, interface: Interface) -> int | Sequence[int] | I64 | None:
    """`labels` with indices in the place of names. Raises `GanportError` for a name that there is not."""
    if isinstance(labels, str):
        found = parse_classes([labels], interface)
        return found[0] if len(found) == 1 else np.asarray(found, np.int64)[np.arange(count) % len(found)]
    if isinstance(labels, Sequence) and any(isinstance(label, str) for label in labels):
        each = [parse_classes([str(label)], interface) for label in labels]
        several = next((label for label, found in zip(labels, each, strict=True) if len(found) != 1), None)
        if several is not None:
            raise GanportError(f"label {several!r} of a list names several classes", hint="one class for each seed")
        return [found[0] for found in each]
    return cast("int | Sequence[int] | None", labels)


def label_array(array: npt.NDArray[Any], count: int, interface: Interface) -> I64:
    """`count` labels, or one for all, as int64 (count,). Raises `GanportError` for others, and without classes."""
    n_classes, array = interface.n_classes, np.full(count, array) if array.ndim == 0 else array
    if n_classes == 0:
        raise GanportError("this generator has no classes", hint="leave the class out")
    if array.dtype.kind not in "iu" and array.size:
        raise GanportError("labels must be integers", hint=f"classes are 0 … {n_classes - 1}")
    if array.shape != (count,):
        raise GanportError(
            f"expected one label, or one per seed ({count}), got {array.size}",
            hint="give one class for all images, or a list as long as the seeds",
        )
    if array.size and not (array.min() >= 0 and array.max() < n_classes):
        wrong = array.min() if array.min() < 0 else array.max()
        raise GanportError(f"class {wrong} does not exist", hint=f"classes are 0 … {n_classes - 1}")
    return array.astype(np.int64)


@dataclass(frozen=True)
class Constant:
    """An input that is the same number for every image. `shape`: None for the batch."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    value: float


@dataclass(frozen=True)
class Signature:
    """How to feed a graph and what to read from it. Only a stranger's graph needs more than the names.

    z             name of the latent's input, or the image's
    z_shape       per-sample shape the graph wants of it: (D,), (D, 1, 1) …
    image         name of the image output
    label         name of the class input, or None
    pixels        name of the uint8 output (batch, H, W, C), or None: made from `image`
    fixed_batch   the one batch size that the graph takes, or None: any
    z_dtype       element type the graph wants of the latent
    label_dtype   and of the class; a float type wants the classes one-hot
    label_shape   per-sample shape of an integer class
    constants     what else is fed
    layout        "NCHW", "NHWC", or "flat": numbers in the order of CHW, in any shape
    single        whether the output is one image, without a first axis for the batch
    """

    z: str
    z_shape: tuple[int, ...]
    image: str
    label: str | None = None
    pixels: str | None = None
    fixed_batch: int | None = None
    z_dtype: str = "float32"
    label_dtype: str = "int64"
    label_shape: tuple[int, ...] = ()
    constants: tuple[Constant, ...] = ()
    layout: str = "NCHW"
    single: bool = False

    @property
    def mixes(self) -> bool:
        """Whether the class is a float vector, so that it can be shares of several."""
        return self.label is not None and np.dtype(self.label_dtype).kind == "f"

    def feeds(self, z: F32 | U8, label: I64 | F32 | None, n_classes: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs that have a row an image, as the graph takes them.

        z      (n, z_dim), or pixels (n, H, W, C) where the graph takes them
        label  (n,); shares (n, n_classes) where the graph `mixes`
        """
        given: npt.NDArray[Any] = np.ascontiguousarray(z, self.z_dtype)
        found = {self.z: given if given.ndim == 4 else given.reshape(-1, *self.z_shape)}
        if self.label is not None:
            labels = np.asarray(label)
            if self.mixes:
                shares = labels if labels.ndim == 2 else np.equal.outer(labels, np.arange(n_classes))
                found[self.label] = shares.astype(self.label_dtype)
            else:
                found[self.label] = labels.astype(self.label_dtype).reshape(-1, *self.label_shape)
        for constant in self.constants:
            if None in constant.shape:
                shape = [len(z) if side is None else side for side in constant.shape]
                found[constant.name] = np.full(shape, constant.value, constant.dtype)
        return found

    def fixed(self) -> dict[str, npt.NDArray[Any]]:
        """The other inputs."""
        return {
            constant.name: np.full([side or 0 for side in constant.shape], constant.value, constant.dtype)
            for constant in self.constants
            if None not in constant.shape
        }

    def images(self, given: npt.NDArray[Any], image: tuple[int, int, int]) -> F32:
        """What the output `image` holds, as float32 (n, C, H, W)."""
        given = given[None] if self.single else given
        if self.layout == "NHWC":
            given = given.transpose(0, 3, 1, 2)
        elif self.layout == "flat":
            given = given.reshape(-1, *image)
        return np.ascontiguousarray(given, np.float32)


def check_ours(contract: Contract, inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> Signature:
    """The signature of a file with a contract. Raises `ContractError` where its graph is not what the contract says."""
    interface = contract.interface
    sides: Dims = interface.image[1:]
    wanted_inputs: dict[str, tuple[str, Dims]] = {"z": ("tensor(float)", (None, interface.z_dim))}
    if interface.input is not None:
        given: Dims = interface.input_shape[1:]
        if not interface.input.fixed:
            sides = given = (None, None)
        wanted_inputs = {"input": ("tensor(uint8)", (None, *given, interface.input.channels))}
    if interface.conditional:
        wanted_inputs["label"] = ("tensor(int64)", (None,))
    _check_ports(wanted_inputs, inputs, where, "takes")
    _check_ports(
        {
            "image": ("tensor(float)", (None, interface.channels, *sides)),
            "pixels": ("tensor(uint8)", (None, *sides, interface.channels)),
        },
        [port for port in outputs if port.name in ("image", "pixels")],
        where,
        "gives",
    )
    image_input = interface.input is not None
    return Signature(
        interface.input_name,
        (interface.z_dim,),
        "image",
        label="label" if interface.conditional else None,
        pixels="pixels",
        z_dtype="uint8" if image_input else "float32",
    )


def _check_ports(wanted: dict[str, tuple[str, Dims]], found: Sequence[Port], where: str, verb: str) -> None:
    ports = {port.name: port for port in found}
    for name, (kind, dims) in wanted.items():
        port = ports.pop(name, None)
        want = Port(name, kind, dims)
        if port is None:
            raise ContractError(f"{where}: its metadata says that it {verb} {want}, its graph does not", hint=_REPAIR)
        fits = len(port.dims) == len(dims) and all(
            asked is None or side == asked for side, asked in zip(port.dims, dims, strict=True)
        )
        if port.type != kind or not fits:
            raise ContractError(
                f"{where}: its metadata says that it {verb} {kind} {want}, its graph {port.type} {port}", hint=_REPAIR
            )
        if port.dims[0] is not None:
            raise ContractError(f"{where}: the batch of {name} is fixed at {port.dims[0]}", hint=_REPAIR)
    if ports:
        raise ContractError(f"{where}: its graph {verb} {next(iter(ports))}, its metadata does not", hint=_REPAIR)


_REPAIR = "the file was changed after its export; export it again"
