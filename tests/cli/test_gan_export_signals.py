"""Ctrl-C, SIGTERM and SIGHUP while torch.onnx works: an interruption, whatever torch makes of it; nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.conftest import Run
from cli.drawing import names
from export.tiny import save_checkpoint
from gan_core.process import quiet

pytestmark = pytest.mark.slow


def interrupt(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _turn in range(1000):  # Python takes the signal between two instructions
        pass


def as_another_error(*_: object, **__: object) -> None:
    """As a library in C++ does that knows no Python exceptions: only the text is left."""
    lost = False
    try:
        interrupt()
    except KeyboardInterrupt:
        lost = True
    if lost:
        raise RuntimeError("KeyboardInterrupt: at export.cpp:77")


def as_a_cause(*_: object, **__: object) -> None:
    try:
        interrupt()
    except KeyboardInterrupt as error:
        raise SystemError("<built-in function export> returned a result with an exception set") from error


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "g.pt")


@pytest.mark.parametrize("broken", [interrupt, as_another_error, as_a_cause])
def test_ctrl_c_in_torch_onnx(
    broken: Callable[..., None], run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", broken)
    code, out, err = run("onnx", "--ckpt", ckpt)
    assert (code, out, err.splitlines()[-1]) == (130, "", "error: interrupted")
    assert "hint" not in err
    assert names(ckpt.parent) == ["g.pt"]


def test_ctrl_c_that_torch_onnx_loses(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = torch.onnx.export

    def lose(*arguments: Any, **options: Any) -> Any:
        try:
            interrupt()
        except KeyboardInterrupt:
            return really(*arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", lose)
    code, out, err = run("onnx", "--ckpt", ckpt)
    assert (code, out, err.splitlines()[-1]) == (130, "", "error: interrupted")
    assert names(ckpt.parent) == ["g.pt"]


def test_a_later_command_does_not_remember(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(torch.onnx, "export", interrupt)
        assert run("onnx", "--ckpt", ckpt)[0] == 130
    assert run("onnx", "--ckpt", ckpt)[0] == 0


def test_a_library_call_is_interrupted_too() -> None:
    with pytest.raises(KeyboardInterrupt), quiet():
        as_a_cause()


PROCESS = """
import json, os, signal, sys, time
import torch
from gan_export import cli, exporting, identify
def export(*_, **__):
    open("seen", "w").write(str([name for name in os.listdir() if ".ganport-" in name]))
    os.kill(os.getpid(), number)
    time.sleep(0.1)
    raise RuntimeError("went on")
torch.onnx.export = export
for folder, number, ignored in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"../{folder}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        sys.argv = ["gan-export", "onnx", "--ckpt", "g.pt"]
        try:
            cli.main()
        except SystemExit as done:
            sys.stderr.flush()
            os._exit(int(done.code or 0))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
SIGNALS = ((signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGHUP, True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_signal_leaves_nothing_and_ends_the_process(tmp_path: Path) -> None:
    """Ignored, as behind nohup, it does neither. Forks of one process that has imported what it needs."""
    jobs = [(f"{number.name}{ignored}", int(number), ignored) for number, ignored in SIGNALS]
    for folder, _, _ in jobs:
        (tmp_path / folder).mkdir()
        save_checkpoint(tmp_path / folder / "g.pt")
    command = [sys.executable, "-c", PROCESS, json.dumps(jobs)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    for (folder, number, ignored), code in zip(jobs, map(int, done.stdout.split()), strict=True):
        out, err = ((tmp_path / f"{folder}.{name}").read_text() for name in ("out", "err"))
        assert "g.ganport-" in (tmp_path / folder / "seen").read_text(), "the temporary file was there"
        assert names(tmp_path / folder) == ["g.pt", "seen"]
        assert out == ""
        assert code == (1 if ignored else -number), err
        assert ("went on" if ignored else "") in err
        assert ("error" in err) == ignored
