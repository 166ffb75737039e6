"""What the tests of gan-export share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gan_export import cli
from gan_serve import console

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs gan-export in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(cli.app, cli.NAME, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return call
