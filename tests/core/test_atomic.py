"""Whole files or none."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from gan_core.errors import GanportError
from gan_core.files.atomic import WholeFiles, atomic_path, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "g.png"
    write_bytes(target, b"old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["g.png"]


@pytest.mark.parametrize("sync", [True, False])
def test_success_makes_folders_and_keeps_the_usual_mode(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "a" / "b" / "g.txt"
    with atomic_path(target, sync=sync) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("x")
    write_text(target, "ü")
    assert target.read_text("utf-8") == "ü"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert names(target.parent) == ["g.txt"]


def test_threads_leave_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    os.umask(before)
    workers = [
        threading.Thread(target=write_bytes, args=(tmp_path / f"{i}", b"x"), kwargs={"sync": False}) for i in range(20)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    after = os.umask(before)
    assert after == before
    assert len(names(tmp_path)) == 20


def test_many_whole_files(tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(b"old and longer")
    files = WholeFiles(tmp_path)
    workers = [threading.Thread(target=files.write, args=(f"{i}.png", b"x" * i)) for i in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {f"{i}.png": b"x" * i for i in range(20)}
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "7.png").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_whole_file_takes_several_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    WholeFiles(tmp_path).write("a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_whole_file_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError if code == errno.EIO else GanportError):
        WholeFiles(tmp_path).write("a", b"new")
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"old")


def test_a_whole_file_where_a_folder_stands(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(GanportError, match=r"cannot write .*a: Is a directory"):
        WholeFiles(tmp_path).write("a", b"new")
    with pytest.raises(GanportError, match=r"cannot write .*gone/a: No such file"):
        WholeFiles(tmp_path / "gone").write("a", b"new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no room to write"),
        (errno.EFBIG, "no room to write"),
        (errno.EDQUOT, "no room to write"),
        (errno.EACCES, "cannot write"),
        (errno.EROFS, "cannot write"),
    ],
)
def test_the_systems_refusals_are_explained(tmp_path: Path, code: int, message: str) -> None:
    with pytest.raises(GanportError, match=message) as caught, atomic_path(tmp_path / "x"):
        raise OSError(code, os.strerror(code))
    assert caught.value.hint
    assert (caught.value.code == "no_room") == message.startswith("no room")
    assert names(tmp_path) == []


def test_places_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, message in [
        (tmp_path, "is a folder, expected a file name"),
        (tmp_path / "file" / "x", "cannot write"),
        (tmp_path / ("x" * 300), "cannot write"),
    ]:
        with pytest.raises(GanportError, match=message):
            write_bytes(target, b"x")


def test_a_place_that_vanishes_is_bad_input_and_a_file_to_read_is_not(tmp_path: Path) -> None:
    def write(read: Path) -> None:
        with atomic_path(tmp_path / "gone" / "g.png") as temporary:
            temporary.unlink()
            temporary.parent.rmdir()
            read.read_bytes()
            temporary.write_bytes(b"")

    with pytest.raises(GanportError, match=r"^cannot write .*g\.png: No such file"):
        write(Path(__file__))
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "missing")
