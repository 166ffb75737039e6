"""The second signal ends at once; in a distributed job, only when it is not the echo of the first."""

from __future__ import annotations

import os
import signal

import pytest

from gan_trainer import stop
from gan_trainer.stop import StopRequest


def test_a_second_signal_interrupts() -> None:
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stop.time, "monotonic", lambda: now)
    with StopRequest(grace_s=5) as request:
        os.kill(os.getpid(), signal.SIGTERM)
        now = 104.0
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested
        now = 105.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
