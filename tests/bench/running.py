"""Running a command of gan_bench in this process."""

from __future__ import annotations

import pytest
import typer

from gan_serve import console


def run(app: typer.Typer, *arguments: object) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended_with:
        console.run(app, "python -m gan_bench.…", [str(argument) for argument in arguments])
    assert isinstance(ended_with.value.code, int)
    return ended_with.value.code
