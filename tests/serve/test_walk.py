"""Walks: closed, evenly spaced, and true to the latent's law."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_core.latents import latents, parse_seeds
from gan_serve.runtime.walk import Walk, between, slerp
from serve import onnx_files


def walk(seeds: str = "3,8,5", frames: int | None = 30, **changes: object) -> Walk:
    return Walk(onnx_files.contract(z_dim=64, **changes).interface, parse_seeds(seeds), frames)


def test_frames_on_the_seeds_are_the_seeds() -> None:
    z = walk().latents(0, 30)
    np.testing.assert_allclose(z[[0, 10, 20]], latents([3, 8, 5], 64), atol=1e-6)


def test_a_walk_loops_without_a_seam() -> None:
    z = walk().latents(0, 30)
    steps = np.linalg.norm(np.roll(z, -1, axis=0) - z, axis=1)
    assert steps[29] == pytest.approx(steps[28], rel=0.05)
    assert steps.max() < 2 * steps.min()


def test_any_part_of_a_walk_is_the_same() -> None:
    whole = walk()
    np.testing.assert_array_equal(whole.latents(7, 19), whole.latents(0, 30)[7:19])


def test_frames_need_not_divide() -> None:
    z = walk(frames=7).latents(0, 7)
    assert len(np.unique(z, axis=0)) == 7


def test_two_seeds_go_there_and_back() -> None:
    z = walk("1,2", frames=8).latents(0, 8)
    np.testing.assert_allclose(z[2], z[6], atol=1e-6)


def test_the_arc_keeps_the_length_the_chord_does_not() -> None:
    z = walk("0-39", frames=80).latents(0, 80)
    lengths = np.linalg.norm(z, axis=1)
    assert lengths[1::2].mean() == pytest.approx(lengths[::2].mean(), rel=0.02)
    chord = (z[::2] + np.roll(z[::2], -1, axis=0)) / 2
    assert np.linalg.norm(chord, axis=1).mean() < 0.8 * lengths.mean()


def test_uniform_walks_keep_their_law() -> None:
    z = walk("0-199", frames=400, latent="uniform").latents(0, 400)
    np.testing.assert_allclose(z[::2], latents(range(200), 64, "uniform"), atol=1e-5)
    halfway = z[1::2]
    assert np.abs(halfway).max() <= 1
    assert halfway.std() == pytest.approx(1 / math.sqrt(3), rel=0.02)
    shifted = walk("0-199", frames=400, latent="uniform01").latents(0, 400)
    np.testing.assert_allclose(shifted * 2 - 1, z, atol=1e-4)


def test_slerp_is_rotation() -> None:
    a, b = np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]])
    np.testing.assert_allclose(slerp(a, b, np.array([1 / 3])), [[math.sqrt(3), 1.0]], atol=1e-12)


@pytest.mark.parametrize("b", [[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]])
def test_slerp_without_an_arc_is_a_line(b: list[float]) -> None:
    a = np.array([[1.0, 2.0]])
    middle = slerp(a, np.array([b]), np.array([0.5]))
    assert np.isfinite(middle).all()
    np.testing.assert_allclose(slerp(a, np.array([b]), np.array([0.0])), a)
    np.testing.assert_allclose(middle, (a + np.array([b])) / 2, atol=1e-9) if any(b) else None


def test_the_ends_of_an_arc_are_its_latents() -> None:
    a, b = latents(range(3), 5), latents(range(3, 6), 5)
    np.testing.assert_allclose(between(a, b, np.array([0.0, 1.0, 0.0])), [a[0], b[1], a[2]], atol=1e-6)


def test_walks_side_by_side_are_walks() -> None:
    about = onnx_files.contract(z_dim=64, n_classes=3).interface
    both = Walk(about, parse_seeds("0-3,10-13"), 12, tiles=2)
    assert len(both) == 24
    labels = both.labels(0, 24)
    assert labels is not None
    for tile, seeds in enumerate(("0-3", "10-13")):
        alone = Walk(about, parse_seeds(seeds), 12)
        np.testing.assert_array_equal(both.latents(0, 24)[tile::2], alone.latents(0, 12))
        np.testing.assert_array_equal(labels[tile::2], alone.labels(0, 12))


def test_mixed_classes() -> None:
    about = onnx_files.contract(n_classes=3).interface
    walk = Walk(about, parse_seeds("4,8"), 8, classes=[2, 0], mixed=True)
    assert walk.changes_class
    expected = [[0, 0, 1], [0.25, 0, 0.75], [0.5, 0, 0.5], [0.75, 0, 0.25], [1, 0, 0]]
    np.testing.assert_allclose(walk.labels(0, 5), expected)  # type: ignore[arg-type]
    assert not Walk(about, parse_seeds("4,8"), 8, classes=[2]).changes_class
    assert not Walk(about, parse_seeds("4,8,1,2"), 8, classes=[2, 2, 0, 0], tiles=2).changes_class


def test_classes_of_a_walk() -> None:
    about = onnx_files.contract(n_classes=3).interface
    own = Walk(about, parse_seeds("4,8"), 8)
    labels = own.labels(0, 8)
    assert labels is not None
    assert labels.tolist() == [1] * 8
    given = Walk(about, parse_seeds("4,8"), 8, classes=[2, 0]).labels(0, 8)
    assert given is not None
    assert given.tolist() == [2, 2, 0, 0, 0, 0, 2, 2]
    assert walk().labels(0, 5) is None


@pytest.mark.parametrize(
    ("seeds", "frames", "message"),
    [
        ("3", 30, "a walk goes through 2 … 10000 seeds, got 1"),
        ("0-10000", None, "a walk goes through 2 … 10000 seeds, got 10001"),
        ("0-999999999999", None, "a walk goes through 2 … 10000 seeds"),
        ("1,2,3", 2, "a walk through 3 seeds has 3 … 1000000 frames, got 2"),
        ("1,2,3", 10**9, "got 1000000000"),
    ],
)
def test_wrong_walks(seeds: str, frames: int | None, message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        walk(seeds, frames)


def test_forty_frames_a_seed_by_default() -> None:
    assert walk(frames=None).frames == 120
