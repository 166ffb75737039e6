"""The parent's end of a row's process: requests with a time limit, and no orphans."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gan_core.errors import GanportError

Json = dict[str, Any]

COMMAND = (sys.executable, "-P", "-m", "gan_bench.measuring.worker")
"""-P: a file in the user's folder that is named like a module of ours or theirs is not imported."""


def variables(threads: int) -> dict[str, str]:
    """The environment that gives every library that multiplies matrices the same number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


class WorkerError(Exception):
    """A row's process failed at its work, died, or did not answer in time. The text is the row's reason."""


class WorkerProcess:
    """One worker; a context manager that leaves no process behind."""

    def __init__(self, command: Sequence[str] = COMMAND, variables: Mapping[str, str] | None = None) -> None:
        """`variables` are set in its environment beside this process's."""
        self.peak_rss_bytes: int | None = None
        self.opened: Json = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        # A session of its own: Ctrl-C at the terminal reaches the parent alone, which then ends its workers.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, encoding="utf-8",
            start_new_session=True, env=os.environ | dict(variables or {}),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, operation: str, timeout_s: float, **arguments: Any) -> Json:
        """Sends one request and waits for its answer.

        Raises `GanportError` when the worker refuses the input, `WorkerError` when it fails, dies, or has not
        answered after `timeout_s` seconds (then it is killed).
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._death()) from None
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer to {operation!r} within {timeout_s:g} s") from None
        if not line:
            raise WorkerError(self._death())
        try:
            reply: Json = json.loads(line)
        except ValueError:
            self.close()
            raise WorkerError(f"answered {operation!r} with something that is not JSON") from None
        if "refused" in reply:
            raise GanportError(reply["refused"]["message"], hint=reply["refused"]["hint"])
        if "failed" in reply:
            raise WorkerError(reply["failed"]["message"])
        result: Json = reply["ok"]
        self.peak_rss_bytes = result.pop("peak_rss_bytes", None)
        return result

    def close(self) -> None:
        """Kills the process, waits for it, and closes the pipes. May be called again."""
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
                self._answers.put(line)
        self._answers.put("")

    def _death(self) -> str:
        """How the process ended, with the last line it wrote to stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        if code is None:
            return "its process closed the connection"
        if code < 0:
            return f"its process was killed by {_signal_name(-code)}"
        return f"its process ended with exit code {code}" + (f": {lines[-1]}" if lines else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
