"""Several processes that serve one address (`gan-serve --workers`), and the one that starts and ends them.

Each worker has sessions, a queue and limits of its own, and on Linux a socket; elsewhere all inherit one. The first
starts alone: what is wrong with a model is said once, and what it downloads or builds is there for the others.
A process is forked, so that it starts with the packages that are imported. Of onnxruntime nothing may be, by then.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection

from gan_core.errors import GanportError, JobError

_log = logging.getLogger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of prometheus-client for the folder in which processes count together."""
DEVICES = "CUDA_VISIBLE_DEVICES"
CLOSING_S = 5
"""How long a worker may take to end when its time for requests is over."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MEMORY = "/dev/shm"

Work = Callable[[bool, Callable[[], None]], int]
"""(whether it is the very first worker, what it calls when it serves) → exit code."""


def check(count: int) -> None:
    """Raises `GanportError` for several workers on Windows."""
    if count > 1 and not hasattr(os, "fork"):
        raise GanportError(
            "`workers` need a system that forks processes, which Windows does not", hint="run several gan-serve"
        )


@contextlib.contextmanager
def counting(count: int) -> Iterator[None]:
    """Within, several processes count in a temporary folder; prometheus-client must be imported within, too."""
    if count == 1:
        yield
        return
    try:
        folder = tempfile.mkdtemp(prefix="gan-serve-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    except OSError as error:
        raise GanportError(
            "`workers` count requests in a temporary folder, and there is none", hint="TMPDIR names one"
        ) from error
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def supervise(count: int, grace_s: float, work: Work) -> int:
    """Runs `work` in `count` processes until SIGTERM or Ctrl-C, and returns the exit code.

    A worker that ends is replaced. One that ends before it serves ends all, with its exit code, or a `JobError` if it
    was killed. A signal ends all when their requests are done, or `grace_s` are over; a second one kills them.
    """
    from prometheus_client.multiprocess import mark_process_dead

    signals: list[int] = []
    before = {number: signal.signal(number, lambda number, _: signals.append(number)) for number in _SIGNALS}
    serving = mmap.mmap(-1, count)  # a byte for each worker, in memory that all share
    workers: dict[int, multiprocessing.context.ForkProcess] = {}

    def start(number: int, first: bool = False) -> None:
        serving[number] = 0
        workers[number] = multiprocessing.get_context("fork").Process(
            target=_run, args=(number, os.getpid(), lambda ready: work(first, ready), serving), daemon=True
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the new process has its own handlers
        workers[number].start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    try:
        start(0, first=True)
        while not signals:
            connection.wait([worker.sentinel for worker in workers.values()], 0.1)
            for number, worker in list(workers.items()):
                if worker.exitcode is None:
                    continue
                how = f"ended with code {worker.exitcode}" if worker.exitcode >= 0 else f"was killed by {_name(worker)}"
                if not serving[number] and not signals:
                    if worker.exitcode > 0:
                        return worker.exitcode
                    raise JobError(f"a worker {how} before it served", hint="fewer `workers` need less memory")
                mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
                _log.warning("worker %d (process %d) %s; another takes its place", number + 1, worker.pid, how)
                start(number)
            if len(workers) < count and all(serving[number] for number in workers):
                for number in range(1, count):
                    start(number)
        return 0
    finally:
        _end(list(workers.values()), signals, grace_s)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(workers: list[multiprocessing.context.ForkProcess], signals: list[int], grace_s: float) -> None:
    until = time.monotonic() + grace_s + CLOSING_S
    for worker in workers:
        worker.terminate()
    while alive := [worker for worker in workers if worker.is_alive()]:
        if len(signals) > 1 or time.monotonic() > until:
            for worker in alive:
                worker.kill()
        connection.wait([worker.sentinel for worker in alive], 0.1)


def _run(number: int, parent: int, work: Callable[[Callable[[], None]], int], serving: mmap.mmap) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    devices = os.environ.get(DEVICES, "").split(",")
    if len(devices) > 1:
        os.environ[DEVICES] = devices[number % len(devices)]

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    def ready() -> None:
        serving[number] = 1

    threading.Thread(target=end_with_parent, daemon=True).start()
    code = work(ready)
    if os.getppid() != parent:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)  # which nobody else does then
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that still generate are not waited for


def _name(worker: multiprocessing.context.ForkProcess) -> str:
    number = -(worker.exitcode or 0)
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
