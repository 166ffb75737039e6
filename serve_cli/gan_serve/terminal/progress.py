"""A progress bar for what turns out to take long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from gan_serve.terminal import console

PATIENCE_S = 2.0


class Progress:
    """A context manager with `update(n)`: shows a bar on stderr after two seconds, on a terminal only."""

    def __init__(self, length: int, label: str) -> None:
        self._length, self._label = length, label
        self._done = 0
        self._bar: Any = None
        self._shows_at = time.monotonic() + PATIENCE_S

    def __enter__(self) -> Progress:
        return self

    def update(self, n: int) -> None:
        """`n` more are done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() >= self._shows_at and sys.stderr.isatty():
            self._bar = console.progress(self._length, self._label).__enter__()
            self._bar.update(self._done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)
