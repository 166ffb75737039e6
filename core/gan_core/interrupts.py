"""Ctrl-C, SIGTERM and SIGHUP while a command works: everything is taken down in order, and the command ends by it.

Libraries in C++ may turn the KeyboardInterrupt that Python raises into an error of their own, or lose it. Whether a
signal came is therefore also remembered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_received: list[int] = []


@contextlib.contextmanager
def handled(*, ending: bool = True) -> Iterator[None]:
    """Within, the first of the signals raises KeyboardInterrupt; at the end the process dies of SIGTERM and SIGHUP.

    `ending` False leaves those two as they are. A signal that is ignored (nohup, a shell's background job) or that
    somebody else handles stays so. Outside the main thread, where Python takes no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(_ENDING if ending else (), signal.SIG_DFL)
    before: dict[int, Any] = {}
    _received.clear()
    try:
        for number, handler in usual.items():
            if signal.getsignal(number) == handler:
                before[number] = signal.signal(number, _receive)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if fatal := by_signal():
            _received.clear()
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os.kill(os.getpid(), fatal)


def by_signal() -> int:
    """The number of the signal, SIGTERM or SIGHUP, that the command ends by; 0 for none."""
    return next((number for number in _received if number in _ENDING), 0)


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` (None: no error so far) comes of a signal, or came after one."""
    return bool(_received) or any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within, code of others is called: whatever it makes of a KeyboardInterrupt, at the end it is one again."""
    try:
        yield
    except Exception as error:
        if is_interruption(error):
            raise KeyboardInterrupt from error
        raise
    if _received:
        raise KeyboardInterrupt


def causes(error: BaseException | None) -> list[BaseException]:
    """`error`, what it was raised from or in the handling of, and so on."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _receive(number: int, _frame: FrameType | None) -> None:
    first = not _received
    _received.append(number)
    if first or number == signal.SIGINT:  # a second SIGTERM or SIGHUP must not break the taking down
        raise KeyboardInterrupt
