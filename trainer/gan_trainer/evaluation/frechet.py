"""Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017, arXiv:1706.08500):

    d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)

On Inception's 2048 features this is the FID. The trace of (Σ₁ Σ₂)^½ is the sum of the square roots of the eigenvalues
of Σ₁^½ Σ₂ Σ₁^½: that matrix is symmetric with the eigenvalues of Σ₁ Σ₂, so that no general matrix root is needed and
a singular Σ (fewer images than features) gives no complex numbers. All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """`mean` float64 (d,) and `covariance` float64 (d, d), unbiased, of a set of features."""

    mean: F64
    covariance: F64

    @classmethod
    def of(cls, features: npt.NDArray[np.floating]) -> Gaussian:
        """The moments of features (n, d), n ≥ 2."""
        values = np.asarray(features, np.float64)
        mean = values.mean(0)
        centred = values - mean
        return cls(mean, centred.T @ centred / (len(values) - 1))


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
