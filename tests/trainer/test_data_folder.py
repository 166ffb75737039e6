"""Listing a folder of pictures: depth, order, classes, links, and everything else that lies in folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.errors import GanportError
from gan_core.pictures.folder import FolderPictures, scan
from trainer.data_files import fill, picture, save


def names(folder: Path) -> list[str]:
    return [file.relative for file in scan(folder).files]


def test_any_depth_in_the_order_of_bytes(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.png", "b/10.png", "a/z/deep/er.jpg", "B.png", "ä.png", "a.png", "a/1.gif")
    assert names(tmp_path) == ["B.png", "a.png", "a/1.gif", "a/z/deep/er.jpg", "b/10.png", "b/2.png", "ä.png"]


def test_suffixes_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, "a.PNG", "b.Jpg", "c.JPEG", "d.webp", "e.bmp", "f.GIF", "g.TIF", "h.jfif", "i.jpe", "j.pgm")
    for other in ("k.txt", "png", "l.png.part", "Thumbs.db"):
        (tmp_path / other).write_text("x")
    found = scan(tmp_path)
    assert [file.relative for file in found.files] == [
        "a.PNG", "b.Jpg", "c.JPEG", "d.webp", "e.bmp", "f.GIF", "g.TIF", "h.jfif", "i.jpe", "j.pgm"
    ]  # fmt: skip
    assert sum(found.others.values()) == 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".pgm"])
def test_a_picture_without_a_suffix_is_told_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    saved = save(tmp_path, f"a{suffix}")
    saved.rename(tmp_path / "0001")
    save(tmp_path, f"b{suffix}").rename(tmp_path / "b.download")
    (tmp_path / "empty").touch()
    (tmp_path / "P").write_text("P")
    found = scan(tmp_path)
    assert [file.relative for file in found.files] == ["0001", "b.download"]
    assert FolderPictures(tmp_path).image(0).size == picture().size
    assert dict(found.others) == {"empty": 1, "P": 1}


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    for other in ("1.heic", "2.heic", "3.heic", "notes.txt"):
        (tmp_path / other).write_text("x")
    assert FolderPictures(tmp_path).notes == (
        "left out 4 files that ganport cannot read as pictures (.heic 3, .txt 1)",
    )
    for other in ("a.a", "b.b", "c.c", "d.d", "e.e"):
        (tmp_path / other).write_text("x")
    (note,) = FolderPictures(tmp_path).notes
    assert note.startswith("left out 9 files that ganport cannot read as pictures (.heic 3, ")
    assert note.endswith(", …)")


def test_a_folder_of_pictures_alone_has_nothing_to_say(tmp_path: Path) -> None:
    assert FolderPictures(fill(tmp_path, "a/1.png", "b/2.tif")).notes == ()


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".b.png", ".git/c.png", "x/.thumbs/d.png", "__MACOSX/._a.png")
    assert names(tmp_path) == ["a.png"]


def test_a_folder_called_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "album.png/a.png")
    assert names(tmp_path) == ["album.png/a.png"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", "o.png")
    folder = fill(tmp_path / "in", "a/1.png", "b/2.png")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "here").symlink_to(".")
    (folder / "again").symlink_to(folder / "b")
    (folder / "out").symlink_to(outside)
    (folder / "file.png").symlink_to(outside / "o.png")
    assert names(folder) == ["a/1.png", "b/2.png", "file.png", "out/o.png"]


def test_links_to_nothing_and_to_themselves_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    found = scan(tmp_path)
    assert [file.relative for file in found.files] == ["a.png"]
    assert [name for name, _ in found.unreadable] == ["gone.png", "self.png"]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert names(tmp_path) == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.png", "closed/b.png")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan(tmp_path)
    assert [file.relative for file in found.files] == ["a.png"]
    assert found.unreadable == [("closed/", "Permission denied")]
    with pytest.raises(GanportError, match=r"cannot read the folder .*closed: Permission denied"):
        scan(tmp_path / "closed")


def test_a_name_that_is_no_unicode_can_be_shown(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    source = FolderPictures(tmp_path)
    assert source.item_name(0) == "caf\ufffd.png"
    assert len(source.identity) == 64


@pytest.mark.parametrize(
    ("files", "labels", "classes"),
    [
        (["a/1.png", "a/2.png", "b/1.png"], [0, 0, 1], ("a", "b")),
        (["cats/x/1.png", "dogs/2.png", "Birds/3.png"], [0, 1, 2], ("Birds", "cats", "dogs")),
        (["a/1.png", "b/1.png", "loose.png"], None, ()),
        (["only/1.png", "only/2.png"], None, ()),
        (["only/a/1.png", "only/b/2.png"], None, ()),
        (["1.png", "2.png"], None, ()),
        (["a/1.png", "b/1.png", ".loose.png", ".hidden/1.png"], [0, 1], ("a", "b")),
        (["train/a/1.png", "train/b/2.png", "test/a/3.png"], [0, 0, 1], ("a", "b")),
        (["Training/b/1.png", "Training/a/2.png"], [0, 1], ("a", "b")),
        (["train/1.png", "test/2.png"], None, ()),
        (["train/a/1.png", "train/b/2.png", "val/3.png"], None, ()),
        (["train/1.png", "car/2.png"], [0, 1], ("car", "train")),
    ],
)
def test_class_folders(tmp_path: Path, files: list[str], labels: list[int] | None, classes: tuple[str, ...]) -> None:
    found, names = FolderPictures(fill(tmp_path, *files)).load()
    assert (None if found is None else found.tolist()) == labels
    assert names == classes


@pytest.mark.parametrize(
    ("files", "notes"),
    [
        (["a/1.png", "b/1.png", "z.png"], ["no classes, for want of a folder of its class: z.png"]),
        (["a/1.png", "b/1.png", "x.png", "y.png"], ["no classes, for want of a folder of its class: x.png and 1 more"]),
        (["only/1.png", "loose.png"], []),
        (["train/1.png", "test/2.png"], ["taken for parts of the data, not for classes: test, train"]),
    ],
)
def test_what_becomes_of_classes_is_said(tmp_path: Path, files: list[str], notes: list[str]) -> None:
    assert list(FolderPictures(fill(tmp_path, *files)).notes) == notes


def test_an_empty_class_folder_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    assert FolderPictures(tmp_path).load()[1] == ("a", "b")


@pytest.mark.parametrize(
    ("modes", "channels"),
    [
        (["L", "L"], 1),
        (["1", "L", "LA"], 1),
        (["L", "RGB"], 3),
        (["RGBA"], 3),
        (["P"], 3),
        (["L", None], 1),
        ([None], 3),
    ],
)
def test_grey_when_every_readable_picture_is(tmp_path: Path, modes: list[str | None], channels: int) -> None:
    for index, mode in enumerate(modes):
        if mode is None:
            (tmp_path / f"{index}.png").write_bytes(b"broken")
        else:
            image = Image.new("LA", (9, 9)) if mode == "LA" else picture(mode=mode)
            save(tmp_path, f"{index}.png", image)
    assert FolderPictures(tmp_path).natural_channels() == channels


def test_sixteen_bit_grey_is_grey(tmp_path: Path) -> None:
    save(tmp_path, "a.png", Image.fromarray(np.full((9, 9), 40_000, np.uint16)))
    assert FolderPictures(tmp_path).natural_channels() == 1


@pytest.mark.parametrize(
    ("others", "hint"),
    [
        ([], "name a folder of images"),
        (["a.psd", "b.psd", "c.heic"], "3 other files (.psd 2, .heic 1): convert them"),
        (["faces.zip"], "unpack the .zip file"),
        (["faces.tar.gz", "readme.txt"], "unpack the .gz file"),
        ([".hidden.png"], "name a folder of images"),
        (["no_suffix"], "1 other files (no_suffix 1)"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path: Path, others: list[str], hint: str) -> None:
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(GanportError, match=r"no images in .*, expected jpg, jpeg, .* or avif") as caught:
        FolderPictures(tmp_path)
    assert hint in caught.value.hint


def test_a_folder_of_dead_links_names_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere.png")
    with pytest.raises(GanportError) as caught:
        FolderPictures(tmp_path)
    assert "a.png cannot be read: a link that leads nowhere" in caught.value.hint


def test_identity_follows_every_change(tmp_path: Path) -> None:
    first = fill(tmp_path, "a.png", "b.png") / "a.png"
    seen = [FolderPictures(tmp_path).identity]
    assert FolderPictures(tmp_path).identity == seen[0]

    os.utime(first, ns=(1, 1))
    seen.append(FolderPictures(tmp_path).identity)
    first.write_bytes(first.read_bytes() + b"\0")
    os.utime(first, ns=(1, 1))
    seen.append(FolderPictures(tmp_path).identity)
    first.chmod(0o600)
    seen.append(FolderPictures(tmp_path).identity)
    first.rename(tmp_path / "c.png")
    seen.append(FolderPictures(tmp_path).identity)
    (tmp_path / "c.png").unlink()
    seen.append(FolderPictures(tmp_path).identity)
    (tmp_path / "c.png").symlink_to("nowhere")
    seen.append(FolderPictures(tmp_path).identity)
    assert len(set(seen)) == len(seen) == 7


def test_other_files_do_not_touch_the_identity(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    before = FolderPictures(tmp_path).identity
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    assert FolderPictures(tmp_path).identity == before
