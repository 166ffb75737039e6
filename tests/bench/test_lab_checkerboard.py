"""The strength of the checkerboard: known patterns, and images that have none."""

from __future__ import annotations

import numpy as np
import pytest

from gan_core.arrays import F32
from lab.checkerboard import checkerboard

N, SIDE = 64, 32


def slopes() -> F32:
    """Random slopes, and noise of one level."""
    rng = np.random.default_rng(0)
    down, right = rng.uniform(-3, 3, (2, N, 1, 1, 3))
    at = np.arange(SIDE) - SIDE / 2
    images: F32 = (128 + down * at[:, None, None] + right * at[:, None] + rng.normal(0, 1, (N, SIDE, SIDE, 3))).astype(
        np.float32
    )
    return images


def measured(images_NHWC: F32) -> float:
    return checkerboard(np.clip(np.rint(images_NHWC), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("axes", ["rows", "both"])
def test_a_pattern_is_measured_by_its_amplitude(period: int, axes: str) -> None:
    wave = np.sqrt(2) ** (period > 2) * np.cos(2 * np.pi * np.arange(SIDE) / period + (period > 2) * np.pi / 4)
    pattern = np.outer(wave, wave if axes == "both" else np.ones(SIDE))[..., None]
    assert np.unique(np.abs(pattern).round(3)).tolist() == [1.0]
    images = slopes()
    assert measured(images) < 0.4
    assert measured(images + 3 * pattern) == pytest.approx(3, abs=0.3)
    assert measured(images + 9 * pattern) == pytest.approx(9, abs=0.5)


def test_only_flat_areas_count() -> None:
    flat = np.full((N, SIDE, SIDE, 1), 200.0, np.float32)
    assert measured(flat) == 0
    lively = np.random.default_rng(0).uniform(0, 255, flat.shape).astype(np.float32)
    assert measured(np.concatenate((flat, lively))) == 0


def test_real_texture_is_no_pattern() -> None:
    """Noise has as much power at the pattern's frequencies as beside them."""
    noise = 128 + np.random.default_rng(0).normal(0, 20, (N, SIDE, SIDE, 3)).astype(np.float32)
    assert measured(noise) < 2
