"""The parent's end of a benchmark's processes: their messages, with a time limit, and no orphans."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

from gan_bench import questions
from gan_bench.questions import Failed, Opened, Question, Refused
from gan_core.errors import GanportError

A = TypeVar("A")

COMMAND = (sys.executable, "-P", "-m", "gan_bench.worker")
"""-P: a file in the user's folder that is named like a module of ours or theirs is not imported."""


def variables(threads: int) -> dict[str, str]:
    """The environment that gives every library that multiplies matrices the same number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


class WorkerError(Exception):
    """A process failed at its work, died, or did not answer in time. The text is the reason."""


class Process:
    """One process whose stdout is lines; a context manager that leaves none behind, its own children included.

    It is in a session of its own: Ctrl-C at the terminal reaches the parent alone, which then ends it.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """`variables` are set in its environment beside this process's."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, encoding="utf-8",
            start_new_session=True, env=os.environ | dict(variables or {}),
        )  # fmt: skip
        self._ended = ""
        """Why it is closed; empty while it is not."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, line: str) -> None:
        """Sends a line to its stdin. Raises `WorkerError` when it is gone."""
        if self._ended:
            raise WorkerError(self._ended)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._death()) from None

    def line(self, timeout_s: float) -> str:
        """The next line. Raises `TimeoutError` after so many seconds without one, `WorkerError` when it has ended."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise WorkerError(self._death())
        return line

    def forget(self) -> None:
        """Drops the lines that have come and were not asked for."""
        while not self._lines.empty():
            if not self._lines.get():
                self._lines.put("")  # that it has ended is not forgotten
                return

    def signal(self, number: signal.Signals, *, alone: bool = False) -> None:
        """Sends a signal to it and its children, or to it alone."""
        with contextlib.suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.pid, number)

    def close(self, reason: str = "its process was ended") -> None:
        """Kills it and its children, waits for it, and closes the pipes. May be called again.

        `reason` is what the `WorkerError` of whoever still needs it says.
        """
        if self._ended:
            return
        self._ended = reason
        if hasattr(os, "killpg"):
            self.signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed, or bytes that are not UTF-8
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def _death(self) -> str:
        """How it ended, with the last line that it wrote to stderr."""
        if self._ended:
            return self._ended
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        if code is None:
            reason = "its process closed the connection"
        elif code < 0:
            reason = f"its process was killed by {_signal_name(-code)}"
        else:
            reason = f"its process ended with exit code {code}" + (f": {lines[-1]}" if lines else "")
        self.close(reason)
        return reason


class WorkerProcess(Process):
    """A `gan_bench.worker`, which answers questions one by one. `opened`: its answer to `Open`."""

    def __init__(self, command: Sequence[str] = COMMAND, variables: Mapping[str, str] | None = None) -> None:
        super().__init__(command, variables)
        self.opened: Opened | None = None

    def ask(self, question: Question[A], timeout_s: float) -> A:
        """Sends a question and waits for its answer.

        Raises `GanportError` when the worker refuses the input, `WorkerError` when it fails, dies, answers something
        else, or has not answered after `timeout_s` seconds (in the last two cases it is killed).
        """
        name = type(question).__name__
        self.write(questions.write(question))
        try:
            answer: Any = questions.read(self.line(timeout_s), question.answer(), Refused, Failed)
        except TimeoutError:
            self.close(f"no answer to {name} within {timeout_s:g} s")
            raise WorkerError(self._ended) from None
        except questions.MessageError as error:
            self.close(f"{name}: {error}")
            raise WorkerError(self._ended) from None
        if isinstance(answer, Refused):
            raise GanportError(answer.message, hint=answer.hint)
        if isinstance(answer, Failed):
            raise WorkerError(answer.message)
        made: A = answer
        return made


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
