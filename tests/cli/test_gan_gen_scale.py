"""gan-gen --scale, --labels and --grid: pictures that can be seen, and pixels that stay what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.conftest import Gen
from cli.drawing import drawn, names, read, text_of
from gan_core.grids import CAPTION_PX, class_caption, grid
from serve import onnx_files


def test_small_images_are_enlarged_and_every_pixel_is_there(gen: Gen, model: Path) -> None:
    assert gen("--model", model, "--n", 4)[0] == 0
    picture = read("g.png")
    height, width, _ = picture.shape
    assert max(height, width) >= 512
    scale = int(text_of("g.png")["gan.scale"])
    first, last = drawn(model, [0, 3])
    np.testing.assert_array_equal(picture[2 : 2 + 6 * scale : scale, 2 : 2 + 5 * scale : scale], first)
    np.testing.assert_array_equal(picture[-2 - 6 * scale : -2 : scale, -2 - 5 * scale : -2 : scale], last)


def test_large_images_are_left_as_they_are(gen: Gen, tmp_path: Path) -> None:
    onnx_files.save(tmp_path / "l.onnx", onnx_files.contract(image=(3, 65, 20)))
    assert gen("--model", "l.onnx", "--n", 4)[0] == 0
    np.testing.assert_array_equal(read("l.png"), grid(drawn("l.onnx", range(4))))
    assert "gan.scale" not in text_of("l.png")


def first_of(path: Path) -> Any:
    """The pixels of the first image in a file."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["pixels"][0]
    return np.load(path)[0] if path.suffix == ".npy" else read(path)


@pytest.mark.parametrize("out", ["o/", "o.npy", "o.npz", "one.png"])
def test_where_nothing_is_asked_for_images_keep_their_size(gen: Gen, model: Path, tmp_path: Path, out: str) -> None:
    assert gen("--model", model, "--n", 1, "--out", out)[0] == 0
    path = tmp_path / (f"{out}seed000000.png" if out == "o/" else out)
    np.testing.assert_array_equal(first_of(path), drawn(model, [0])[0])


@pytest.mark.parametrize("out", ["o/", "o.npy", "o.npz", "one.png"])
def test_a_scale_that_is_asked_for_is_every_files(gen: Gen, model: Path, tmp_path: Path, out: str) -> None:
    record = json.loads(gen("--model", model, "--n", 1, "--out", out, "--scale", 3, "--json")[1])
    assert (record["scale"], record["image"]["width"]) == (3, 5)
    path = tmp_path / (f"{out}seed000000.png" if out == "o/" else out)
    np.testing.assert_array_equal(first_of(path), drawn(model, [0])[0].repeat(3, 0).repeat(3, 1))
    if path.suffix == ".png":
        assert text_of(path)["gan.scale"] == "3"


def test_a_grid_of_columns_and_rows(gen: Gen, model: Path) -> None:
    assert gen("--model", model, "--grid", "4x2", "--seed", 3, "--scale", 1)[2].startswith(
        "8 images of 5x6, seeds 3-10"
    )
    np.testing.assert_array_equal(read("g.png"), grid(drawn(model, range(3, 11)), 4))
    assert gen("--model", model, "--grid", "1X2", "--seeds", "9,4", "--scale", 1)[0] == 0
    np.testing.assert_array_equal(read("g.png"), grid(drawn(model, [9, 4]), 1))


def test_labels_are_seeds_or_classes(gen: Gen, model: Path, classes: Path) -> None:
    """Seeds where the model has no classes, or all images are of one."""
    cases: list[tuple[Path, tuple[str, ...], list[tuple[str, ...]], list[int] | None]] = [
        (model, (), [("seed 3", "3"), ("seed 4", "4")], None),
        (classes, (), [class_caption(onnx_files.classes().interface, label) for label in (0, 1)], [0, 1]),
        (classes, ("--class", "2"), [("seed 3", "3"), ("seed 4", "4")], [2, 2]),
    ]
    for path, arguments, captions, labels in cases:
        assert gen("--model", path, "--seeds", "3,4", "--labels", "--out", "o.png", *arguments)[0] == 0
        np.testing.assert_array_equal(read("o.png"), grid(drawn(path, [3, 4], labels), scale=None, captions=captions))
    np.save("z.npy", np.zeros((2, 4)))
    assert gen("--model", model, "--latents", "z.npy", "--labels", "--out", "o.png", "--scale", 20)[0] == 0
    pixels = drawn(model, [0, 0])
    assert read("o.png").shape == grid(pixels, scale=20, captions=[("row 0",), ("row 1",)]).shape


def test_one_image_with_a_label(gen: Gen, model: Path, tmp_path: Path) -> None:
    assert gen("--model", model, "--n", 1, "--labels")[0] == 0
    height, width, _ = read("g.png").shape
    assert min(height, width) > 400
    assert gen("--model", model, "--n", 1, "--labels", "--scale", 1)[0] == 0
    assert read("g.png").shape == (6 + CAPTION_PX + 4, 5 + 4, 3)
    assert names(tmp_path) == ["g.png"]


def test_labels_under_images_with_opacity(gen: Gen, tmp_path: Path) -> None:
    onnx_files.save(tmp_path / "a.onnx", onnx_files.contract(image=(4, 60, 60)))
    assert gen("--model", "a.onnx", "--n", 2, "--labels", "--scale", 1)[0] == 0
    strip = read("a.png")[62 : 62 + CAPTION_PX, 2:62]
    assert (strip[..., :3] == 128).all()
    assert strip[..., 3].any()
    assert not strip[..., 3].all()
