"""The cache of decoded data sets when something is wrong: damaged, full, not writable, its writer killed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_core.pictures import CHUNK
from gan_trainer.data import cache
from trainer.data_files import Opened, fill, picture, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", "a.png", "b.png", "c.png")


def truncate(npy: Path, _: Path) -> None:
    os.truncate(npy, npy.stat().st_size - 1)


def flip_a_bit(npy: Path, _: Path) -> None:
    data = bytearray(npy.read_bytes())
    data[-500] ^= 1
    npy.write_bytes(data)


def change_json(**changes: object) -> Callable[[Path, Path], object]:
    def apply(_: Path, details: Path) -> None:
        details.write_text(json.dumps(json.loads(details.read_text()) | changes))

    return apply


def make_a_folder(_: Path, details: Path) -> None:
    details.unlink()
    details.mkdir()


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
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
    "a folder for the json": make_a_folder,
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


def test_leftovers_of_killed_writers_go_after_a_day(opened: Opened, folder: Path) -> None:
    opened(folder)
    prefix = next(name for name in opened.entries if name.endswith(".npy"))[:-4]
    old, young = (opened.cache_dir / "images" / f".{prefix}.{word}.npy" for word in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * cache.LEFTOVER_S,) * 2)
    save(folder, "b.png", picture(seed=99))
    opened(folder)
    assert young.exists()
    assert not old.exists()


@pytest.mark.slow
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
from gan_trainer import data
real = data.decode
def decode(*args):
    for index, chunk in enumerate(real(*args)):
        if index == 1:
            os.kill(os.getpid(), 9)
        yield chunk
data.decode = decode
data.open_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_while_decoding_it_starts_again(opened: Opened, tmp_path: Path) -> None:
    folder = fill(tmp_path / "many", *(f"{index}.png" for index in range(2 * CHUNK)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(opened.cache_dir)], check=False)
    assert done.returncode == -9
    assert not [name for name in opened.entries if not name.startswith(".")]
    assert len(opened(folder)) == 2 * CHUNK
    assert opened.decoded
