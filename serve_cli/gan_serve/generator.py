"""The one interface of a loaded model, whatever runs it."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_serve.contract import Contract
from gan_serve.errors import GanportError
from gan_serve.latents import latents
from gan_serve.seeds import Seeds

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

Feed = tuple[F32, I64 | None]
"""One batch: its latents (n, z_dim), and its labels (n,) or None."""

DEFAULT_BATCH_SIZE = 16
"""Images per internal batch. Small batches stay in the cache and keep memory flat; the images do not depend on it."""


class Generator(abc.ABC):
    """A generator that draws images for seeds.

    Attributes: `contract` (what the file says of itself), `provider` (the name of what really runs it),
    `sha256` (hex digest of the file).
    """

    contract: Contract
    provider: str
    sha256: str

    @abc.abstractmethod
    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        """One batch exactly as given: z (n, z_dim), label (n,) when conditional.

        Returns `image` float32 (n, C, H, W) in `contract.value_range` and `pixels` uint8 (n, H, W, C).
        """

    def run_pixels(self, z: F32, label: I64 | None = None) -> U8:
        """As `run`, but only `pixels` (runtimes override it to skip copying the floats)."""
        return self.run(z, label)[1]

    def run_stream(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        """`run_pixels` of every feed, in order; each array is the caller's to keep.

        Runtimes override it to overlap what a device does with what the caller does: up to two feeds may be taken
        ahead of the batch that is yielded, and memory stays flat in their number.
        """
        for z, label in feeds:
            yield self.run_pixels(z, label)

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
        truncation  bound on |z|, see `gan_serve.latents`.
        batch_size  images per internal batch; changes speed and memory, never the images.
        Raises `GanportError` for a seed, label, truncation or batch size out of range.
        """
        every = Seeds.of(seeds)
        c, h, w = self.contract.image
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
        size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        if size < 1:
            raise GanportError(f"batch size must be at least 1, got {size}")
        every = Seeds.of(seeds)
        label_array = None
        if labels is None or np.ndim(labels) == 0:
            self.check_labels(labels, every.array(0, 1))
        else:
            label_array = self._check_label_array(np.asarray(labels), len(every))
        latents(every.array(0, 1), self.contract.z_dim, self.contract.latent, truncation)
        return self.run_stream(self._feeds_of(every, labels if label_array is None else label_array, truncation, size))

    def _feeds_of(
        self, seeds: Seeds, labels: int | Sequence[int] | I64 | None, truncation: float | None, size: int
    ) -> Iterator[Feed]:
        for start in range(0, len(seeds), size):
            chunk = seeds.array(start, start + size)
            z = latents(chunk, self.contract.z_dim, self.contract.latent, truncation)
            given = labels[start : start + size] if isinstance(labels, np.ndarray) else labels
            yield z, self.check_labels(given, chunk)

    def check_labels(self, labels: int | Sequence[int] | I64 | None, seeds: I64) -> I64 | None:
        """Labels as int64 (n,), or None for an unconditional model. Raises `GanportError` when they do not fit."""
        if self.contract.conditional and labels is None:
            return default_labels(seeds, self.contract.n_classes)
        if labels is None:
            return None
        array = np.asarray(labels)
        return self._check_label_array(np.full(len(seeds), array) if array.ndim == 0 else array, len(seeds))

    def _check_label_array(self, array: npt.NDArray[Any], count: int) -> I64:
        n_classes = self.contract.n_classes
        if n_classes == 0:
            raise GanportError("this generator has no classes", hint="leave the class out")
        if array.dtype.kind not in "iu" and array.size:
            raise GanportError("labels must be integers", hint=f"classes are 0 … {n_classes - 1}")
        if array.shape != (count,):
            raise GanportError(f"expected one label, or one per seed ({count}), got {array.size}")
        if array.size and not (array.min() >= 0 and array.max() < n_classes):
            wrong = array.min() if array.min() < 0 else array.max()
            raise GanportError(f"class {wrong} does not exist", hint=f"classes are 0 … {n_classes - 1}")
        return array.astype(np.int64)


def default_labels(seeds: I64, n_classes: int) -> I64:
    """The class of seed s where none is asked for: s mod n_classes, so that any run of seeds shows every class."""
    return seeds % n_classes
