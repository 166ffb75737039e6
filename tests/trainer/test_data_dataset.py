"""`open_dataset` as its caller sees it: every argument, right and wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.errors import GanportError
from gan_core.pictures import CHUNK, Chunk, prepare, read_image
from gan_trainer.data import ImageDataset
from gan_trainer.networks.architectures import SIZES
from trainer.data_files import Opened, fill, picture, png_claiming, save, save_idx, skipped

EMOJI = os.environ.get("GANPORT_EMOJI")


def test_a_folder_of_pictures(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "faces", "b.jpg", "a.png", "x/c.gif", "x/d.webp", "e.bmp")
    found = opened(folder)
    assert isinstance(found, ImageDataset)
    assert (found.name, found.size, found.channels, len(found)) == ("faces", 64, 3, 5)
    assert (found.labels, found.class_names, found.skipped) == (None, (), ())
    assert found.pixels_NHWC.dtype == np.uint8
    for pixels, name in zip(found.pixels_NHWC, ("a.png", "b.jpg", "e.bmp", "x/c.gif", "x/d.webp"), strict=True):
        np.testing.assert_array_equal(pixels, prepare(read_image(folder / name), 64, 3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_channel_count(opened: Opened, tmp_path: Path, size: int, channels: int) -> None:
    found = opened(fill(tmp_path / "in", "a.png", "b.png"), size=size, channels=channels)
    assert found.pixels_NHWC.shape == (2, size, size, channels)
    assert (found.size, found.channels) == (size, channels)


def test_a_grey_folder_is_grey(opened: Opened, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        save(tmp_path / "in", name, picture(mode="L"))
    assert opened(tmp_path / "in").channels == 1
    assert opened(tmp_path / "in", channels=3).channels == 3


def test_idx_files_as_rgb_at_another_size(opened: Opened, tmp_path: Path) -> None:
    pixels, _ = save_idx(tmp_path / "in")
    found = opened(tmp_path / "in", size=32, channels=3)
    expected = prepare(Image.fromarray(pixels[5]), 32, 3)
    np.testing.assert_array_equal(found.pixels_NHWC[5], expected)


def test_order_is_kept_across_many_chunks(opened: Opened, tmp_path: Path) -> None:
    n = 20 * CHUNK + 5
    for index in range(n):
        level = Image.new("RGB", (9, 9), (index % 256, index // 256, 0))
        save(tmp_path / "in", f"{index:05}.png", level)
    (tmp_path / "in" / "00040x.png").write_bytes(b"broken")
    found = opened(tmp_path / "in", size=28)
    numbers = found.pixels_NHWC[:, 0, 0].astype(int) @ [1, 256, 0]
    assert numbers.tolist() == list(range(n))


def test_two_folders_of_the_same_pictures_have_one_fingerprint(opened: Opened, tmp_path: Path) -> None:
    first = fill(tmp_path / "one", "a/1.png", "b/2.png")
    second = tmp_path / "two"
    shutil.copytree(first, second)
    os.utime(second / "a" / "1.png", ns=(0, 0))
    fingerprint = opened(first).fingerprint
    assert opened(second).fingerprint == fingerprint
    assert opened(first, size=32).fingerprint != fingerprint
    assert opened(first, channels=1).fingerprint != fingerprint
    (second / "b").rename(second / "c")
    assert opened(second).fingerprint != fingerprint, "another name of a class"
    save(first, "b/2.png", seed=50)
    assert opened(first).fingerprint != fingerprint, "another picture"


def test_relative_and_home_paths(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in", "a.png")
    monkeypatch.chdir(tmp_path / "in")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [opened(data).name for data in (".", "../in", "~/in", f"{tmp_path}/in/")] == ["in"] * 4


@pytest.mark.slow
def test_a_folder_with_the_name_of_a_data_set(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    fill(tmp_path / "digits", "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(opened("digits")) == 1797
    assert "digits is the data set of that name; write ./digits for the folder" in opened.notes
    assert len(opened("./digits")) == 1


def test_broken_pictures_are_skipped_counted_and_named(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", *(f"{index}.png" for index in range(5)))
    (folder / "text.png").write_text("no picture")
    (folder / "bomb.png").write_bytes(png_claiming(10_000, 10_000))
    (folder / "half.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "empty.gif").write_bytes(b"")
    (folder / "dead.jpg").symlink_to("nowhere")
    for _ in range(2):  # from the pictures, then from the cache
        found = opened(folder)
        assert len(found) == 5
        assert skipped(found) == ["bomb.png", "dead.jpg", "empty.gif", "half.png", "text.png"]
        note = opened.notes[-1]
        assert note.startswith(
            "in: 5 of 10 images skipped: bomb.png (10000x10000, larger than 89 megapixels), dead.jpg ("
        )
        assert note.endswith(" and 2 more")


def test_an_unreadable_picture_is_skipped(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "in", "a.png", "b.png")
    real = Image.open

    def refuse(path: Path, **settings: object) -> Image.Image:
        if Path(path).name == "b.png":
            raise PermissionError(13, "Permission denied")
        return real(path, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", refuse)
    assert skipped(opened(folder)) == ["b.png"]
    assert "b.png (Permission denied)" in opened.notes[-1]


def test_a_class_of_broken_pictures_is_none(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a/1.png", "b/1.png", "c/1.png")
    (folder / "b" / "1.png").write_bytes(b"broken")
    found = opened(folder)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert found.class_names == ("a", "c")
    (folder / "c" / "1.png").write_bytes(b"broken")
    assert opened(folder).labels is None


def test_none_usable_is_an_error_that_names_one(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"broken")
    with pytest.raises(GanportError, match="none of the 2 images of in can be read") as caught:
        opened(tmp_path / "in")
    assert caught.value.hint == "a.png: not a picture, or damaged"
    assert opened.entries == []


WRONG_NAMES = {
    "fashion_mnist": "did you mean fashion-mnist?",
    "fashionmnist": "did you mean fashion-mnist?",
    "FashionMNIST": "did you mean fashion-mnist?",
    "fashion mnist": "did you mean fashion-mnist?",
    "MNIST": "did you mean mnist?",
    "minst": "did you mean mnist?",
    "cifar-10": "did you mean cifar10?",
    "cifar": "did you mean cifar10?",
    "CelebA": "did you mean celeba?",
    "digit": "did you mean digits?",
    "flowers": "names: digits, mnist, fashion-mnist, cifar10, celeba; or the path of a folder",
    "no/such/folder": "names: digits",
    "~nobody-of-that-name/x": "names: digits",
}


@pytest.mark.parametrize("data", WRONG_NAMES)
def test_a_wrong_name(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanportError, match="no data set and no folder is called") as caught:
        opened(data)
    assert caught.value.hint.startswith(WRONG_NAMES[data])


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ("", {}, "must be a name or a folder, got ''"),
        ("  ", {}, "must be a name or a folder"),
        ("a\0b", {}, "must be a name or a folder"),
        ("x" * 5000, {}, "File name too long"),
        ("in", {"size": 65}, "no network for size 65"),
        ("in", {"size": 0}, "no network for size 0"),
        ("in", {"size": -28}, "no network for size -28"),
        ("in", {"size": 10**9}, "no network for size 1000000000"),
        ("in", {"channels": 2}, "channels must be 1"),
        ("in", {"channels": 0}, "channels must be 1"),
        ("in", {"channels": 4}, "channels must be 1"),
        ("in", {"root": Path()}, "`root` is for data sets known by name"),
        ("empty", {}, "no images in empty"),
        ("in/a.png", {}, "in/a.png is a file, expected a folder"),
        ("faces.zip", {}, "faces.zip is a file, expected a folder"),
        ("in/a.png/b", {}, "no data set and no folder is called in/a.png/b"),
    ],
)
def test_a_wrong_argument(
    opened: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    settings: dict[str, object],
    message: str,
) -> None:
    fill(tmp_path / "in", "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "faces.zip").write_bytes(b"PK")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanportError) as caught:
        opened(data, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not opened.cache_dir.exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a.png", "name the folder that it lies in: "),
        ("faces.zip", "unpack it and name the folder"),
        ("faces.tar.gz", "unpack it and name the folder"),
        ("train-images-idx3-ubyte.gz", "name the folder that it lies in: "),
    ],
)
def test_a_file_where_a_folder_belongs(opened: Opened, tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(GanportError) as caught:
        opened(tmp_path / name)
    assert caught.value.hint.startswith(hint)


def test_decoding_can_be_followed(opened: Opened, tmp_path: Path) -> None:
    parts: list[int] = []

    def track(chunks: Iterable[Chunk], length: int, label: str) -> Iterator[Chunk]:
        assert (length, label) == (2 * CHUNK + 2, "decoding in")
        for chunk in chunks:
            yield chunk
            parts.append(len(chunk))

    folder = fill(tmp_path / "in", *(f"{index}.png" for index in range(2 * CHUNK + 1)))
    (folder / "broken.png").write_bytes(b"broken")
    opened(folder, size=28, track=track)
    assert parts == [CHUNK, CHUNK, 2]


@pytest.mark.skipif(not EMOJI, reason="GANPORT_EMOJI names no folder of emoji PNGs")
def test_real_emoji(opened: Opened) -> None:
    found = opened(EMOJI or "")
    assert len(found) == len(list(Path(EMOJI or "").glob("*.png")))
    assert found.skipped == ()
    assert (found.size, found.channels) == (64, 3)
    assert (found.pixels_NHWC[:, 0, 0] == 255).all(axis=-1).mean() > 0.5, "transparent corners are white"
