"""A model file becomes a generator that draws: sessions of onnxruntime, providers, the pixels of a batch.

Here are batches: what goes into a run and what has to come out of it, and work on them in threads, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Generator as Results
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64
from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
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

_LATENTS_AT_ONCE = 256
"""Latents are cheap by the hundred: of 16, NumPy's calls cost more than what they compute."""


OTHER_IMAGES = "the file is damaged or was changed after its export; export it again"


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
