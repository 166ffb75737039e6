"""Writes docs/cli.md from the commands' own --help. `make docs` runs it; a test compares.

python docs/make_cli.py            write docs/cli.md
python docs/make_cli.py --print    print it instead
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import typer

COMMANDS = {
    "gan-train": "gan_trainer.cli",
    "gan-export": "gan_export.cli",
    "gan-gen": "gan_serve.gen.cli",
    "gan-bench": "gan_bench.cli",
}
WIDTH = 100
HEAD = """# The commands

Written by `make docs` from each command's `--help`; a test keeps it true. Every command takes `--debug`
(show the traceback of an error), prints data on stdout and everything else on stderr, and exits with
0 (done), 1 (a proof or job failed), 2 (wrong input) or 130 (interrupted). Tables are as wide as the terminal, or as the
variable COLUMNS says, and whole in a pipe; NO_COLOR and FORCE_COLOR take the colours away or force them.
"""


def help_text(command: Any, name: str) -> str:
    """`name --help`, as it prints on a terminal of WIDTH columns."""
    context = command.make_context(name, [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH)
    text: str = command.get_help(context)
    return "\n".join(line.rstrip() for line in text.splitlines())


def pages(command: Any, name: str, level: int = 2) -> list[str]:
    """The command's page, then one for each subcommand."""
    parts = [f"{'#' * level} {name}\n\n```text\n{help_text(command, name)}\n```\n"]
    for subname, subcommand in getattr(command, "commands", {}).items():
        if not subcommand.hidden:
            parts += pages(subcommand, f"{name} {subname}", level + 1)
    return parts


def render() -> str:
    """The whole of docs/cli.md."""
    parts = [HEAD]
    for name, module in COMMANDS.items():
        parts += pages(typer.main.get_command(importlib.import_module(module).app), name)
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(render())
    else:
        Path(__file__).with_name("cli.md").write_text(render(), encoding="utf-8")
