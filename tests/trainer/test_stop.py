"""The second signal ends at once; in a distributed job, only when it is not the echo of the first, and an error is told
in spite of it.
"""

from __future__ import annotations

import os
import signal

import pytest

from gan_trainer.loop import StopRequest


def test_a_second_signal_interrupts() -> None:
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_an_ignored_signal_stays_ignored(name: str) -> None:
    """SIGHUP is under nohup, SIGINT in the background of a script."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as request:
            os.kill(os.getpid(), number)
            assert not request.requested
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gan_trainer.loop.time.monotonic", lambda: now)
    with StopRequest(job=True) as request:
        os.kill(os.getpid(), signal.SIGTERM)
        now = 104.0
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested
        now = 105.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("job", "after"), [(True, signal.SIG_IGN), (False, signal.SIG_DFL)])
def test_an_error_of_a_job_is_told_in_spite_of_torchruns_signal(job: bool, after: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(RuntimeError), StopRequest(job=job):
            raise RuntimeError("connection reset by peer")
        assert signal.getsignal(signal.SIGTERM) == after
        assert signal.getsignal(signal.SIGINT) == interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_that_ends_well_takes_signals_again() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(job=True):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
