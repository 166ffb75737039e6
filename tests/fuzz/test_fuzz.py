"""Every fuzz target reads its real files, the kept corpus and some mutations as it should, within its limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import runner

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", runner.TARGETS)
def test_nothing_but_refusals(name: str) -> None:
    path = os.pathsep.join([str(runner.HERE.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--here", "--replay", name],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("name", runner.TARGETS)
def test_the_real_files_are_read(name: str) -> None:
    """A reader that refused everything would hold as well."""
    target = runner.load(name)
    files = target.seeds()
    assert files
    for data in files:
        target.read(data)


def test_a_fault_is_found_and_its_file_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(data: bytes) -> None:
        assert b"!" not in data

    monkeypatch.setattr(runner, "FOUND", tmp_path)
    target = runner.Target(read, lambda: [b"?"], lambda data, _: b"!" + data)
    monkeypatch.setattr(runner, "load", lambda _: target)
    assert runner.replay("contract") == 1
    (file,) = tmp_path.iterdir()
    assert b"!" in file.read_bytes()
    assert f"kept as {file}" in capsys.readouterr().err
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0, "the timer would end the process that ran the target"
