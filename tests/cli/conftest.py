"""What the tests of the commands share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from gan_export import cli
from gan_serve import console

Run = Callable[..., tuple[int, str, str]]


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read and write everywhere, so that a test as root has to be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs gan-export in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(cli.app, cli.NAME, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return call
