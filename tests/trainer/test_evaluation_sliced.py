"""Sliced Wasserstein distance: the pyramid, the patches, known distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gan_trainer.evaluation import sliced
from gan_trainer.evaluation.sliced import Sliced, laplacian_level, sides, sliced_wasserstein
from trainer.conftest import CPU, blobs


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced, "PATCHES", 2048)
    monkeypatch.setattr(sliced, "DIRECTIONS", 64)


@pytest.mark.parametrize(
    ("size", "levels"), [(28, (28,)), (32, (32, 16)), (96, (96, 48, 24)), (128, (128, 64, 32, 16))]
)
def test_sides(size: int, levels: tuple[int, ...]) -> None:
    assert sides(size) == levels


def test_a_flat_image_has_empty_differences_and_its_own_last_level() -> None:
    images = torch.full((2, 3, 64, 64), 0.25)
    for level in (0, 1):
        torch.testing.assert_close(laplacian_level(images, level, (64, 32, 16))[:, :, 4:-4, 4:-4],
                                   torch.zeros(2, 3, 64 // 2**level - 8, 64 // 2**level - 8))  # fmt: skip
    torch.testing.assert_close(laplacian_level(images, 2, (64, 32, 16)), torch.full((2, 3, 16, 16), 0.25))


def test_distance_of_shifted_sets_is_the_shift_along_each_direction() -> None:
    values = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    # One dimension: every direction is ±1, and a shift by 2 moves every sorted number by 2.
    assert sliced_wasserstein(values, values[torch.randperm(500)] + 2, torch.Generator(), 8) == pytest.approx(
        2, abs=1e-5
    )


def test_distance_in_many_dimensions_is_the_mean_projection_of_the_shift() -> None:
    values = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    found = sliced_wasserstein(values, values + 1, torch.Generator().manual_seed(1), directions=4000)
    # |projection of a vector of length √50 on a random unit vector of R⁵⁰| is √(2/π) on average, nearly
    assert found == pytest.approx((2 / np.pi) ** 0.5, rel=0.05)


def test_more_damage_is_a_larger_distance() -> None:
    reals, others = blobs(200, 32, 3), blobs(200, 32, 3, seed=1)
    measure = Sliced(reals, CPU)
    rng = np.random.default_rng(0)
    noisy = np.clip(others + rng.normal(0, 20, others.shape), 0, 255).astype(np.uint8)
    same, little, much = (
        np.array([value for _, value in measure.distance(images)]) for images in (others, noisy, others // 2)
    )
    assert [side for side, _ in measure.distance(others)] == [32, 16]
    assert little[0] > 3 * same[0], "noise is seen at the finest level"
    assert (much > 1.5 * same).all(), "paleness at every level: the moments are the reference's"


def test_patches_are_of_all_images_of_a_large_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced, "PATCHES", 256)
    reals = blobs(600, 28, 1)
    measure = Sliced(reals, CPU, rows=np.arange(300))
    same, half_dark = (
        measure.distance(images)[0][1] for images in (reals, np.concatenate([reals[:300], reals[300:] // 4]))
    )
    assert half_dark > 2 * same


def test_is_deterministic_and_takes_sets_of_other_sizes() -> None:
    measure = Sliced(blobs(50, 28, 1), CPU)
    assert measure.distance(blobs(33, 28, 1, seed=2)) == measure.distance(blobs(33, 28, 1, seed=2))


def test_flat_images_do_not_divide_by_zero() -> None:
    grey = np.full((40, 28, 28, 1), 7, np.uint8)
    assert Sliced(grey, CPU).distance(grey) == ((28, 0.0),)
