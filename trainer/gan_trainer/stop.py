"""Ctrl-C and SIGTERM as a request: the step in progress is finished and saved before the process ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While the context is open, the first signal sets `requested`; a second one raises KeyboardInterrupt at once.

    A second one within `grace_s` of the first counts for the same: a scheduler may signal torchrun and its processes
    both, and torchrun passes its own on. Outside the main thread, where Python takes no signals, it only carries the
    flag, to be set by hand.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        self.requested = False
        self._grace_s = grace_s
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and now - self._first >= self._grace_s:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._first = True, now
