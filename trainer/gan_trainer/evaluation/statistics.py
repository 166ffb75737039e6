"""Distances between two sets of features, and shares of them that lie close to the other. All in float64.

Fréchet distance, each set taken for a Gaussian (Heusel et al. 2017, arXiv:1706.08500); on Inception's features the FID:

    d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)

The trace of (Σ₁ Σ₂)^½ is the sum of the square roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½: that matrix is symmetric with
the eigenvalues of Σ₁ Σ₂, so that no general matrix root is needed and a singular Σ (fewer images than features) gives
no complex numbers.

Kernel distance, the squared maximum mean discrepancy (Bińkowski et al. 2018, arXiv:1801.01401; on Inception's features
the KID) with k(x, y) = (x·y / d + 1)³, estimated without bias over subsets of equal size:

    MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)

Unlike the Fréchet distance it does not shrink as images are added: for equal laws its mean is 0 whatever their number,
so that it may come out slightly negative.

Fidelity and variety apart: precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), density and coverage
(Naeem et al. 2020, arXiv:2002.09797). Each set is taken for the union of balls around its points, each reaching to that
point's k-th nearest neighbour in its own set (the point itself not counted). With B_i the ball of the real x_i and B'_j
that of the fake y_j:

    precision = share of y_j in some B_i            recall   = share of x_i in some B'_j
    density   = mean over j of |{i : y_j ∈ B_i}|/k  coverage = share of B_i that hold some y_j

k is 3 for the first two and 5 for the others, as their papers have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F64
from gan_core.errors import GanportError
from gan_core.fields import Json


@dataclass(frozen=True, eq=False)
class Gaussian:
    """`mean` float64 (d,) and `covariance` float64 (d, d), unbiased, of a set of features."""

    mean: F64
    covariance: F64

    @classmethod
    def of(cls, features: npt.NDArray[np.floating]) -> Gaussian:
        """The moments of features (n, d), n ≥ 2."""
        moments = Moments()
        for start in range(0, len(features), AT_ONCE):
            moments.add(features[start : start + AT_ONCE])
        return moments.gaussian()


AT_ONCE = 1024
"""Features that are turned to float64 together."""


class Moments:
    """The `Gaussian` of features that come in parts; exact up to rounding, whatever the parts."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, features: npt.NDArray[np.floating]) -> None:
        """Takes features (n, d) in."""
        values = np.asarray(features, np.float64)
        if self.n == 0:
            # Sums of differences from some mean do not cancel as sums of features far from 0 would.
            self._origin = values.mean(0)
            self._sum = np.zeros(values.shape[1])
            self._products = np.zeros((values.shape[1], values.shape[1]))
        values = values - self._origin
        self.n += len(values)
        self._sum += values.sum(0)
        self._products += values.T @ values

    def gaussian(self) -> Gaussian:
        """Of all features so far, at least 2."""
        mean = self._sum / self.n
        return Gaussian(mean + self._origin, (self._products - self.n * np.outer(mean, mean)) / (self.n - 1))


MOST_COMPARED = 10_000


def compared(n: int) -> npt.NDArray[np.int64]:
    """Which of n features are compared one with another, in order: all, or a random `MOST_COMPARED` of them."""
    if n <= MOST_COMPARED:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_COMPARED, replace=False))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """d² ≥ 0, in squared units of the features. Symmetric up to rounding."""
    root = _square_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
    cross = float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())
    difference = first.mean - second.mean
    trace = float(np.trace(first.covariance) + np.trace(second.covariance))
    return max(0.0, float(difference @ difference) + trace - 2.0 * cross)


def _square_root(covariance: F64) -> F64:
    """The symmetric root of a positive semidefinite matrix; eigenvalues that rounding made negative count as 0."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root: F64 = (vectors * np.sqrt(np.clip(eigenvalues, 0.0, None))) @ vectors.T
    return root


SUBSETS = 50
SUBSET_SIZE = 1000


def kernel_distance(
    real: npt.NDArray[np.floating],
    fake: npt.NDArray[np.floating],
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """(mean, standard deviation) of MMD² over `subsets` random subsets of both (n, d) sets.

    The standard deviation is that of one subset's estimate; the subsets overlap, so that it is not the error of the
    mean. Subsets are smaller where a set is: at most half of it, so that they differ.
    """
    size = max(2, min(subset_size, len(real) // 2, len(fake) // 2))
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(real[rng.choice(len(real), size, replace=False)], fake[rng.choice(len(fake), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def squared_mmd(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """The unbiased estimate of MMD² from features (n, d) and (m, d), n and m ≥ 2."""
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return _off_diagonal_mean(_kernel(x, x)) + _off_diagonal_mean(_kernel(y, y)) - 2.0 * float(_kernel(x, y).mean())


def _kernel(x: F64, y: F64) -> F64:
    base: F64 = x @ y.T / x.shape[1] + 1.0
    return base * base * base


def _off_diagonal_mean(matrix: F64) -> float:
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


K_PRECISION = 3
K_COVERAGE = 5
BLOCK_ELEMENTS = 1 << 21
"""Of a block of the matrix of distances: 16 MB in float64."""


def manifold(real: npt.NDArray[np.floating], fake: npt.NDArray[np.floating]) -> Json:
    """{"precision", "recall", "density", "coverage"} of features (n, d) and (m, d).

    All lie in [0, 1] but the density, which is more than 1 where fakes crowd. Raises `GanportError` when a set has no
    k-th neighbour."""
    x, y = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    # One origin for both keeps |x|² - 2 x·y + |y|² from cancelling where all features are far from 0.
    centre = x.mean(0)
    x, y = x - centre, y - centre
    real_radii = neighbour_radii(x, (K_PRECISION, K_COVERAGE))
    fake_radii = neighbour_radii(y, (K_PRECISION,))
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
    return {
        "precision": float(inside_some_real.mean()),
        "recall": float(recalled.mean()),
        "density": float(covering.mean() / K_COVERAGE),
        "coverage": float(covered.mean()),
    }


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
