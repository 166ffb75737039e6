"""A generator in Python: seeds and classes as people write them, pictures, pickles, notebooks."""

from __future__ import annotations

import io
import pickle
import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gan_serve
from gan_core.errors import GanportError, MissingPackageError
from gan_core.grids import class_caption, grid
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files, strangers
from serve.test_drawn import Wrong


def test_a_number_is_that_many_seeds(generator: OnnxGenerator) -> None:
    expected = generator.generate(range(4))
    ways: tuple[Any, ...] = (4, np.int64(4), [0, 1, 2, 3], np.arange(4), (seed for seed in range(4)))
    for seeds in ways:
        np.testing.assert_array_equal(generator.generate(seeds), expected)
    assert [len(batch) for batch in generator.stream(5, batch_size=2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (0, "n must be at least 1, got 0"),
        (-3, "n must be at least 1, got -3"),
        (2.5, "`seeds` must be a number of images or their seeds, got 2.5"),
        (True, "`seeds` must be a number of images or their seeds, got True"),
        (None, "`seeds` must be a number of images or their seeds, got None"),
        ("0-9", "seeds must be a one-dimensional sequence of integers"),
        ([1.5], "seeds must be a one-dimensional sequence of integers"),
        ([-1], "a seed must lie in 0"),
    ],
)
def test_what_is_no_seed(generator: OnnxGenerator, seeds: Any, message: str) -> None:
    for draw in (generator.generate, generator.grid, generator.walk, generator.to_pil, generator.stream):
        with pytest.raises(GanportError, match=re.escape(message)) as caught:
            draw(seeds)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("labels", "indices"),
    [
        ("cat", [0] * 5),
        ("7", [2] * 5),
        ("t-shirt", [1] * 5),
        ("all", [0, 1, 2, 0, 1]),
        ("7,cat", [2, 0, 2, 0, 2]),
        (["cat", "7", 1, "0", 0], [0, 2, 1, 0, 0]),
        (np.array([2, 1, 0, 0, 1]), [2, 1, 0, 0, 1]),
    ],
)
def test_classes_by_name(conditional: OnnxGenerator, labels: Any, indices: list[int]) -> None:
    np.testing.assert_array_equal(conditional.generate(5, labels), conditional.generate(range(5), indices))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("fish", "class 'fish' does not exist"),
        (["cat", "fish", "cat"], "class 'fish' does not exist"),
        (["cat", "all", "cat"], "label 'all' of a list names several classes"),
        (["cat", "cat"], "expected one label, or one per seed (3), got 2"),
        (3, "class 3 does not exist"),
        ([0, 1.5, 2], "labels must be integers"),
    ],
)
def test_what_is_no_class(conditional: OnnxGenerator, labels: Any, message: str) -> None:
    for draw in (conditional.generate, conditional.grid, conditional.to_pil, conditional.stream):
        with pytest.raises(GanportError, match=re.escape(message)):
            draw(3, labels)
    with pytest.raises(GanportError, match=re.escape(message)):
        conditional.walk(3, labels=labels)


def test_a_generator_without_classes(generator: OnnxGenerator) -> None:
    for labels in ("cat", ["cat"], 0, [0]):
        with pytest.raises(GanportError, match="this generator has no classes"):
            generator.generate(1, labels)


