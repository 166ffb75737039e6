"""The code that a document shows, block by block, and its commands, run in this process."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from gan_serve.terminal import console

APPS = {
    "gan-train": "gan_trainer.cli",
    "gan-export": "gan_export.cli",
    "gan-gen": "gan_serve.gen.cli",
    "gan-bench": "gan_bench.cli",
}


class Block(NamedTuple):
    """`section` is the heading above it, `line` the first line of `code`, from 0."""

    section: str
    language: str
    line: int
    code: str


def blocks(page: Path) -> list[Block]:
    """What stands between lines of three backticks, where the first names a language."""
    text = page.read_text("utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        Block(
            (re.findall(r"^##+ (.*)", text[: match.start()], re.MULTILINE) or [""])[-1],
            match[1],
            text[: match.start(2)].count("\n"),
            match[2],
        )
        for match in found
    ]


def commands(code: str) -> list[str]:
    """The lines of a block of sh, without comments."""
    lines = (shlex.join(shlex.split(line, comments=True)) for line in code.splitlines())
    return [line for line in lines if line]


def execute(command: str) -> int:
    """Runs one of ganport's commands, or `python FILE`, in this process; returns the exit code."""
    name, *words = shlex.split(command)
    if name == "python":
        runpy.run_path(words[0], run_name="__main__")
        return 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [name, *words])
        with pytest.raises(SystemExit) as done:
            console.run(importlib.import_module(APPS[name]).app, name, words)
    return int(str(done.value.code or 0))


def shrink_evaluation(patch: pytest.MonkeyPatch) -> None:
    """Trains the classifier of `gan-train eval` for a moment."""
    for name, small in (("classifier.EPOCHS", (1, 1)), ("classifier.LEAST_STEPS", 10), ("sliced.PATCHES", 1024)):
        patch.setattr(f"gan_trainer.evaluation.{name}", small)
