"""The one interface of a loaded model, whatever runs it."""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Generator as Results
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.latents import Seeds, default_labels

Labels = I64 | F32 | None
"""The classes of a batch (n,); None without classes; shares of them (n, n_classes) where `Generator.mixes_classes`."""
Feed = tuple[F32, Labels]
"""One batch: its latents (n, z_dim), and its labels."""

BATCH_PIXELS = 16 * 3 * 64 * 64
MIN_BATCH, MAX_BATCH = 4, 64
"""See `Generator.batch_size`."""

T = TypeVar("T")
R = TypeVar("R")

_LATENTS_AT_ONCE = 256
"""Latents are cheap by the hundred: of 16, NumPy's calls cost more than what they compute."""


class Generator(abc.ABC):
    """A generator that draws images for seeds.

    Attributes: `contract` (what the file says of itself), `provider` (the name of what really runs it),
    `sha256` (hex digest of the file), `callers` (how many batches it draws best at a time, each called from a thread
    of its own; 1 for what is a queue itself, such as a GPU).
    """

    contract: Contract
    provider: str
    sha256: str
    callers: int = 1

    @property
    def held_to(self) -> str:
        """The precision whose limits the golden set is held to: what the file really is, whatever its contract says."""
        return self.contract.held_to

    @property
    def mixes_classes(self) -> bool:
        """Whether `label` may be shares of the classes: where the model takes numbers for them, and no index."""
        return False

    def graph_sha256(self) -> str:
        """What `contract.graph_sha256` has to be; empty where the runtime cannot tell."""
        return ""

    @abc.abstractmethod
    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        """One batch exactly as given: z (n, z_dim), label (n,) when conditional.

        Returns `image` float32 (n, C, H, W) in `contract.interface.value_range` and `pixels` uint8 (n, H, W, C).
        """

    def run_pixels(self, z: F32, label: I64 | None = None) -> U8:
        """As `run`, but only `pixels` (runtimes override it to skip copying the floats)."""
        return self.run(z, label)[1]

    def run_stream(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        """`run_pixels` of every feed, in order; each array is the caller's to keep.

        `callers` batches are drawn at a time: on a CPU, two batches with a core each need no waiting for each other, as
        two cores with half a batch do at the end of every operator. Runtimes override it to overlap what a device does
        with what the caller does: `callers + 1` feeds may be taken ahead of the batch that is yielded, and memory stays
        flat in their number.
        """
        return in_order(lambda feed: self.run_pixels(*cast("tuple[F32, I64 | None]", feed)), feeds, self.callers)

    def batch_size(self, n: int) -> int:
        """Images per internal batch for a run of `n`, where none is asked for. The images do not depend on it.

        At most `most_at_once`; a short run is shared evenly by `callers`.
        """
        return max(1, min(self.most_at_once, -(-n // self.callers)))

    @property
    def most_at_once(self) -> int:
        """Images per batch beyond which nothing is gained: as many as have `BATCH_PIXELS` values, 4 … 64.

        16 of 64x64 RGB. Large images gain nothing from a larger batch, which only needs more memory; small ones are
        many tiny operators, whose fixed cost a larger batch shares.
        """
        return max(MIN_BATCH, min(MAX_BATCH, BATCH_PIXELS // math.prod(self.contract.interface.image)))

    def generate(
        self,
        seeds: Iterable[int],
        labels: int | Sequence[int] | None = None,
        *,
        truncation: float | None = None,
        batch_size: int | None = None,
    ) -> U8:
        """The images of `seeds`: uint8 (n, H, W, C).

        labels      one class for all, or one per seed; None: `default_labels`. Unconditional models take none.
        truncation  bound on |z|, see `gan_core.latents`.
        batch_size  images per internal batch; changes speed and memory, never the images.
        Raises `GanportError` for a seed, label, truncation or batch size out of range.
        """
        every = Seeds.of(seeds)
        c, h, w = self.contract.interface.image
        try:
            pixels_NHWC = np.empty((len(every), h, w, c), np.uint8)
        except (MemoryError, ValueError) as error:  # ValueError: more bytes than an address holds
            raise GanportError(
                f"{len(every)} images of {w}x{h} do not fit into memory", hint="use stream(), or fewer seeds"
            ) from error
        done = 0
        for batch in self.stream(every, labels, truncation=truncation, batch_size=batch_size):
            pixels_NHWC[done : done + len(batch)] = batch
            done += len(batch)
        return pixels_NHWC

    def stream(
        self,
        seeds: Iterable[int],
        labels: int | Sequence[int] | None = None,
        *,
        truncation: float | None = None,
        batch_size: int | None = None,
    ) -> Iterator[U8]:
        """As `generate`, one internal batch at a time, so that memory stays flat: a range of any length will do.

        Checks before the first batch.
        """
        every, interface = Seeds.of(seeds), self.contract.interface
        label_array = None
        if labels is None or np.ndim(labels) == 0:
            self.check_labels(labels, every.array(0, 1))
        else:
            label_array = self._check_label_array(np.asarray(labels), len(every))
        interface.latents(every.array(0, 1), truncation)
        given = labels if label_array is None else label_array

        def latents_of(start: int, stop: int) -> F32:
            return interface.latents(every.array(start, stop), truncation)

        def labels_of(start: int, stop: int) -> I64 | None:
            part = given[start:stop] if isinstance(given, np.ndarray) else given
            return self.check_labels(part, every.array(start, stop))

        return self.draw(len(every), batch_size, latents_of, labels_of)

    def draw(
        self,
        n: int,
        batch_size: int | None,
        latents_of: Callable[[int, int], F32],
        labels_of: Callable[[int, int], Labels],
    ) -> Iterator[U8]:
        """`run_stream` of `n` images, each batch held against what was asked (`check_drawn`).

        Raises `GanportError` for a batch size below 1, at once, and `ContractError` where the runtime gives other
        images than were asked for, or not as many.
        """
        size = self.batch_size(n) if batch_size is None else batch_size
        if size < 1:
            raise GanportError(f"`batch_size` must be at least 1, got {size}", hint="leave it out for a good one")
        return self._drawn(n, size, latents_of, labels_of)

    def _drawn(
        self, n: int, size: int, latents_of: Callable[[int, int], F32], labels_of: Callable[[int, int], Labels]
    ) -> Iterator[U8]:
        asked: deque[int] = deque()

        def counted() -> Iterator[Feed]:
            for feed in feeds(n, size, latents_of, labels_of):
                asked.append(len(feed[0]))
                yield feed

        done = 0
        for pixels_NHWC in self.run_stream(counted()):
            check_drawn(self.contract, asked.popleft() if asked else 0, pixels_NHWC=pixels_NHWC)
            done += len(pixels_NHWC)
            yield pixels_NHWC
        if done != n:
            raise ContractError(f"the model gave {done} images, expected {n}", hint=_OTHER_IMAGES)

    def check_labels(self, labels: int | Sequence[int] | I64 | None, seeds: I64) -> I64 | None:
        """Labels as int64 (n,), or None for an unconditional model. Raises `GanportError` when they do not fit."""
        if self.contract.interface.conditional and labels is None:
            return default_labels(seeds, self.contract.interface.n_classes)
        if labels is None:
            return None
        array = np.asarray(labels)
        return self._check_label_array(np.full(len(seeds), array) if array.ndim == 0 else array, len(seeds))

    def _check_label_array(self, array: npt.NDArray[Any], count: int) -> I64:
        n_classes = self.contract.interface.n_classes
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


_OTHER_IMAGES = "the file is damaged or was changed after its export; export it again"


def check_drawn(
    contract: Contract,
    n: int,
    *,
    image_NCHW: npt.NDArray[Any] | None = None,
    pixels_NHWC: npt.NDArray[Any] | None = None,
) -> None:
    """Holds what a runtime gave for `n` latents against the contract: count, sizes, channels and element type.

    Raises `ContractError`, with what was expected and what was found.
    """
    c, h, w = contract.interface.image
    wanted: dict[str, tuple[Any, tuple[int, ...], type[np.generic]]] = {
        "image": (image_NCHW, (n, c, h, w), np.float32),
        "pixels": (pixels_NHWC, (n, h, w, c), np.uint8),
    }
    for name, (given, shape, kind) in wanted.items():
        if given is not None and (np.shape(given) != shape or getattr(given, "dtype", None) != kind):
            found = f"{getattr(given, 'dtype', type(given).__name__)} {np.shape(given)}"
            raise ContractError(
                f"the model gave {name} {found} for {n} latents, expected {np.dtype(kind)} {shape}", hint=_OTHER_IMAGES
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
