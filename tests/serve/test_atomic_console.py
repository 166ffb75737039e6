"""Whole files or none, and how the commands fail."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer

from gan_serve import console
from gan_serve.atomic import WholeFiles, atomic_path, write_bytes, write_text
from gan_serve.errors import GanportError, MissingPackageError, ProofError
from gan_serve.progress import Progress


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


def command(error: BaseException | int) -> typer.Typer:
    app = console.new_app()

    @app.command()
    def work(number: int = 1) -> int:
        """Works."""
        if isinstance(error, BaseException):
            raise error
        print("data", number)
        return error

    return app


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (GanportError("a\n b", "do\n this"), 2, "error: a b\nhint: do this\n"),
        (GanportError("a"), 2, "error: a\n"),
        (
            MissingPackageError("x", "video", "this"),
            2,
            "error: this needs x, which is not installed\nhint: pip install 'ganport[video]'\n",
        ),
        (ProofError("bad"), 1, "error: bad\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (typer.Exit(5), 5, ""),
        (
            RuntimeError("a\nb"),
            1,
            "error: unexpected RuntimeError: a b\nhint: run again with --debug and report the traceback (cmd)\n",
        ),
    ],
)
def test_exit_codes(error: BaseException | int, code: int, stderr: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        console.run(command(error), "cmd", [])
    assert done.value.code == code
    assert capsys.readouterr().err == stderr


def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GanportError):
        console.run(command(GanportError("a")), "cmd", ["--debug"])
    monkeypatch.setenv("GANPORT_DEBUG", "1")
    with pytest.raises(RuntimeError):
        console.run(command(RuntimeError("a")), "cmd", [])


@pytest.mark.parametrize("arguments", [["--number", "x"], ["--nothing"], ["extra"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        console.run(command(0), "cmd", arguments)
    assert done.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert second == "hint: cmd --help lists what it takes"


def test_usage_errors_of_a_subcommand_name_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    app = command(0)
    app.command("sub")(lambda: 0)
    app.command("other")(lambda: 0)
    with pytest.raises(SystemExit):
        console.run(app, "cmd", ["sub", "--nothing"])
    assert capsys.readouterr().err.splitlines()[1] == "hint: cmd sub --help lists what it takes"


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


def test_table() -> None:
    assert console.table(["a", "b"], [["x", "10"], ["long", "1"]], right=(1,)) == (
        "a      b\n────  ──\nx     10\nlong   1"
    )


def bar(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, waited_s: float) -> list[object]:
    shown: list[object] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def update(self, n: int) -> None:
            shown.append(n)

        def __exit__(self, *_: object) -> None:
            shown.append("end")

    clock = iter([0.0, 0.1, waited_s, waited_s, waited_s])
    monkeypatch.setattr("gan_serve.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("gan_serve.progress.sys.stderr.isatty", lambda: terminal)
    monkeypatch.setattr(console, "progress", lambda length, label: shown.append((length, label)) or Bar())
    with Progress(100, "drawing") as progress:
        for _ in range(3):
            progress.update(10)
    return shown


def test_progress_shows_after_two_seconds_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar(monkeypatch, terminal=True, waited_s=2.5) == [(100, "drawing"), 20, 10, "end"]
    assert bar(monkeypatch, terminal=True, waited_s=1.5) == []
    assert bar(monkeypatch, terminal=False, waited_s=9.0) == []


def leaving(program: str) -> subprocess.CompletedProcess[str]:
    code = f"import atexit, sys\nfrom gan_serve import console\natexit.register(print, 'atexit')\n{program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_leaving_prints_all_there_is_and_skips_the_rest(code: int) -> None:
    done = leaving(f"print('out'); print('err', file=sys.stderr); console.leave(SystemExit({code}))")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


@pytest.mark.parametrize(("given", "code", "err"), [("None", 0, ""), ("'no number'", 1, "no number\n")])
def test_an_unusual_exit_goes_the_usual_way(given: str, code: int, err: str) -> None:
    done = leaving(f"console.leave(SystemExit({given}))")
    assert (done.returncode, done.stdout, done.stderr) == (code, "atexit\n", err)
