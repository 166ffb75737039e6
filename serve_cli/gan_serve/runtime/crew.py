"""A crew of threads that stays: parts of one job done side by side, with nothing to start up each time.

`ahead.in_order` is for long streams; this is for one batch that is worth a few milliseconds.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from gan_serve.runtime.ahead import Job

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """`threads` at work at most: the caller's own and `threads - 1` helpers, begun when first needed.

    May be used from several threads at once. The helpers end with the object.
    """

    def __init__(self, threads: int) -> None:
        self._helpers = threads - 1
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = False

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work(item)` of every item, in order. The first exception by order of items is raised; after any, no more
        items are begun.
        """
        jobs = [Job[T, R](item) for item in items]
        waiting = deque(jobs)
        failed = False

        def take() -> None:
            nonlocal failed
            while not failed:
                try:
                    job = waiting.popleft()
                except IndexError:
                    return
                if not job.do(work):
                    failed = True

        calls = min(self._helpers, len(jobs) - 1)
        if calls > 0:
            self._start()
        for _ in range(calls):
            self._queue.put(take)
        take()
        begun = len(jobs) - len(waiting)
        return [job.wait() for job in jobs[:begun]]

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
        for _ in range(self._helpers):
            threading.Thread(target=_help, args=(self._queue,), daemon=True).start()
        weakref.finalize(self, _end, self._queue, self._helpers)


def _help(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (take := queue.get()) is not None:
        take()
        del take  # it holds the batch


def _end(queue: SimpleQueue[Callable[[], None] | None], helpers: int) -> None:
    for _ in range(helpers):
        queue.put(None)
