"""Distances between sets of features whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_trainer.evaluation.statistics import (
    Gaussian,
    Moments,
    compared,
    frechet_distance,
    kernel_distance,
    manifold,
    neighbour_radii,
    squared_mmd,
)


def normals(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_frechet_of_diagonal_gaussians_is_the_closed_form() -> None:
    first = Gaussian(np.array([1.0, 2.0, 3.0]), np.diag([1.0, 4.0, 9.0]))
    second = Gaussian(np.array([2.0, 0.0, 3.0]), np.diag([16.0, 1.0, 0.0]))
    # |Δμ|² + Σ (σ₁ - σ₂)²
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 9 + 1 + 9, abs=1e-9)


def test_frechet_agrees_with_scipys_matrix_root_and_is_symmetric() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    first, second = (Gaussian.of(normals(400, 12, seed) @ normals(12, 12, seed + 10)) for seed in (0, 1))
    root = linalg.sqrtm(first.covariance @ second.covariance).real
    difference = first.mean - second.mean
    expected = difference @ difference + np.trace(first.covariance + second.covariance - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-9)


def test_frechet_of_equal_sets_is_zero_even_with_fewer_images_than_features() -> None:
    for n in (10, 500):
        features = Gaussian.of(normals(n, 40))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-5)


def test_moments_are_numpys_unbiased_ones_whatever_the_order() -> None:
    features = normals(50, 4).astype(np.float32) + 1000
    gaussian = Gaussian.of(features)
    assert gaussian.covariance.dtype == np.float64
    np.testing.assert_allclose(gaussian.covariance, np.cov(features.astype(np.float64), rowvar=False))
    shuffled = Gaussian.of(features[::-1])
    np.testing.assert_allclose(shuffled.covariance, gaussian.covariance)


@pytest.mark.parametrize("parts", [(50,), (1, 49), (20, 20, 10)])
def test_moments_in_parts_are_those_of_the_whole(parts: tuple[int, ...]) -> None:
    features = normals(50, 4).astype(np.float32) + 1000
    moments = Moments()
    for part in np.split(features, np.cumsum(parts)[:-1]):
        moments.add(part)
    for found in (moments.gaussian(), Gaussian.of(features)):
        np.testing.assert_allclose(found.mean, features.mean(0, np.float64), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(features.astype(np.float64), rowvar=False), atol=1e-10)


def test_at_most_ten_thousand_are_compared() -> None:
    assert np.array_equal(compared(9), np.arange(9))
    rows = compared(25_000)
    assert len(np.unique(rows)) == 10_000
    assert rows[-1] > 20_000


def test_mmd_by_hand() -> None:
    # d = 1, k(x, y) = (xy + 1)³: means over pairs i ≠ j
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert squared_mmd(x, y) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_mmd_is_the_sum_over_pairs() -> None:
    x, y = normals(7, 3), normals(5, 3, 1)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = np.mean([k(a, b) for a in x for b in y])
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    real, same = normals(600, 8), normals(600, 8, 1)
    near, spread = kernel_distance(real, same, subset_size=200)
    far, _ = kernel_distance(real, same + 1, subset_size=200)
    assert abs(near) < 3 * spread
    assert far > 20 * spread
    assert kernel_distance(real, same, subset_size=200) == (near, spread), "the subsets follow from a seed"


def test_radii_by_hand() -> None:
    points = np.array([[0.0], [1.0], [3.0], [6.0]])
    assert neighbour_radii(points, (1, 2)).tolist() == [[1, 9], [1, 4], [4, 9], [9, 25]]


def test_duplicates_have_a_radius_of_zero() -> None:
    assert neighbour_radii(np.ones((5, 2)), (3,)).tolist() == [[0.0]] * 5


def test_manifold_of_equal_sets() -> None:
    points = normals(200, 4)
    found = manifold(points, points)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["density"] == pytest.approx(1.2, abs=0.01), (
        "each ball holds its k neighbours and its own centre: 6 / 5"
    )


def test_manifold_far_away_is_zero() -> None:
    points = normals(100, 4)
    assert manifold(points, points + 100) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_dropped_mode_costs_recall_and_coverage_not_precision() -> None:
    modes = np.array([[0.0, 0.0], [50.0, 0.0]])
    real = np.concatenate([normals(100, 2) + modes[0], normals(100, 2, 1) + modes[1]])
    found = manifold(real, normals(200, 2, 2) + modes[0])
    assert found["precision"] > 0.9
    assert found["recall"] <= 0.5
    assert 0.4 < found["coverage"] <= 0.5


def test_an_outlier_among_the_reals_raises_precision_not_density() -> None:
    """The reason for density: one far real point's ball swallows fakes that are nowhere near the data."""
    real = np.concatenate([normals(100, 2), [[30.0, 0.0]]])
    fake = np.random.default_rng(3).uniform(10, 20, (100, 2)) * [1, 0.1]
    found = manifold(real, fake)
    assert found["precision"] > 0.9
    assert found["density"] < 0.3
    assert found["coverage"] < 0.05


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normals(90, 3), normals(70, 3, 1) * 1.3
    whole = manifold(real, fake)
    monkeypatch.setattr("gan_trainer.evaluation.statistics.BLOCK_ELEMENTS", 700)
    assert manifold(real, fake) == whole


def test_order_does_not_matter() -> None:
    real, fake = normals(80, 3), normals(80, 3, 1)
    assert manifold(real[::-1], fake[::-1]) == manifold(real, fake)


def test_too_few_neighbours() -> None:
    with pytest.raises(GanportError, match="5 nearest neighbours need at least 6 images, got 5"):
        manifold(normals(5, 2), normals(50, 2))
