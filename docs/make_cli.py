"""Writes docs/cli.md from the commands' own --help. `make docs` runs it; a test compares.

python docs/make_cli.py            write docs/cli.md
python docs/make_cli.py --print    print it instead
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from gan_serve.terminal import console

COMMANDS = {
    "gan-train": "gan_trainer.cli",
    "gan-export": "gan_export.cli",
    "gan-gen": "gan_serve.gen.cli",
    "gan-bench": "gan_bench.cli",
    "gan-serve": "gan_serve.server.cli",
}
WIDTH = 100
HEAD = """# The commands

This page has the `--help` of each command. `make docs` writes it, and a test checks it. Every command prints data on
stdout and everything else on stderr, and exits with 0 (done), 1 (a proof or job failed), 2 (wrong input) or 130
(interrupted). With `--json`, an error is JSON on stdout, too: an object of `error`, `hint` and `code`.

Tables fit the terminal, or the width in the variable COLUMNS. In a pipe they have their full width. NO_COLOR switches
the colours off, FORCE_COLOR on. `gan-gen`, `gan-export`, `gan-train`, `gan-bench` and `gan-serve` are
`python -m gan_serve`, `gan_export`, `gan_trainer`, `gan_bench` and `gan_serve.server`, too. `--install-completion` adds
completion to your shell.
"""


def help_text(app: typer.Typer, words: Sequence[str]) -> str:
    """What `WORDS --help` prints on a terminal of WIDTH columns."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        console.run(app, words[0], [*words[1:], "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def pages(app: typer.Typer, words: Sequence[str], command: Any) -> list[str]:
    """The command's page, then one for each subcommand."""
    parts = [f"{'#' * (len(words) + 1)} {' '.join(words)}\n\n```text\n{help_text(app, words)}\n```\n"]
    for name, subcommand in getattr(command, "commands", {}).items():
        if not subcommand.hidden:
            parts += pages(app, [*words, name], subcommand)
    return parts


def render() -> str:
    """The whole of docs/cli.md."""
    os.environ.update(COLUMNS=str(WIDTH), NO_COLOR="1")
    parts = [HEAD]
    for name, module in COMMANDS.items():
        app = importlib.import_module(module).app
        parts += pages(app, [name], typer.main.get_command(app))
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(render())
    else:
        Path(__file__).with_name("cli.md").write_text(render(), encoding="utf-8")
