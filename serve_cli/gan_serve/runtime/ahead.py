"""Work done ahead in threads, its results taken in order: what draws and what writes run beside each other.

Threads and not processes, because what is done here (onnxruntime, zlib, the system's calls) lets go of Python's lock.
Not concurrent.futures, whose import a cold start would pay for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[T, R]):
    """One item on its way through a thread: one thread calls `do`, another `wait`."""

    def __init__(self, item: T) -> None:
        self._item = item
        self._result: R | None = None
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def do(self, work: Callable[[T], R]) -> bool:
        """Whether `work` went well; what it raised is kept for `wait`."""
        try:
            self._result = work(self._item)
        except BaseException as error:  # the consumer's to raise
            self._error = error
        self._done.release()
        return self._error is None

    def wait(self) -> R:
        """The result, once there is one; raises what `work` raised. To be called once."""
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """`work(item)` of every item, in order, in up to `threads` threads.

    At most `threads + 1` items are taken ahead of the result that is yielded, by the thread that iterates: memory stays
    flat in their number. An exception of `work` is raised in its place; then, and when the iterator is closed, no more
    work is begun, and what is under way is waited for.
    """
    if threads == 1:
        yield from map(work, items)
        return
    jobs: SimpleQueue[Job[T, R] | None] = SimpleQueue()
    pending: deque[Job[T, R]] = deque()
    crew: list[threading.Thread] = []
    stopped = False

    def serve() -> None:
        while (job := jobs.get()) is not None:
            if not stopped:
                job.do(work)

    try:
        for item in items:
            if len(crew) < threads:
                crew.append(threading.Thread(target=serve, daemon=True))
                crew[-1].start()
            pending.append(Job(item))
            jobs.put(pending[-1])
            if len(pending) > threads + 1:
                yield pending.popleft().wait()
        while pending:
            yield pending.popleft().wait()
    finally:
        stopped = True
        for _ in crew:
            jobs.put(None)
        for thread in crew:
            thread.join()
