"""Fidelity and variety apart: precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), density and
coverage (Naeem et al. 2020, arXiv:2002.09797).

Each set is taken for the union of balls around its points, each reaching to that point's k-th nearest neighbour in its
own set (the point itself not counted). With B_i the ball of the real x_i and B'_j that of the fake y_j:

    precision = share of y_j in some B_i            recall   = share of x_i in some B'_j
    density   = mean over j of |{i : y_j ∈ B_i}|/k  coverage = share of B_i that hold some y_j

k is 3 for the first two and 5 for the others, as their papers have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_core.errors import GanportError
from gan_trainer.evaluation.frechet import F64

K_PRECISION = 3
K_COVERAGE = 5
BLOCK_ELEMENTS = 1 << 24
"""Of a block of the matrix of distances: 128 MB in float64."""


@dataclass(frozen=True)
class Manifold:
    """Four numbers: precision, recall and coverage in [0, 1], density from 0; more than 1 where fakes crowd."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    real: npt.NDArray[np.floating],
    fake: npt.NDArray[np.floating],
    *,
    k_precision: int = K_PRECISION,
    k_coverage: int = K_COVERAGE,
) -> Manifold:
    """The four numbers of features (n, d) and (m, d). Raises `GanportError` when a set has no k-th neighbour."""
    x, y = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    # One origin for both keeps |x|² - 2 x·y + |y|² from cancelling where all features are far from 0.
    centre = x.mean(0)
    x, y = x - centre, y - centre
    real_radii = neighbour_radii(x, (k_precision, k_coverage))
    fake_radii = neighbour_radii(y, (k_precision,))
    inside_some_real = np.zeros(len(y), bool)
    covering = np.zeros(len(y), np.int64)
    recalled = np.zeros(len(x), bool)
    covered = np.zeros(len(x), bool)
    for rows, squared in _squared_distances(x, y):
        inside_some_real |= (squared <= real_radii[rows, 0:1]).any(0)
        inside = squared <= real_radii[rows, 1:2]
        covering += inside.sum(0)
        covered[rows] = inside.any(1)
        recalled[rows] = (squared <= fake_radii[:, 0]).any(1)
    return Manifold(
        precision=float(inside_some_real.mean()),
        recall=float(recalled.mean()),
        density=float(covering.mean() / k_coverage),
        coverage=float(covered.mean()),
    )


def neighbour_radii(points: F64, ks: tuple[int, ...]) -> F64:
    """The squared distance of each point (n, d) to its k-th nearest other point: (n, len(ks))."""
    if len(points) <= max(ks):
        raise GanportError(
            f"{max(ks)} nearest neighbours need at least {max(ks) + 1} images, got {len(points)}",
            hint="evaluate more images",
        )
    radii = np.empty((len(points), len(ks)))
    for rows, squared in _squared_distances(points, points):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.start + len(squared))] = -1.0  # itself comes first
        ordered = np.partition(squared, ks, axis=1)
        radii[rows] = ordered[:, list(ks)]
    return radii


def _squared_distances(x: F64, y: F64) -> Iterator[tuple[slice, F64]]:
    """Blocks of rows of the matrix |x_i - y_j|²."""
    y_norms = (y * y).sum(1)
    step = max(1, BLOCK_ELEMENTS // len(y))
    for start in range(0, len(x), step):
        block = x[start : start + step]
        squared = (block * block).sum(1)[:, None] + y_norms - 2.0 * (block @ y.T)
        yield slice(start, start + len(block)), np.maximum(squared, 0.0, out=squared)
