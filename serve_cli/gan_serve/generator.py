"""The one interface of a loaded model, whatever runs it."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gan_serve.contract import Contract
from gan_serve.errors import GanportError
from gan_serve.latents import check_seeds, latents

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

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
        seed_array = check_seeds(seeds)
        pieces = list(self.stream(seed_array, labels, truncation=truncation, batch_size=batch_size))
        if not pieces:
            c, h, w = self.contract.image
            return np.zeros((0, h, w, c), np.uint8)
        return np.concatenate(pieces)

    def stream(
        self,
        seeds: Iterable[int],
        labels: int | Sequence[int] | None = None,
        *,
        truncation: float | None = None,
        batch_size: int | None = None,
    ) -> Iterator[U8]:
        """As `generate`, one internal batch at a time, so that memory stays flat. Checks before the first batch."""
        size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        if size < 1:
            raise GanportError(f"batch size must be at least 1, got {size}")
        seed_array = check_seeds(seeds)
        label_array = self.check_labels(labels, seed_array)
        latents(seed_array[:1], self.contract.z_dim, self.contract.latent, truncation)
        return self._batches(seed_array, label_array, truncation, size)

    def _batches(self, seeds: I64, labels: I64 | None, truncation: float | None, size: int) -> Iterator[U8]:
        for start in range(0, len(seeds), size):
            chunk = slice(start, start + size)
            z = latents(seeds[chunk], self.contract.z_dim, self.contract.latent, truncation)
            yield self.run_pixels(z, None if labels is None else labels[chunk])

    def check_labels(self, labels: int | Sequence[int] | None, seeds: I64) -> I64 | None:
        """Labels as int64 (n,), or None for an unconditional model. Raises `GanportError` when they do not fit."""
        n_classes = self.contract.n_classes
        if n_classes == 0:
            if labels is not None:
                raise GanportError("this generator has no classes", hint="leave the class out")
            return None
        if labels is None:
            return default_labels(seeds, n_classes)
        array = np.asarray(labels)
        if array.dtype.kind not in "iu":
            raise GanportError("labels must be integers", hint=f"classes are 0 … {n_classes - 1}")
        if array.ndim == 0:
            array = np.full(len(seeds), array)
        if array.shape != (len(seeds),):
            raise GanportError(f"expected one label, or one per seed ({len(seeds)}), got {array.size}")
        if array.size and not (array.min() >= 0 and array.max() < n_classes):
            raise GanportError(f"class {array.max()} does not exist", hint=f"classes are 0 … {n_classes - 1}")
        return array.astype(np.int64)


def default_labels(seeds: I64, n_classes: int) -> I64:
    """The class of seed s where none is asked for: s mod n_classes, so that any run of seeds shows every class."""
    return seeds % n_classes
