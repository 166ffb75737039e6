"""Sliced Wasserstein distance between Laplacian pyramids (Karras et al. 2018, arXiv:1710.10196, section 5).

Each image becomes a pyramid: at each level, the image minus its blurred self; half the side at the next; the last level
(16 pixels or the last above) is the image itself. From each level 7x7 patches are drawn at random places. Along
a random direction two sets of patches are two sets of numbers, whose Wasserstein distance is the mean |a_(i) - b_(i)|
of the sorted numbers; it is averaged over the directions. Multiplied by 1000, as in the paper.

Other than in the paper's code, which gives each set a mean of 0 and a deviation of 1 of its own, both sets are
shifted and scaled by those of the reference, per channel: a generator that is too pale or too dark is seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.arrays import I64, U8
from gan_trainer.batches import normalise
from gan_trainer.evaluation.generators import ShardSet, at_once

PATCH = 7
LEAST_SIDE = 16
PATCHES = 1 << 16
DIRECTIONS = 256
IMAGES_AT_ONCE, VALUES_AT_ONCE = 256, 1 << 22
CONFIGURATION = {
    "version": 1, "patch": PATCH, "least_side": LEAST_SIDE, "patches": PATCHES, "directions": DIRECTIONS,
}  # fmt: skip


class Sliced:
    """Patches of a reference set, uint8 (N, S, S, C) or its `rows`, to measure others of its shape against."""

    def __init__(self, reference_NHWC: U8, device: torch.device, seed: int = 0, *, rows: I64 | None = None) -> None:
        self.device = device
        self.seed = seed
        self.levels: dict[int, Tensor] = {}
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}
        for side, patches in self._patches(reference_NHWC, rows, stream=0):
            deviation, mean = torch.std_mean(patches, (0, 2, 3), keepdim=True)
            self.moments[side] = (mean, deviation.clamp_min(1e-6))
            self.levels[side] = ((patches - mean) / self.moments[side][1]).flatten(1)

    def distance(self, pixels_NHWC: U8 | ShardSet, rows: I64 | None = None) -> tuple[tuple[int, float], ...]:
        """(side, 1000 · distance) of each level, the finest first. Shards are read once for each."""
        found = []
        for side, patches in self._patches(pixels_NHWC, rows, stream=1):
            mean, deviation = self.moments[side]
            rng = torch.Generator().manual_seed(self.seed)
            given = ((patches - mean) / deviation).flatten(1)
            found.append((side, 1000.0 * sliced_wasserstein(self.levels[side], given, rng, DIRECTIONS)))
        return tuple(found)

    def _patches(self, pixels_NHWC: U8 | ShardSet, rows: I64 | None, stream: int) -> Iterator[tuple[int, Tensor]]:
        """(side, patches float32 (PATCHES, C, 7, 7)) of each level; level by level, to hold one at a time."""
        size = pixels_NHWC.shape[1]
        n = len(pixels_NHWC) if rows is None else len(rows)
        for level, side in enumerate(sides(size)):
            rng = np.random.default_rng([self.seed, level, stream])
            if n > PATCHES:  # one patch each of some, from all of them
                of_image = np.sort(rng.choice(n, PATCHES, replace=False))
            else:
                of_image = np.sort(rng.permutation(np.arange(PATCHES) % n))
            corners = rng.integers(0, side - PATCH + 1, (PATCHES, 2))
            used, of_used = np.unique(of_image, return_inverse=True)
            parts: list[Tensor] = []
            start = 0
            for chunk in _chunks(pixels_NHWC, used if rows is None else rows[used]):
                images = laplacian_level(normalise(torch.from_numpy(chunk).to(self.device)), level, sides(size))
                low, high = np.searchsorted(of_used, (start, start + len(chunk)))
                parts.append(_cut(images, of_used[low:high] - start, corners[low:high]))
                start += len(chunk)
            yield side, torch.cat(parts)


def _chunks(pixels_NHWC: U8 | ShardSet, rows: I64) -> Iterator[U8]:
    """Images `rows`, which are in order, some at a time."""
    step = at_once(pixels_NHWC.shape[1:], IMAGES_AT_ONCE, VALUES_AT_ONCE)
    if not isinstance(pixels_NHWC, np.ndarray):
        yield from pixels_NHWC.chunks(step, rows)
        return
    for start in range(0, len(rows), step):
        yield pixels_NHWC[rows[start : start + step]]


def sides(size: int) -> tuple[int, ...]:
    """The sides of the pyramid's levels: `size`, then halves while they are even and at least 16."""
    found = [size]
    while found[-1] % 2 == 0 and found[-1] // 2 >= LEAST_SIDE:
        found.append(found[-1] // 2)
    return tuple(found)


def laplacian_level(images_NCHW: Tensor, level: int, levels: tuple[int, ...]) -> Tensor:
    """Level `level` of the Laplacian pyramid of images (N, C, S, S); the last is not a difference."""
    for _ in range(level):
        images_NCHW = _blur(images_NCHW)[:, :, ::2, ::2]
    if level == len(levels) - 1:
        return images_NCHW
    half = _blur(images_NCHW)[:, :, ::2, ::2]
    spread = torch.zeros_like(images_NCHW)
    spread[:, :, ::2, ::2] = half
    return images_NCHW - 4.0 * _blur(spread)


def sliced_wasserstein(first: Tensor, second: Tensor, rng: torch.Generator, directions: int) -> float:
    """The mean over random directions of the Wasserstein-1 distance between the projections of two (n, d) sets."""
    axes = torch.randn(first.shape[1], directions, generator=rng)
    axes = (axes / axes.norm(dim=0)).to(first.device)
    total = 0.0
    for chunk in axes.split(32, 1):
        a, b = ((values @ chunk).T.contiguous().sort(1).values for values in (first, second))
        total += float((a - b).abs().mean(1).double().sum())
    return total / directions


def _blur(images_NCHW: Tensor) -> Tensor:
    """The 5x5 binomial filter of Burt and Adelson (1983), mirrored at the edges."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images_NCHW.device) / 16
    channels = images_NCHW.shape[1]
    padded = F.pad(images_NCHW, (2, 2, 2, 2), mode="reflect")
    across = F.conv2d(padded, row.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(across, row.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)


def _cut(images_NCHW: Tensor, rows: np.typing.NDArray[np.int64], corners: np.typing.NDArray[np.int64]) -> Tensor:
    """Patches (n, C, 7, 7) of images `rows` at (top, left) `corners`."""
    windows = images_NCHW.unfold(2, PATCH, 1).unfold(3, PATCH, 1)
    index, top, left = (torch.from_numpy(a).to(images_NCHW.device) for a in (rows, corners[:, 0], corners[:, 1]))
    return windows[index, :, top, left]
