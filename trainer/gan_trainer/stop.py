"""Ctrl-C, SIGTERM and SIGHUP as a request: the step in progress is finished and saved before the process ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

GRACE_S = 5.0
"""In a job of several processes, further signals within this time count for the first."""


class StopRequest:
    """While the context is open, the first signal sets `requested`; a second one raises KeyboardInterrupt at once.

    `job`: one of several processes. A second signal soon after the first counts for the same: a scheduler may signal
    torchrun and its processes both, and torchrun passes its own on. And when an error leaves the context, SIGTERM is
    ignored from there on: torchrun sends it as soon as another process has ended, and would silence what this one is
    about to say of it.

    A signal that is ignored stays so: SIGHUP under nohup. Outside the main thread, where Python takes no signals, it
    only carries the flag, to be set by hand.
    """

    def __init__(self, *, job: bool = False) -> None:
        self.requested = False
        self._job = job
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            silencing = self._job and isinstance(error, Exception) and number == signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if silencing else handler)
        self._before.clear()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and not (self._job and now - self._first < GRACE_S):
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._first = True, now
