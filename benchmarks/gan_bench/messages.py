"""Messages between a benchmark and the processes that it starts: frozen dataclasses, each pickled, a line on a pipe.

Both ends are ours and of the same installation, so pickle is enough. Nothing heavy is imported here: a process that is
measured imports it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import signal
import sys
from typing import Any, TextIO

_SHOWN = 60


class MessageError(ValueError):
    """A line that is none of the messages expected: what was found, what was expected."""


def write(message: object) -> str:
    """The message as one line."""
    return base64.b64encode(pickle.dumps(message)).decode() + "\n"


def read(line: str, *kinds: type[Any]) -> Any:
    """The message of one of `kinds` that `line` holds. Raises `MessageError` for anything else."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        found = pickle.loads(base64.b64decode(line.rstrip("\n"), validate=True))
    except Exception as error:  # of pickle, and of what it makes
        raise MessageError(f"expected {expected}, got something else: {line.strip()[:_SHOWN]!r}") from error
    if not isinstance(found, kinds):
        raise MessageError(f"expected {expected}, got {type(found).__name__}")
    return found


def private_stdout() -> TextIO:
    """The real stdout for messages alone; what libraries print, to descriptor 1 even, goes to stderr from here on."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return messages


def die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even by SIGKILL (prctl PR_SET_PDEATHSIG).

    Elsewhere the end of its stdin or stdout does it, after what it is at.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
