"""The cache of decoded data sets: written once, read as a map, rebuilt when it is stale."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gan_trainer.data import cache, open_dataset
from trainer.data_files import Opened, fill, logged, picture, save, save_idx, skipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", "a.png", "b.png", "c.png")


def test_the_second_time_nothing_is_decoded(opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)
    assert opened.decoded
    monkeypatch.setattr("gan_trainer.data.decode", lambda *_: pytest.fail("decoded again"))
    second = opened(folder)
    assert not opened.decoded
    np.testing.assert_array_equal(first.pixels_NHWC, second.pixels_NHWC)
    assert first.fingerprint == second.fingerprint


def test_pixels_are_a_read_only_map(opened: Opened, folder: Path) -> None:
    for _ in range(2):
        pixels = opened(folder).pixels_NHWC
        assert isinstance(pixels, np.memmap)
        assert pixels.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            pixels[0] = 0


def test_the_file_is_a_plain_npy(opened: Opened, folder: Path) -> None:
    found = opened(folder)
    (name,) = [name for name in opened.entries if name.endswith(".npy")]
    np.testing.assert_array_equal(np.load(opened.cache_dir / "images" / name), found.pixels_NHWC)


def test_details_come_back(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "classes", "x/1.png", "y/2.png", "y/3.png")
    (folder / "x" / "bad.png").write_bytes(b"bad")
    first = opened(folder)
    second = opened(folder)
    assert not opened.decoded
    for found in (first, second):
        assert found.labels is not None
        assert found.labels.tolist() == [0, 1, 1]
        assert found.labels.dtype == np.int64
        assert found.class_names == ("x", "y")
        assert skipped(found) == ["x/bad.png"]


def test_each_size_and_channel_count_has_its_entry(opened: Opened, folder: Path) -> None:
    for size in (28, 64):
        for channels in (1, 3):
            found = opened(folder, size=size, channels=channels)
            assert found.pixels_NHWC.shape == (3, size, size, channels)
    assert len(opened.entries) == 8
    opened(folder)
    assert not opened.decoded, "64 and RGB are what the folder has by nature"


def test_natural_channels_are_not_taken_from_an_entry_asked_for_otherwise(opened: Opened, folder: Path) -> None:
    opened(folder, channels=1)
    assert opened(folder).channels == 3
    grey = folder.parent / "grey"
    for name in ("a.png", "b.png"):
        save(grey, name, picture(mode="L"))
    opened(grey, channels=3)
    assert opened(grey).channels == 1


def edit(folder: Path) -> None:
    save(folder, "b.png", picture(seed=99))


def edit_secretly(folder: Path) -> None:
    path = folder / "b.png"
    size = path.stat().st_size
    data = bytearray(path.read_bytes())
    path.write_bytes(data)
    os.utime(path, ns=(5, 5))
    assert path.stat().st_size == size


def move_into_a_folder(folder: Path) -> None:
    (folder / "s").mkdir()
    (folder / "b.png").rename(folder / "s" / "b.png")


CHANGES = {
    "a picture added": lambda folder: save(folder, "d.png", picture(seed=7)),
    "a picture removed": lambda folder: (folder / "b.png").unlink(),
    "a picture edited": edit,
    "a picture written again": edit_secretly,
    "a picture renamed": lambda folder: (folder / "b.png").rename(folder / "z.png"),
    "a picture moved into a folder": move_into_a_folder,
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_the_source_decodes_again(opened: Opened, folder: Path, case: str) -> None:
    opened(folder)
    opened(folder, size=28)
    before = set(opened.entries)
    CHANGES[case](folder)
    opened(folder)
    assert opened.decoded
    assert len(opened.entries) == 2, "the entries of the old state are gone, at every size"
    assert not before & set(opened.entries)
    opened(folder)
    assert not opened.decoded


def test_a_change_of_an_idx_file_decodes_again(opened: Opened, tmp_path: Path) -> None:
    save_idx(tmp_path / "in", n=12)
    first = opened(tmp_path / "in")
    opened(tmp_path / "in")
    assert not opened.decoded
    save_idx(tmp_path / "in", n=14)
    assert len(opened(tmp_path / "in")) == 14
    assert opened.decoded
    assert len(first) == 12, "who holds the old map keeps it"
    assert len(opened.entries) == 2


def test_other_sources_keep_their_entries(opened: Opened, folder: Path) -> None:
    other = fill(folder.parent / "elsewhere" / "in", "a.png")
    opened(folder)
    opened(other)
    edit(folder)
    opened(folder)
    opened(other)
    assert not opened.decoded


def test_a_new_transform_decodes_again(opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder)
    monkeypatch.setattr("gan_core.pictures.VERSION", 1_000)
    opened(folder)
    assert opened.decoded


def test_a_sampled_checksum_covers_the_whole_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_BYTES", 10)
    monkeypatch.setattr(cache, "CHECKED_BLOCKS", 10)
    pixels = np.zeros((1000, 1, 1, 1), np.uint8)
    sums = {cache.checksum(pixels)}
    for index in (5, 305, 905):
        changed = pixels.copy()
        changed[index] = 1
        sums.add(cache.checksum(changed))
    assert len(sums) == 4
    assert cache.fingerprint(pixels, None, ()) != cache.fingerprint(changed, None, ())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GANPORT_CACHE": "/a/b"}, "/a/b"),
        ({"GANPORT_CACHE": "~/b", "HOME": "/h"}, "/h/b"),
        ({"GANPORT_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/ganport"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/ganport"),
        ({"HOME": "/h"}, "/h/.cache/ganport"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name in ("GANPORT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache.default_cache_dir() == Path(expected)


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("GANPORT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with logged() as notes:
        assert len(open_dataset(str(folder))) == 3
    assert "there is no home folder" in notes[0]
