"""gan-gen --walk: animations and films that loop."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Gen
from cli.drawing import drawn, names
from gan_core.grids import class_caption, grid
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.walk import between
from serve import onnx_files, strangers


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_walks_loop(gen: Gen, model: Path, suffix: str) -> None:
    code, out, err = gen(
        "--model", model, "--walk", 3, "--frames", 12, "--seed", 5, "--scale", 1, "--out", f"w{suffix}"
    )
    assert (code, out) == (0, f"w{suffix}\n")
    assert "12 frames of 5x6, seeds 5-7" in err
    with Image.open(f"w{suffix}") as animation:
        assert animation.n_frames == 12  # type: ignore[attr-defined]
        assert animation.info["loop"] == 0
        frames = []
        for index in range(12):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
            assert animation.info["duration"] == 40
    if suffix == ".webp":
        np.testing.assert_array_equal(np.stack(frames)[::4], drawn(model, [5, 6, 7]))
    steps = [np.abs(frames[index] - frames[index - 1]).mean() for index in range(12)]
    assert steps[0] < 2 * np.median(steps)  # from the last frame to the first


def test_a_walk_is_named_after_the_model(gen: Gen, model: Path) -> None:
    assert gen("--model", model, "--walk", 2)[1] == "g.webp\n"
    with Image.open("g.webp") as animation:
        assert animation.size == (215, 258)  # 43 times as large
        assert animation.n_frames == 80  # type: ignore[attr-defined]


def test_a_walk_through_named_seeds(gen: Gen, classes: Path) -> None:
    assert gen("--model", classes, "--walk", 2, "--seeds", "9,4", "--class", "0,2", "--frames", 8, "--scale", 1)[0] == 0
    with Image.open("c.webp") as animation:
        animation.seek(4)
        frame = np.asarray(animation.convert("L"))
    np.testing.assert_array_equal(frame[..., None], drawn(classes, [4], 2)[0])


def frames_of(path: str) -> np.ndarray:
    with Image.open(path) as animation:
        shown = []
        for index in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(index)
            shown.append(np.asarray(animation.convert("RGB")))
    return np.stack(shown)


def test_walks_side_by_side(gen: Gen, model: Path) -> None:
    code, out, err = gen("--model", model, "--walk", 2, "--grid", "3x2", "--frames", 4, "--scale", 2, "--seed", 7)
    assert (code, out) == (0, "g.webp\n")
    assert err == "4 frames of 6 images of 5x6, 2 times as large, seeds 7-18, on cpu (auto)\n"
    frames = frames_of("g.webp")
    for frame, first in ((0, 7), (2, 8)):
        expected = grid(drawn(model, range(first, 19, 2)), 3, scale=2)
        np.testing.assert_array_equal(frames[frame], expected)


def test_a_walk_in_every_class(gen: Gen, classes: Path) -> None:
    arguments = ["--model", classes, "--walk", 2, "--by-class", "--cols", 2, "--frames", 4, "--scale", 1, "--labels"]
    assert gen(*arguments, "--class", "2,0,1", "--seeds", "9,4")[0] == 0
    frames = frames_of("c.webp")
    captions = [class_caption(onnx_files.classes().interface, label) for label in (2, 0, 1)]
    for frame, seed in ((0, 9), (2, 4)):
        expected = grid(drawn(classes, [seed] * 3, [2, 0, 1]), 2, captions=captions)
        np.testing.assert_array_equal(frames[frame][..., :1], expected)


def test_classes_that_are_numbers_for_the_model_change_half_way(gen: Gen, classes: Path) -> None:
    arguments = ["--model", classes, "--walk", 2, "--frames", 4]
    assert "takes a class as a number, so classes do not mix" in gen(*arguments, "--class", "0,2")[2]
    for given in ((), ("--class", 0), ("--class", "0,2", "--by-class")):
        assert "mix" not in gen(*arguments, *given)[2]


@pytest.mark.slow
def test_classes_that_are_vectors_for_the_model_are_mixed(gen: Gen, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(strangers.stranger(label="float", label_shape=("N", strangers.CLASSES)).SerializeToString())
    code, _, err = gen("--model", path, "--walk", 2, "--frames", 4, "--class", "0,2", "--scale", 1, "--out", "w.webp")
    assert code == 0
    assert "mix" not in err
    generator = OnnxGenerator(path, "cpu", 1)
    z = generator.contract.interface.latents([0, 1])
    half = between(z[:1], z[1:], np.array([0.5]))
    shares = np.array([[0.5, 0, 0.5]], np.float32)
    frames = frames_of("w.webp")
    np.testing.assert_array_equal(frames[0], generator.generate([0], 0)[0])
    np.testing.assert_array_equal(frames[1], generator.run(half, shares)[1][0])
    np.testing.assert_array_equal(frames[2], generator.generate([1], 2)[0])


@pytest.mark.parametrize(("which", "width", "height"), [("model", 6, 6), ("classes", 8, 8)])
def test_a_walk_as_a_film(gen: Gen, which: str, width: int, height: int, request: pytest.FixtureRequest) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    model = request.getfixturevalue(which)
    assert gen("--model", model, "--walk", 2, "--frames", 10, "--scale", 1, "--out", "w.mp4")[1] == "w.mp4\n"
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "w.mp4", *raw]
    decoded = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    frames = np.frombuffer(decoded, np.uint8).reshape(10, height, width)  # the sides of a video are even
    first = drawn(model, [0])[0]
    luma = (first @ np.array([0.299, 0.587, 0.114]) if first.shape[2] == 3 else first[..., 0]).astype(int)
    shown = frames[0, : luma.shape[0], : luma.shape[1]].astype(int)
    assert np.abs(shown - luma).mean() < 10


def test_a_film_that_ffmpeg_cannot_write(
    gen: Gen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho first >&2\necho No space left on device >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("gan_serve.runtime.animation._find_ffmpeg", lambda: str(broken))
    code, _, err = gen("--model", model, "--walk", 9, "--out", "w.mp4")
    assert code == 1
    assert err.startswith("error: ffmpeg could not write the video: No space left on device\nhint: ")
    assert names(tmp_path) == ["ffmpeg"]
