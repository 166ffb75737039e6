"""Images of several seeds: a walk, which is a closed path through K seeds' latents, image by image; and style mixing.

Between two latents the path is the great circle (slerp), not the straight line: a mean of two N(0, I) vectors is too
short for the generator to have met in training, a point on the arc is not. Source: White, "Sampling generative
networks", 2016, arXiv:1609.04468. Uniform latents are carried to normal ones and back, component by component, so that
the path keeps their law as well.

A mix takes the styles of one seed up to a layer, and of another from there on (StyleGAN, Karras et al. 2019,
arXiv:1812.04948).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from gan_core.arrays import F32, F64, I64
from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.latents import LatentLaw, Seeds, default_labels, parse_seeds
from gan_core.printable import shorten
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.plan import LatentPlan

FRAMES_PER_SEED = 40
MAX_KEYS = 10_000
MAX_FRAMES = 1_000_000
MAX_MIXED = 10_000


class Walk:
    """`frames` pictures, evenly spaced on the closed path through the latents of seeds.

    seeds    of `tiles` paths, one path's after the other's: as many each, K of them
    frames   None: `FRAMES_PER_SEED` from seed to seed
    classes  of the seeds, in turn; empty: a path keeps the class of its first seed
    tiles    paths that are walked side by side: image i is tile i mod `tiles` of frame i // `tiles`
    to_w     gives the styles of seeds and classes, for a generator with styles: its path is a straight line from w to w
    mixed    whether classes are mixed from seed to seed; else an image has the class of the nearest seed

    Frame 0 is the first seed's image; after the last frame the path comes back to it, so that a loop has no seam.
    Raises `GanportError` for fewer than 2 seeds a path, and for fewer frames than seeds.
    """

    def __init__(
        self,
        interface: Interface,
        seeds: Seeds,
        frames: int | None = None,
        classes: Sequence[int] = (),
        truncation: float | None = None,
        *,
        tiles: int = 1,
        mixed: bool = False,
        to_w: Callable[[Any, Any], F32] | None = None,
    ) -> None:
        keys = len(seeds) // tiles
        if keys > 1 and tiles > 1 and len(seeds) > MAX_KEYS:
            raise GanportError(
                f"{tiles} walks through {keys} seeds each go through {len(seeds)}, the most is {MAX_KEYS}",
                hint="walk through fewer seeds, or fewer walks side by side",
            )
        if not 2 <= keys <= MAX_KEYS:
            raise GanportError(f"a walk goes through 2 … {MAX_KEYS} seeds, got {keys}", hint="8 make a good one")
        frames = FRAMES_PER_SEED * keys if frames is None else frames
        if not keys <= frames <= MAX_FRAMES:
            raise GanportError(
                f"a walk through {keys} seeds has {keys} … {MAX_FRAMES} frames, got {frames}",
                hint=f"{FRAMES_PER_SEED * keys} `frames` are {FRAMES_PER_SEED} from seed to seed",
            )
        self.interface, self.frames, self.tiles, self.keys = interface, frames, tiles, keys
        array = seeds.array(0, keys * tiles)
        self._latents = interface.latents(array, truncation)
        self._classes: I64 | None = None
        self._mixed = mixed
        if len(classes):
            self._classes = np.asarray(classes, np.int64)[np.arange(len(array)) % len(classes)]
        elif interface.conditional:
            self._classes = np.repeat(default_labels(array[::keys], interface.n_classes), keys)
        if interface.styles is not None and to_w is not None:
            self._latents = to_w(array, self._classes)

    def __len__(self) -> int:
        return self.frames * self.tiles

    def latents(self, start: int, stop: int) -> F32:
        """The latents of images `start` up to `stop`: float32 (stop - start, z_dim), or styles, (…, num_ws, w_dim)."""
        before, after, part = self._between(start, stop)
        if self._latents.ndim == 3:
            share = part.astype(np.float32)[:, None, None]
            return self._latents[before] * (1 - share) + self._latents[after] * share
        return between(self._latents[before], self._latents[after], part, self.interface.latent)

    def labels(self, start: int, stop: int) -> I64 | F32 | None:
        """Their classes, int64 (n,); mixed ones as shares, float32 (n, n_classes). None without classes."""
        if self._classes is None or not self._mixed:
            return self.nearest_classes(start, stop)
        before, after, part = self._between(start, stop)
        shares, rows = np.zeros((len(part), self.interface.n_classes), np.float32), np.arange(len(part))
        shares[rows, self._classes[before]] += (1 - part).astype(np.float32)
        shares[rows, self._classes[after]] += part.astype(np.float32)
        return shares

    def nearest_classes(self, start: int, stop: int) -> I64 | None:
        """The classes of the nearest seeds, int64 (n,)."""
        if self._classes is None:
            return None
        before, after, part = self._between(start, stop)
        return np.where(part < 0.5, self._classes[before], self._classes[after])

    @property
    def changes_class(self) -> bool:
        """Whether a path goes from one class to another."""
        return self._classes is not None and bool(np.ptp(self._classes.reshape(self.tiles, -1), axis=1).any())

    def _between(self, start: int, stop: int) -> tuple[I64, I64, F64]:
        """Of each image: the number of the seed before it, of the one after, and which part of the way it is on."""
        image = np.arange(start, stop, dtype=np.int64)
        position = (image // self.tiles).astype(np.float64) * self.keys / self.frames
        leg = np.floor(position).astype(np.int64)
        first = image % self.tiles * self.keys
        return first + leg % self.keys, first + (leg + 1) % self.keys, position - leg


def between(a: F32, b: F32, t: F64, law: LatentLaw = "normal") -> F32:
    """Points of the arcs from latents `a` (N, D) to `b` (N, D), at `t` (N,) in [0, 1]: float32 (N, D)."""
    if law == "uniform01":  # by way of those of U(-1, 1)
        return between(2 * a - 1, 2 * b - 1, t, "uniform") / np.float32(2) + np.float32(0.5)
    ends = [_each(end, _to_normal) if law == "uniform" else end.astype(np.float64) for end in (a, b)]
    z = slerp(ends[0], ends[1], t)
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


def _to_normal(z: float) -> float:
    return _NORMAL.inv_cdf(min(max((z + 1) / 2, _EDGE), 1 - _EDGE))


def _each(values: F64 | F32, function: Callable[[float], float]) -> F64:
    applied: F64 = np.vectorize(function, otypes=[np.float64])(values.astype(np.float64))
    return applied


class Mix:
    """What `--mix 7:12@8` says; lists of seeds make a table of all pairs: `0-3:10-13@8`.

    Raises `GanportError` for another text.
    """

    def __init__(self, text: str) -> None:
        pair, at, layer = text.rpartition("@")
        first, colon, second = pair.partition(":")
        if not (at and colon and layer.isascii() and layer.isdecimal() and len(layer) < 5):
            raise GanportError(
                f"a mix must be SEEDS:SEEDS@LAYER, got {shorten(text, 40)!r}",
                hint="7:12@8 takes the first 8 styles of seed 7 and the others of seed 12",
            )
        self.text, self.layer = text, int(layer)
        self.first, self.second = parse_seeds(first), parse_seeds(second)
        if len(self.first) * len(self.second) > MAX_MIXED:
            raise GanportError(
                f"{len(self.first)} x {len(self.second)} mixes are too many, the most is {MAX_MIXED:,}",
                hint="list fewer seeds",
            )

    def plan(self, generator: Generator, label: int | None = None) -> LatentPlan:
        """The images: a row for each of the first seeds, a column for each of the second; all of one class, where it is
        given. Raises `GanportError` for a layer that the generator does not have."""
        rows, cols, styles = len(self.first), len(self.second), generator.contract.interface.styles
        if styles is not None and not 1 <= self.layer < styles.num_ws:
            raise GanportError(
                f"the layer of a mix must be 1 … {styles.num_ws - 1}, got {self.layer}",
                hint="low layers decide the pose, high ones the colours",
            )
        coarse, fine = (generator.to_w(seeds.array(0, len(seeds)), label) for seeds in (self.first, self.second))
        w = np.repeat(coarse, cols, axis=0)
        w[:, self.layer :] = np.tile(fine, (rows, 1, 1))[:, self.layer :]
        plan = LatentPlan(generator.contract, w, f"mix {self.text}", () if label is None else (label,))
        plan.cols = cols
        return plan
