"""Running a command of the benchmarks, in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from gan_serve.terminal import console


def run(app: typer.Typer, *arguments: object) -> int:
    """The exit code."""
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["a benchmark", *words])
        with pytest.raises(SystemExit) as ended_with:
            console.run(app, "a benchmark", words)
    assert isinstance(ended_with.value.code, int)
    return ended_with.value.code


def run_alone(module: str, *arguments: object) -> str:
    """The stdout of `python -m lab.MODULE`, run in a small process: a peak of memory that it measures is then its
    child's, which it is not in a process that has itself held more.
    """
    command = (sys.executable, "-m", f"lab.{module}", *(str(argument) for argument in arguments))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
