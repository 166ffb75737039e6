"""Kernel distance: the squared maximum mean discrepancy of two sets of features (Bińkowski et al. 2018,
arXiv:1801.01401), with the kernel k(x, y) = (x·y / d + 1)³ and the unbiased estimate

    MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)

over subsets of equal size. On Inception's features this is the KID. Unlike the Fréchet distance it does not shrink as
images are added: for equal laws its mean is 0 whatever their number, so that it may come out slightly negative.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gan_trainer.evaluation.frechet import F64

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
