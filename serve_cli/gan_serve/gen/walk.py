"""A walk through latent space: a closed path through K seeds' latents, image by image.

Between two latents the path is the great circle (slerp), not the straight line: a mean of two N(0, I) vectors is too
short for the generator to have met in training, a point on the arc is not. Source: White, "Sampling generative
networks", 2016, arXiv:1609.04468. Uniform latents are carried to normal ones and back, component by component, so that
the path keeps their law as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from gan_core.arrays import F32, F64, I64
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.latents import LatentLaw, Seeds, default_labels
from gan_core.printable import shorten
from gan_serve.gen.plan import Plan

FRAMES_PER_SEED = 20
MAX_KEYS = 10_000
MAX_FRAMES = 1_000_000


class WalkPlan(Plan):
    """`frames` images, evenly spaced on the closed path through the latents of `seeds` (K of them).

    Frame 0 is the first seed's image; after the last frame the path comes back to it, so that a loop has no seam.
    A frame's class is that of the nearest seed: `classes` in turn, else the first seed's own throughout.
    Raises `GanportError` for fewer than 2 seeds, and for fewer frames than seeds.
    """

    def __init__(
        self,
        contract: Contract,
        seeds: Seeds,
        frames: int | None = None,
        classes: Sequence[int] = (),
        truncation: float | None = None,
    ) -> None:
        keys = len(seeds)
        if not 2 <= keys <= MAX_KEYS:
            raise GanportError(f"a walk goes through 2 … {MAX_KEYS} seeds, got {keys}", hint="--walk 8 goes through 8")
        frames = FRAMES_PER_SEED * keys if frames is None else frames
        if not keys <= frames <= MAX_FRAMES:
            raise GanportError(
                f"a walk through {keys} seeds has {keys} … {MAX_FRAMES} frames, got {frames}",
                hint=f"--frames {FRAMES_PER_SEED * keys} gives {FRAMES_PER_SEED} from seed to seed",
            )
        super().__init__(contract, frames, classes)
        self.seeds = seeds
        self.truncation = truncation
        seed_array = seeds.array(0, keys)
        self._keys = contract.interface.latents(seed_array, truncation)
        self._first_label = (
            default_labels(seed_array[:1], contract.interface.n_classes) if contract.interface.conditional else None
        )

    def latents(self, start: int, stop: int) -> F32:
        return along(self._keys, self._positions(start, stop), self.contract.interface.latent)

    def labels(self, start: int, stop: int) -> I64 | None:
        if not self.contract.interface.conditional:
            return None
        if not len(self.classes):
            return self.default_labels(start, stop)
        nearest = np.floor(self._positions(start, stop) + 0.5).astype(np.int64) % len(self._keys)
        return self.classes[nearest % len(self.classes)]

    def default_labels(self, start: int, stop: int) -> I64:
        assert self._first_label is not None
        return np.repeat(self._first_label, stop - start)

    def stem(self, index: int) -> str:
        return f"frame{index:06d}"

    def describe(self) -> dict[str, str]:
        return {"gan.seeds": shorten(str(self.seeds))} | super().describe()

    def text(self, index: int) -> dict[str, str]:
        return {"gan.frame": str(index)}

    def _positions(self, start: int, stop: int) -> F64:
        """Where frames lie on the path, in seeds: 2.5 is half way between the third and the fourth."""
        return np.arange(start, stop, dtype=np.float64) * len(self._keys) / self.n


def along(keys: F32, positions: F64, law: LatentLaw = "normal") -> F32:
    """Points of the closed path through latents `keys` (K, D) at `positions` (N,), modulo K: float32 (N, D)."""
    path = keys.astype(np.float64)
    if law == "uniform":
        path = _each(path, lambda z: _NORMAL.inv_cdf(min(max((z + 1) / 2, _EDGE), 1 - _EDGE)))
    leg = np.floor(positions).astype(np.int64)
    z = slerp(path[leg % len(path)], path[(leg + 1) % len(path)], positions - leg)
    if law == "uniform":
        z = _each(z, lambda x: math.erf(x / math.sqrt(2)))
    return np.ascontiguousarray(z, dtype=np.float32)


def slerp(a: F64, b: F64, t: F64) -> F64:
    """Spherical interpolation, rows of a (N, D) to rows of b at t (N,) in [0, 1].

    The angle is that between the directions; lengths are interpolated by the same weights. Where a and b point
    the same way (or opposite ways, where no arc is the shortest) it is the straight line.
    """
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.clip((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), -1, 1)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    straight = sine < 1e-6
    divisor = np.where(straight, 1, sine)
    weight_a = np.where(straight, 1 - t, np.sin((1 - t) * angle) / divisor)
    weight_b = np.where(straight, t, np.sin(t * angle) / divisor)
    return weight_a[:, None] * a + weight_b[:, None] * b


_NORMAL = NormalDist()
_EDGE = 2.0**-33


def _each(values: F64, function: Callable[[float], float]) -> F64:
    applied: F64 = np.vectorize(function, otypes=[np.float64])(values)
    return applied
