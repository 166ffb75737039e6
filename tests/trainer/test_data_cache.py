"""The cache of decoded data sets: written once, read as a map, rebuilt when it is stale or damaged."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gan_serve.errors import GanportError
from gan_trainer.data import cache
from gan_trainer.data.decode import CHUNK
from trainer.data_files import Opened, fill, picture, save, save_idx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", "a.png", "b.png", "c.png")


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path / "cache")


def test_the_second_time_nothing_is_decoded(opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)
    assert opened.decoded
    monkeypatch.setattr("gan_trainer.data.dataset.decode", lambda *_: pytest.fail("decoded again"))
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
        assert found.skipped == ("x/bad.png",)


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
    monkeypatch.setattr("gan_trainer.data.transforms.VERSION", 1_000)
    opened(folder)
    assert opened.decoded


def truncate(npy: Path, _: Path) -> None:
    os.truncate(npy, npy.stat().st_size - 1)


def flip_a_bit(npy: Path, _: Path) -> None:
    data = bytearray(npy.read_bytes())
    data[-500] ^= 1
    npy.write_bytes(data)


def change_json(**changes: object) -> object:
    def apply(_: Path, details: Path) -> None:
        details.write_text(json.dumps(json.loads(details.read_text()) | changes))

    return apply


DAMAGES = {
    "a byte short": truncate,
    "a bit flipped": flip_a_bit,
    "empty": lambda npy, _: npy.write_bytes(b""),
    "text": lambda npy, _: npy.write_text("hello"),
    "another array": lambda npy, _: np.save(npy, np.zeros((3, 64, 64, 3), np.uint16)),
    "objects": lambda npy, _: np.save(npy, np.array([{}], dtype=object), allow_pickle=True),
    "no json object": lambda _, details: details.write_text("[]"),
    "half a json": lambda _, details: details.write_text(details.read_text()[:40]),
    "json that is no text": lambda _, details: details.write_bytes(b"\xff\xfe\xfd"),
    "another format": change_json(format=0),
    "another shape": change_json(shape=[1, 64, 64, 3]),
    "labels that are none": change_json(labels="x"),
    "a folder for the json": lambda _, details: (details.unlink(), details.mkdir()),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_entry_is_noticed_and_written_again(opened: Opened, folder: Path, case: str) -> None:
    expected = np.array(opened(folder).pixels_NHWC)
    details, npy = (opened.cache_dir / "images" / name for name in opened.entries)
    DAMAGES[case](npy, details)
    if details.is_dir():
        with pytest.raises(GanportError, match="is a folder"):
            opened(folder)
        return
    found = opened(folder)
    assert any("damaged, decoding again" in note for note in opened.notes)
    np.testing.assert_array_equal(found.pixels_NHWC, expected)
    opened(folder)
    assert not opened.decoded
    assert len(opened.notes) == 0


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_half_an_entry_is_none(opened: Opened, folder: Path, suffix: str) -> None:
    opened(folder)
    (name,) = [name for name in opened.entries if name.endswith(suffix)]
    (opened.cache_dir / "images" / name).unlink()
    assert len(opened(folder)) == 3
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


def test_leftovers_of_killed_writers_go_after_a_day(opened: Opened, folder: Path) -> None:
    opened(folder)
    prefix = next(name for name in opened.entries if name.endswith(".npy"))[:-4]
    old, young = (opened.cache_dir / "images" / f".{prefix}.{word}.npy" for word in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * cache.LEFTOVER_S,) * 2)
    edit(folder)
    opened(folder)
    assert young.exists()
    assert not old.exists()


def test_writers_at_the_same_time_agree(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "many", *(f"{index}.png" for index in range(2 * CHUNK + 3)))
    script = "import sys; from gan_trainer.data import open_dataset; print(open_dataset(sys.argv[1]).fingerprint)"
    command = [sys.executable, "-c", script, str(folder)]
    environment = os.environ | {"GANPORT_CACHE": str(opened.cache_dir)}
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    fingerprints = {writer.communicate()[0].strip() for writer in writers}
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert fingerprints == {opened(folder).fingerprint}
    assert len(opened.entries) == 2
    opened(folder)
    assert not opened.decoded


@pytest.mark.parametrize("blocked", ["cache", "cache/images"])
def test_without_a_writable_cache_it_is_in_memory(opened: Opened, folder: Path, tmp_path: Path, blocked: str) -> None:
    expected = Opened(tmp_path / "other")(folder)
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file where the folder should be")
    found = opened(folder)
    assert not isinstance(found.pixels_NHWC, np.memmap)
    np.testing.assert_array_equal(found.pixels_NHWC, expected.pixels_NHWC)
    assert found.fingerprint == expected.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        found.pixels_NHWC[0] = 0
    (note,) = opened.notes
    assert "decoded into memory" in note
    assert "GANPORT_CACHE" in note


def test_in_memory_the_skipped_leave_no_gap(opened: Opened, folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").write_bytes(b"broken")
    (tmp_path / "cache").write_text("")
    assert opened(folder).pixels_NHWC.shape == (2, 64, 64, 3)


def test_a_cache_that_may_only_be_read_is_read(opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder)
    monkeypatch.setattr(cache, "why_not_writable", lambda _: "Read-only file system")
    assert isinstance(opened(folder).pixels_NHWC, np.memmap)
    assert not opened.decoded


def test_a_full_disk_is_one_line_and_leaves_nothing(opened: Opened, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # 3 images of 64x64x3 take 36,864 bytes
    try:
        with pytest.raises(GanportError, match="no room to write") as caught:
            opened(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "GANPORT_CACHE" in caught.value.hint
    assert opened.entries == []


def test_no_room_for_the_details_takes_the_pixels_along(
    opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise GanportError("no room")

    monkeypatch.setattr(cache, "write_text", refuse)
    with pytest.raises(GanportError, match="no room"):
        opened(folder)
    assert opened.entries == []


KILLED = """
import os, sys
from pathlib import Path
from gan_trainer.data import dataset, open_dataset
real = dataset.decode
def decode(*args):
    for index, chunk in enumerate(real(*args)):
        if index == 1:
            os.kill(os.getpid(), 9)
        yield chunk
dataset.decode = decode
open_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]))
"""


def test_killed_while_decoding_it_starts_again(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "many", *(f"{index}.png" for index in range(2 * CHUNK)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(opened.cache_dir)], check=False)
    assert done.returncode == -9
    assert not [name for name in opened.entries if not name.startswith(".")]
    assert len(opened(folder)) == 2 * CHUNK
    assert opened.decoded


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
    notes: list[str] = []
    from gan_trainer.data import open_dataset

    assert len(open_dataset(str(folder), on_note=notes.append)) == 3
    assert "there is no home folder" in notes[0]
