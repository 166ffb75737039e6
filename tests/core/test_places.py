"""Where a file goes that is no ordinary place: links, pipes, devices, descriptors; what a replaced file passes on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gan_core.errors import GanportError
from gan_core.files import atomic, check_outputs, check_writable
from gan_core.files.atomic import WholeFiles, atomic_path, write_bytes
from gan_serve.gen.outputs import Kind, parse_target

if os.name == "nt":
    pytest.skip("links, pipes, modes and devices as POSIX has them", allow_module_level=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def node(path: Path, kind: int, major: int, minor: int) -> Path:
    try:
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        path.open("wb").close()
    except PermissionError:
        pytest.skip("no device nodes for this user, or on this disk")
    return path


@pytest.fixture
def null(tmp_path: Path) -> Path:
    return node(tmp_path / "null.png", stat.S_IFCHR, 1, 3)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return node(tmp_path / "full.png", stat.S_IFCHR, 1, 7)


class Reader:
    """Reads a pipe to its end, in a thread."""

    def __init__(self, pipe: Path) -> None:
        self.data = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: Path) -> None:
        self.data = pipe.read_bytes()

    def all(self) -> bytes:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.data


# ── what is no regular file ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_is_written_to_and_stays(null: Path) -> None:
    before = null.stat()
    check_writable(null)
    write_bytes(null, b"x" * 100)
    WholeFiles(null.parent).write(null.name, b"x")
    after = null.lstat()
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert names(null.parent) == ["null.png"]


def test_a_full_device_is_one_line_and_stays(full: Path) -> None:
    with pytest.raises(GanportError, match=r"no room to write .*full\.png: No space left on device") as caught:
        write_bytes(full, b"x")
    assert caught.value.hint
    assert stat.S_ISCHR(full.lstat().st_mode)
    assert names(full.parent) == ["full.png"]


def test_a_link_to_a_device_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_ISCHR(Path("/dev/null").lstat().st_mode)


def test_a_disk_is_not_written_over(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 200))
    except PermissionError:
        pytest.skip("no device nodes for this user")
    for write in (check_writable, lambda path: write_bytes(path, b"x")):
        with pytest.raises(GanportError, match="disk is a disk, expected a file name"):
            write(tmp_path / "disk")
    assert stat.S_ISBLK((tmp_path / "disk").lstat().st_mode)


def test_a_pipe_gets_the_bytes_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_outputs({}, {"--json": pipe, "--report": pipe})
    writers: list[Callable[[bytes], None]] = [
        lambda data: write_bytes(pipe, data),
        lambda data: WholeFiles(tmp_path).write("pipe", data),
    ]
    for write in writers:
        reader = Reader(pipe)
        write(b"0123456789" * 50_000)
        assert reader.all() == b"0123456789" * 50_000
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_failure_gives_a_pipe_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = Reader(tmp_path / "pipe")

    def fail() -> None:
        with atomic_path(tmp_path / "pipe") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert reader.all() == b""


def test_a_reader_that_leaves_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def write() -> None:
        with atomic_path(tmp_path / "pipe") as temporary:
            os.close(reading)
            temporary.write_bytes(b"x")

    with pytest.raises(GanportError, match="pipe: its reader has gone") as caught:
        write()
    assert caught.value.hint


def test_a_socket_is_one_line(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    with pytest.raises(GanportError, match=r"cannot write .*socket: No such device or address"):
        write_bytes(tmp_path / "socket", b"x")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_stdout_under_another_name_keeps_its_place_in_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from gan_core.files.atomic import write_bytes; print('a'); write_bytes({name!r}, b'b\\n'); print('c')"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=log, check=True, timeout=60)
    assert (tmp_path / "log").read_text() == "a\nb\nc\n"
    assert names(tmp_path) == ["link", "log"]


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1"])
def test_stdout_under_another_name_is_stdout(out: str) -> None:
    assert parse_target(out, Path("g.onnx")).kind is Kind.STDOUT


def test_a_pipe_without_a_suffix_takes_a_png(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert parse_target(str(tmp_path / "pipe"), Path("g.onnx")).kind is Kind.PICTURE
    assert parse_target("/dev/null", Path("g.onnx")).kind is Kind.PICTURE


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "second").symlink_to("there/file")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    for data in (b"through a link to nothing", b"through a link to a file"):
        check_writable(tmp_path / "first")
        write_bytes(tmp_path / "first", data)
        assert (tmp_path / "there" / "file").read_bytes() == data
        assert (tmp_path / "first").is_symlink()
        assert (tmp_path / "second").is_symlink()
    WholeFiles(tmp_path).write("first", b"by the folder")
    assert (tmp_path / "there" / "file").read_bytes() == b"by the folder"
    assert names(tmp_path / "there") == ["file"]
    assert names(tmp_path) == ["first", "second", "there"]


def test_a_link_up_and_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "short").symlink_to("a/b")
    (tmp_path / "a" / "b" / "up").symlink_to("../file")
    write_bytes(tmp_path / "short" / "up", b"x")
    assert (tmp_path / "a" / "file").read_bytes() == b"x"


def test_a_circle_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for write in (check_writable, lambda path: write_bytes(path, b"x"), lambda path: parse_target(str(path), path)):
        with pytest.raises(GanportError, match=r"cannot write .*a: Too many levels of symbolic links"):
            write(tmp_path / "a")
    with pytest.raises(GanportError, match="Too many levels"):
        WholeFiles(tmp_path).write("a", b"x")
    assert names(tmp_path) == ["a", "b"]


# ── what a replaced file passes on ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755, 0o2750])
@pytest.mark.parametrize("many", [False, True])
def test_the_mode_of_a_replaced_file_is_kept(tmp_path: Path, mode: int, many: bool) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(mode)
    if many:
        WholeFiles(tmp_path).write("file", b"new")
    else:
        with atomic_path(target) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == mode | 0o600, "never open to more people than the old one"
            temporary.write_bytes(b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).write_bytes(b"old")
        os.chown(tmp_path / name, 65534, 65534)
    write_bytes(tmp_path / "one", b"new")
    WholeFiles(tmp_path).write("many", b"new")
    assert [(tmp_path / name).stat().st_uid for name in ("one", "many")] == [65534, 65534]


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["x" * 255, "x" * 251 + ".png", "é" * 127, "a." + "s" * 250, "x" * 250])
def test_the_longest_names_work(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path / name)
    write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".png", "y" * 300 + "/a.png"])
def test_names_that_are_too_long_are_one_line(tmp_path: Path, name: str) -> None:
    def parse(path: Path) -> object:
        return parse_target(str(path), path)

    for write in (check_writable, lambda path: write_bytes(path, b"x"), parse):
        with pytest.raises(GanportError, match=r"cannot write .*: File name too long"):
            write(tmp_path / name)


# ── on the disk ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sync", [True, False])
def test_the_bytes_then_the_name_are_flushed_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    seen: list[tuple[str, object]] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        about = os.fstat(handle)
        seen.append(("folder", about.st_ino) if stat.S_ISDIR(about.st_mode) else ("file", about.st_size))
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        seen.append(("rename", Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_bytes(tmp_path / "g.onnx", b"12345", sync=sync)
    expected = [("file", 5), ("rename", "g.onnx"), ("folder", tmp_path.stat().st_ino)]
    assert seen == (expected if sync else expected[1:2])


def test_a_folder_that_cannot_be_flushed_is_none_the_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_bytes(tmp_path / "g.onnx", b"12345")
    assert names(tmp_path) == ["g.onnx"]
    assert atomic.is_stream(tmp_path / "g.onnx") is False
