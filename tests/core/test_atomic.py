"""Whole files or none, and the end of what a killed writer left."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_core.errors import GanportError
from gan_core.files import atomic
from gan_core.files.atomic import WholeFiles, atomic_path, hidden_name, is_leftover, sweep, write_bytes, write_text


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


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves the old file or the new one: both the file and, once it is renamed, its folder are flushed."""
    target = tmp_path / "g.png"
    write_bytes(target, b"old")
    flushed: list[tuple[bool, bytes]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        flushed.append((stat.S_ISREG(os.fstat(handle).st_mode), target.read_bytes()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_bytes(target, b"new")
    assert flushed == [(True, b"old"), (False, b"new")]
    write_bytes(target, b"newer", sync=False)
    assert len(flushed) == 2


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


WRITE = """
import sys, time
from gan_core.files.atomic import atomic_path
with atomic_path("file.bin") as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process that has not looked yet."""
    monkeypatch.setattr(atomic, "_swept", set())


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", WRITE], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_killed_writers_file_goes_and_a_live_ones_stays(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    (hidden,) = names(tmp_path)
    write_bytes(tmp_path / "other.bin", b"x")
    assert names(tmp_path) == [hidden, "other.bin"], "it is still being written"
    writer.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    atomic._swept.clear()
    write_bytes(tmp_path / "other.bin", b"x")  # before it is waited for: a zombie writes nothing
    assert names(tmp_path) == ["other.bin"]


def test_images_of_a_folder_are_cleared_too(tmp_path: Path) -> None:
    files = WholeFiles(tmp_path)
    mine = Path(f"{files._hidden}.seed0000001.png")
    theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{dead_pid()}-"))
    mine.touch()
    theirs.touch()
    assert (is_leftover(str(mine)), is_leftover(str(theirs))) == (False, True)
    atomic._swept.clear()
    WholeFiles(tmp_path)
    assert names(tmp_path) == [mine.name]


def test_another_machines_file_goes_after_a_week(tmp_path: Path) -> None:
    young = tmp_path / f".a.ganport-01234567-{dead_pid()}-89abcdef.png"
    old = tmp_path / f".b.ganport-01234567-{os.getpid()}-89abcdef.png"
    for path in (young, old):
        path.touch()
    os.utime(old, (time.time() - atomic.FOREIGN_AGE_S - 60,) * 2)
    sweep(tmp_path)
    assert names(tmp_path) == [young.name]


def test_a_system_that_tells_no_machine_waits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_machine", lambda: atomic._UNKNOWN)
    path = tmp_path / hidden_name("g.png").replace(f"-{os.getpid()}-", f"-{dead_pid()}-")
    path.touch()
    sweep(tmp_path)
    assert names(tmp_path) == [path.name]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    mine = hidden_name("g.png").replace(f"-{os.getpid()}-", f"-{dead_pid()}-")
    kept = [mine[1:], mine, ".g.png", ".ganport-config", ".g.ganport-12-x.png", ".bashrc"]
    (tmp_path / "target").touch()
    (tmp_path / mine).symlink_to("target")
    for name in (name for name in kept if name != mine):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted({*kept, "target"})


def test_a_folder_of_a_killed_download_goes(tmp_path: Path) -> None:
    folder = tmp_path / hidden_name("mnist").replace(f"-{os.getpid()}-", f"-{dead_pid()}-")
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / "part.gz").touch()
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_listed_is_nobodys_trouble(tmp_path: Path) -> None:
    sweep(tmp_path / "missing")


@pytest.mark.parametrize("name", ["g.onnx", "x" * 255, "é" * 100 + ".png", ".hidden", "a." + "s" * 200, "no suffix"])
def test_hidden_names(name: str) -> None:
    hidden = hidden_name(name)
    assert atomic.NAME.fullmatch(hidden)
    assert len(os.fsencode(hidden)) <= 255
    assert hidden != hidden_name(name)
    assert hidden.endswith(".onnx") == (name == "g.onnx")
