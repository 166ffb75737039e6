"""How far images are from real ones of the kind that the generator was trained on, in nats of a hypothesis's score.

Images are made 8 pixels a side and compared as points by a sliced Wasserstein distance: all are projected to lines in
fixed random directions, and how far the sorted projections lie apart says how far the two sets do (Rabin and others
2011). No network and no labels are needed; the same images give the same number.

What an output activation does to all images alike, brightness and contrast, this tells well; whether a hidden
activation is the right one, less. So the two parts count differently: how far the hypotheses with one output are on
average, and how far one is beyond that. Both weights were fitted to generators trained for it (docs/forensics.md).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_export.reading.likes import pictures_like

OUTPUT, WITHIN = 5.5, 1.4
"""Nats for a distance that is e times as large: on average over those with one output, and beyond that average."""
SEED = 0
DIRECTIONS = 64
SIDE = 8
QUANTILES = 256
SMALL, LARGE = 1e-3, 1e3
"""Distances, as a part of the real images' spread, are at least and at most this."""


@dataclass(frozen=True)
class Real:
    """Real images, projected: sorted samples on each direction, float32 (DIRECTIONS, QUANTILES), and their spread.

    channels  of the images
    name      where they come from, for people
    """

    channels: int
    name: str
    projected: Tensor
    spread: float


RealOf = Callable[[tuple[int, int, int]], Real | None]
"""The real images that a generator of images (C, H, W) is compared with; None for none."""


def real_images(image_NCHW: Tensor, name: str) -> Real:
    """Real images, float32 (N, C, H, W), black 0 and white 1, for `distance`."""
    projected = _projected(image_NCHW)
    return Real(image_NCHW.shape[1], name, projected, float(projected.std()) + SMALL)


def real_of(said: str | None) -> RealOf:
    """A function that gives the real images that `said` names, see `gan_export.reading.likes`, as a generator of images
    (C, H, W) makes them; read once for each size. Without `said` it gives None."""

    @functools.cache
    def read(image: tuple[int, int, int]) -> Real | None:
        if said is None:
            return None
        pixels = torch.from_numpy(pictures_like(said, image)).permute(0, 3, 1, 2)
        return real_images(pixels.float() / 255, Path(said).name)

    return read


def distance(image_NCHW: Tensor, real: Real) -> float:
    """The log of how far images, float32 (N, C, H, W), are from `real`."""
    mine = _projected(image_NCHW[:, : real.channels])
    apart = (mine - real.projected).abs().mean() / real.spread
    return float(apart.nan_to_num(LARGE).clamp(SMALL, LARGE).log())


def scores(distances: Sequence[float], outputs: Sequence[str | None]) -> list[float]:
    """What the distances of hypotheses that end in `outputs` add to their scores, in nats."""
    means = {
        output: sum(d for d, other in zip(distances, outputs, strict=True) if other == output) / outputs.count(output)
        for output in outputs
    }
    return [-OUTPUT * means[o] - WITHIN * (d - means[o]) for d, o in zip(distances, outputs, strict=True)]


def _projected(image: Tensor) -> Tensor:
    points = F.adaptive_avg_pool2d(image.float().clamp(-1.0, 2.0), SIDE).flatten(1)
    generator = torch.Generator().manual_seed(SEED)
    lines = F.normalize(torch.randn(points.shape[1], DIRECTIONS, generator=generator), dim=0)
    ordered = (points @ lines).T.sort(dim=1).values
    return ordered[:, torch.linspace(0, ordered.shape[1] - 1, QUANTILES).round().long()]
