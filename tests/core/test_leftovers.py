"""What a killed process leaves, the next one deletes; nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_core.files import atomic
from gan_core.files.atomic import WholeFiles, hidden_name, is_leftover, sweep, write_bytes

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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
