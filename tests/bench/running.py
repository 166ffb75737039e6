"""Running a command of the benchmarks, in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
import typer

from gan_bench import worker
from gan_bench.process import COMMAND, WorkerError, WorkerProcess
from gan_bench.questions import Opened
from gan_serve.terminal import console


class Here(WorkerProcess):
    """A worker without a process of its own, which starts at once: the same questions, the same answers."""

    def __init__(self, command: Sequence[str], _: Mapping[str, str] | None = None) -> None:
        assert list(command) == list(COMMAND)
        self.opened: Opened | None = None
        self._worker, self._answer, self._ended = worker.Worker(), "", ""

    def write(self, line: str) -> None:
        if self._ended:
            raise WorkerError(self._ended)
        self._answer = worker.answer(self._worker, line)

    def line(self, timeout_s: float) -> str:  # noqa: ARG002
        return self._answer

    def close(self, reason: str = "its process was ended") -> None:
        self._ended = self._ended or reason


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No benchmark starts a process, and nobody waits to see how busy the machine is."""
    monkeypatch.setattr("gan_bench.measure.WorkerProcess", Here)
    monkeypatch.setattr("gan_bench.environment.BUSY_SAMPLE_S", 0.01)


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
