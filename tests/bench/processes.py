"""Processes as /proc shows them, for tests that look for orphans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def children(parent: int | None = None) -> list[int]:
    """The process ids of living children (zombies not counted) of `parent`, or of this process."""
    parent = os.getpid() if parent is None else parent
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        state, above = _state(int(folder.name))
        if above == parent and state != "Z":
            found.append(int(folder.name))
    return found


def ended(pid: int) -> bool:
    """Whether a process is gone or a zombie."""
    return _state(pid)[0] in ("", "Z")


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Waits for `condition`; fails the test when it does not come."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def _state(pid: int) -> tuple[str, int]:
    """(state letter, parent's id), or ("", 0) for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[1])