def test_progress(generator: OnnxGenerator) -> None:
    seen: list[tuple[int, int]] = []
    generator.generate(5, batch_size=2, on_progress=lambda done, n: seen.append((done, n)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_pillow_images(generator: OnnxGenerator, conditional: OnnxGenerator) -> None:
    for each, mode in ((generator, "RGB"), (conditional, "L")):
        first, second = each.to_pil(2)
        assert first.mode == mode
        np.testing.assert_array_equal(np.asarray(second), each.generate([1])[0].squeeze())
    assert gan_serve.to_pil(conditional.generate(1)[0]).size == (8, 8)


def test_grids(generator: OnnxGenerator, conditional: OnnxGenerator) -> None:
    np.testing.assert_array_equal(np.asarray(generator.grid(6, cols=3, scale=1)), grid(generator.generate(6), 3))
    assert max(generator.grid().size) >= 512
    pixels = conditional.generate([4, 5], "all")
    classes = [class_caption(onnx_files.classes().interface, label) for label in (0, 1)]
    for labels, captions in (("all", classes), ("cat", [("seed 4", "4"), ("seed 5", "5")])):
        drawn = conditional.grid([4, 5], labels, scale=9, captions=True)
        pixels = conditional.generate([4, 5], labels)
        np.testing.assert_array_equal(np.asarray(drawn), grid(pixels, scale=9, captions=captions)[..., 0])
    with pytest.raises(GanportError, match="`scale` must be at least 1, got 0"):
        generator.grid(2, scale=0)


def test_a_walk(conditional: OnnxGenerator, tmp_path: Path) -> None:
    frames = conditional.walk([3, 8], frames=6, labels=["cat", 2])
    assert frames.shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(frames[[0, 3]], conditional.generate([3, 8], [0, 2]))
    for scale, side in ((None, 256), (2, 16)):
        gan_serve.write_animation(tmp_path / "w.webp", frames, scale=scale)
        with Image.open(tmp_path / "w.webp") as film:
            assert (film.n_frames, film.size) == (6, (side, side))  # type: ignore[attr-defined]
    with pytest.raises(GanportError, match="a walk goes through 2 … 10000 seeds, got 1"):
        conditional.walk(1)


def test_a_walk_mixes_classes_that_are_vectors() -> None:
    stranger = strangers.stranger(label="float", label_shape=("N", strangers.CLASSES)).SerializeToString()
    generator = OnnxGenerator(stranger, "cpu", 1)
    assert generator.mixes_classes
    whole, mixed = generator.walk([3, 8], 4, [0, 0]), generator.walk([3, 8], 4, [0, 2])
    np.testing.assert_array_equal(whole[0], mixed[0])
    assert not np.array_equal(whole[1], mixed[1])


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        ("w.avi", 2, "an animation is a .webp, .gif or .mp4, got w.avi"),
        ("w.webp", 0, "an animation needs at least 1 frame, got none"),
    ],
)
def test_animations_that_cannot_be(tmp_path: Path, name: str, frames: int, message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        gan_serve.write_animation(tmp_path / name, np.zeros((frames, 4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_what_it_says_of_itself(model_path: Path, conditional_path: Path) -> None:
    assert repr(gan_serve.load(model_path, "cpu")) == "<OnnxGenerator g.onnx: 5x6 RGB, on cpu>"
    named = "<OnnxGenerator c.onnx: 8x8 grey, 3 classes (cat, T-shirt, red, 7), on cpu>"
    assert repr(gan_serve.load(conditional_path, "cpu")) == named


def test_a_notebook_shows_its_grid(generator: OnnxGenerator) -> None:
    with Image.open(io.BytesIO(generator._repr_png_())) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(generator.grid(25, captions=True)))


def test_it_is_closed_at_the_end(model_path: Path) -> None:
    with gan_serve.load(model_path, threads=2) as generator:
        assert len(generator.generate(9)) == 9
    for draw in (generator.generate, generator.walk, generator.grid):
        with pytest.raises(GanportError, match="the generator was closed"):
            draw(9)


def test_it_can_be_pickled(conditional_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conditional_path.parent)
    first = gan_serve.load(conditional_path.name, "cpu", 1)
    packed = pickle.dumps(first)
    assert len(packed) < 2000  # the file's name, and not its weights
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(packed).generate(5), first.generate(5))
    inside = OnnxGenerator(conditional_path.read_bytes(), "cpu", 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(inside)).generate(5), first.generate(5))


def test_a_file_that_is_another_one_since(tmp_path: Path) -> None:
    path = onnx_files.save(tmp_path / "g.onnx")
    packed = pickle.dumps(gan_serve.load(path, "cpu", 1))
    onnx_files.save(path, onnx_files.classes())
    with pytest.raises(GanportError, match="the generator's file is another than when it was pickled"):
        pickle.loads(packed)
    path.unlink()
    with pytest.raises(GanportError, match="no model at"):
        pickle.loads(packed)


def test_a_runtime_that_knows_no_file() -> None:
    with pytest.raises(TypeError, match="Wrong cannot be pickled"):
        pickle.dumps(Wrong())


def test_a_traceback_shows_the_hint() -> None:
    for error in (GanportError("no", hint="do this"), MissingPackageError("torch", "train", "training", "do this")):
        lines = traceback.format_exception(error)
        assert lines[-1] == "hint: do this\n"
    assert not hasattr(GanportError("no"), "__notes__")
