"""Real images to compare with: where they come from, what is refused, and how far images are from them."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.test_hypotheses import blobs, names, trained
from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.hypotheses.likeness import distance, real_images, real_of, scores
from gan_export.identify import identify
from gan_export.options import export_answers
from gan_export.reading.likes import FEWEST, MOST, pictures_like

pytestmark = pytest.mark.slow

GREY = (1, 12, 12)


def pixels(n: int, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


def folder(path: Path, n: int = 20) -> Path:
    """Pictures in two folders, one of them damaged, and a text beside them."""
    for i, one in enumerate(pixels(n, 14, 10, 3)):
        place = path / ("a" if i % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{i}.png")
    (path / "a" / "broken.png").write_bytes(b"no picture")
    (path / "read.me").write_text("text")
    return path


def idx(path: Path, n: int = 20) -> Path:
    path.mkdir()
    held = struct.pack(">HBB3I", 0, 8, 3, n, 12, 12) + pixels(n, 12, 12).tobytes()
    (path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(held))
    return path


def saved(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("image", [(1, 12, 12), (3, 8, 8), (1, 6, 10), (4, 12, 12)])
def test_pictures_come_in_the_shape_of_the_generators(image: tuple[int, int, int], tmp_path: Path) -> None:
    found = pictures_like(str(folder(tmp_path / "pictures")), image)
    assert found.shape == (20, image[1], image[2], min(image[0], 3))


def test_every_kind_of_file_gives_the_same_pixels(tmp_path: Path) -> None:
    grey = pixels(20, 12, 12)
    np.savez(tmp_path / "all.npz", z=np.zeros((20, 5)), images=grey)
    said = [
        idx(tmp_path / "idx"),
        tmp_path / "idx" / "train-images-idx3-ubyte.gz",
        saved(tmp_path / "nhw.npy", grey),
        saved(tmp_path / "nhwc.npy", grey[..., None]),
        saved(tmp_path / "nchw.npy", grey[:, None]),
        saved(tmp_path / "unit.npy", (grey / 255).astype(np.float32)),
        saved(tmp_path / "signed.npy", grey / 127.5 - 1),
        saved(tmp_path / "wide.npy", grey.astype(np.int64)),
        tmp_path / "all.npz",
    ]
    for one in said:
        assert np.abs(pictures_like(str(one), GREY)[..., 0].astype(int) - grey).max() <= 1, one


def test_many_are_thinned_out_evenly(tmp_path: Path) -> None:
    many = np.arange(3 * MOST, dtype=np.float64).repeat(16).reshape(-1, 4, 4) / (3 * MOST)
    found = pictures_like(str(saved(tmp_path / "many.npy", many)), (1, 4, 4))
    assert len(found) == MOST
    assert found[0].max() == 0
    assert found[-1].min() >= 254


def test_a_data_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pictures_like("digits", (1, 28, 28)).shape == (MOST, 28, 28, 1)
    monkeypatch.setattr("gan_export.reading.likes.DEBIAN", tmp_path / "nothing")
    monkeypatch.setenv("GANPORT_DATA", str(tmp_path))
    with pytest.raises(GanportError, match="mnist is not on this machine: looked below") as error:
        pictures_like("mnist", GREY)
    assert "train-images-idx3-ubyte.gz" in error.value.hint
    idx(tmp_path / "mnist")
    assert len(pictures_like("mnist", GREY)) == 20


def loop(path: Path) -> Path:
    path.mkdir()
    (path / "self").symlink_to(path)
    (path / "gone.png").symlink_to(path / "nowhere.png")
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def lone(path: Path) -> Path:
    Image.fromarray(pixels(1, 9, 9)[0]).save(path)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def pickled(path: Path) -> Path:
    np.save(path, np.array([{"a": 1}] * 20, object), allow_pickle=True)
    return path


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (lambda p: p / "none", "expected a folder or a file of images, or a data set's name"),
    "no name": (lambda _: " ", "expected a folder or a file of images"),
    "a NUL": (lambda _: "a\0b", "expected a folder or a file of images"),
    "an empty folder": (lambda p: p, "holds 0 pictures, expected at least 16"),
    "a loop of links": (lambda p: loop(p / "loop"), "holds 0 pictures"),
    "too few": (lambda p: folder(p / "few", FEWEST - 1), "holds 15 pictures, expected at least 16"),
    "one picture": (lambda p: lone(p / "one.png"), "holds 1 picture, expected at least 16"),
    "a damaged picture": (lambda p: written(p / "a.png", b"\x89PNG\r\n\x1a\n" + bytes(20)), "holds 0 pictures"),
    "text": (lambda p: written(p / "a.txt", b"hello, world, this is text"), "is not an idx file"),
    "an empty file": (lambda p: written(p / "a.npy", b""), "is not an idx file"),
    "half an array": (lambda p: written(p / "a.npy", b"\x93NUMPY\1\0v\0"), "is no array that can be read"),
    "a zip of nothing": (lambda p: written(p / "a.npz", b"PK\3\4" + bytes(30)), "is no array that can be read"),
    "objects": (lambda p: pickled(p / "a.npy"), "is no array that can be read"),
    "latents": (lambda p: saved(p / "a.npy", np.zeros((50, 100))), "holds no images"),
    "five channels": (lambda p: saved(p / "a.npy", np.zeros((50, 5, 8, 8))), "holds no images"),
    "no image": (lambda p: saved(p / "a.npy", np.zeros((0, 8, 8))), "holds no images"),
    "a pipe": (lambda p: pipe(p / "pipe"), "is not a regular file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_line(case: str, tmp_path: Path) -> None:
    make, words = WRONG[case]
    with pytest.raises(GanportError, match=words) as error:
        pictures_like(str(make(tmp_path)), GREY)
    assert error.value.hint
    assert "\n" not in str(error.value)


def test_beside_code_it_has_no_place() -> None:
    with pytest.raises(GanportError, match="--like has no place beside --module"):
        export_answers(like="digits", module="net.py:G")


def discs(n: int, seed: int, size: int = 16) -> torch.Tensor:
    """White discs on black, (n, 1, size, size) in [0, 1]."""
    places = torch.rand(n, 2, 1, 1, generator=torch.Generator().manual_seed(seed)) - 0.5
    grid = torch.linspace(-1.0, 1.0, size)
    far = ((grid[:, None] - places[:, 0]) ** 2 + (grid[None, :] - places[:, 1]) ** 2).sqrt()
    return torch.sigmoid((0.4 - far) * 20)[:, None]


def test_the_same_kind_is_nearer_than_any_other() -> None:
    real = real_images(discs(300, 0), "discs")
    same = discs(64, 1)
    noise = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    others = {"pale": 0.5 + 0.5 * same, "black": torch.zeros_like(same), "noise": noise, "negative": 1 - same}
    near = distance(same, real)
    assert near == distance(same.clone(), real)
    for name, images in others.items():
        assert distance(images, real) > near + 0.5, name
    assert distance(torch.full_like(same, torch.nan), real) > near


def test_an_output_that_is_nearer_on_average_counts_more() -> None:
    found = scores([-1.0, -0.8, 0.0, -0.9], ["tanh", "tanh", "sigmoid", "sigmoid"])
    assert found[0] > found[1] > found[3] > found[2]
    assert scores([0.0, 0.0], [None, None]) == [0.0, 0.0]


def test_without_real_images_nothing_is_compared() -> None:
    assert real_of(None)((1, 8, 8)) is None


@pytest.mark.long
def test_a_strangers_generator_is_known_by_the_images_it_was_trained_on(tmp_path: Path) -> None:
    net, _ = trained(0.0)
    torch.save(names(net), tmp_path / "net.pth")
    places = torch.randn(200, 16, generator=torch.Generator().manual_seed(3))
    np.save(tmp_path / "discs.npy", (blobs(places) / 2 + 0.5).numpy())
    alone = identify(tmp_path / "net.pth", Answers(), lambda _: None).draft
    told = identify(tmp_path / "net.pth", Answers(like=str(tmp_path / "discs.npy")), lambda _: None).draft
    assert alone is not None
    assert told is not None
    before, after = (next(c for c in one.choices if c.field == "output") for one in (alone, told))
    assert after.value["name"] == "tanh"
    assert (after.odds or 0) > (before.odds or 0)
    assert any("by the images of discs.npy" in choice.reason for choice in told.choices)
    assert not any("discs.npy" in choice.reason for choice in alone.choices)
    with pytest.raises(GanportError, match="`like` names"):
        identify(tmp_path / "net.pth", Answers(like="no such thing"), lambda _: None)
