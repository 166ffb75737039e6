"""How large the project is, and how much of it a command runs through.

    python -m lab.sizes
    python -m lab.sizes --trace "gan-gen --n 1 --out g.png"

Counts the Python files of the packages as they lie in the clone. A module's importers are the other modules that name
it in an import statement, wherever that stands, and pyproject.toml where a command or an entry point is in it; a
package's `__init__` counts for itself. `--trace` runs a command in this process, and counts the files, and the
functions in them, that were called; a comprehension is no function, and from Python 3.12 on not even a frame.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from unittest import mock

import typer

from gan_core.errors import GanportError
from gan_serve.terminal import console

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "gan_core": "core", "gan_serve": "serve_cli", "gan_trainer": "trainer", "gan_export": "export",
    "gan_bench": "benchmarks", "lab": "benchmarks",
}  # fmt: skip
SHIPPED = tuple(PACKAGES)[:-1]
LONG = 350
LIMITS = (292, 60_797, LONG, 0, 66)
"""The most of the wheel, as in the table: docs/architecture.md says why."""

app = console.new_app("Count the project's files, lines and importers, and what a command runs through.")


@app.command()
def main_command(
    trace: Annotated[str, typer.Option(metavar="COMMAND", help="Run this command, and count what it calls.")] = "",
) -> None:
    """Count the project's files, lines and importers, and what a command runs through.

    \b
    Examples:
      python -m lab.sizes
      python -m lab.sizes --trace "gan-export onnx --ckpt g.pt --out g.onnx"
    """
    if trace:
        called = traced(shlex.split(trace))
        console.show(f"{len(called)} files, {sum(map(len, called.values()))} functions: {trace}")
        return
    modules = {name: files_of(name) for name in PACKAGES}
    importers = importers_of({module for found in modules.values() for module in found})
    rows = [[name, *_row(found, importers)] for name, found in modules.items()]
    wheel = {module: path for name in SHIPPED for module, path in modules[name].items()}
    rows.append(["the wheel", *_row(wheel, importers)])
    rows.append(["its limits", *map(str, LIMITS)])
    tests = sorted((ROOT / "tests").rglob("*.py"))
    rows.append(["tests", str(len(tests)), str(sum(map(_lines, tests))), "", "", ""])
    header = ["", "files", "lines", "longest", f"over {LONG}", "one importer"]
    console.show(console.table(header, rows, right=range(1, 6)))


def files_of(package: str) -> dict[str, Path]:
    """Module → file of a package."""
    folder = ROOT / PACKAGES[package]
    found = {}
    for path in sorted((folder / package).rglob("*.py")):
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        found[module.removesuffix(".__init__")] = path
    return found


def importers_of(modules: set[str]) -> dict[str, set[str]]:
    """Module → the modules that import it."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for module, path in files_of(package).items():
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
                    names = [name for name in names[:-1] if name in modules] or names[-1:]
                for name in names:
                    if name in modules and name != module:
                        found[name].add(module)
    for entry in re.findall(r'= "([\w.]+):\w+"', (ROOT / "pyproject.toml").read_text("utf-8")):
        if entry in modules:
            found[entry].add("pyproject.toml")
    return found


def traced(words: list[str]) -> dict[str, set[str]]:
    """File → the functions of ours in it that a command calls, as `words` name it, in this process.

    Raises `GanportError` for a command that is none of ganport's.
    """
    entries = {entry.name: entry for entry in metadata.entry_points(group="console_scripts") if "gan_" in entry.value}
    if not words or words[0] not in entries:
        raise GanportError(f"{' '.join(words[:1]) or 'nothing'} is no command of ganport's", hint=", ".join(entries))
    called: dict[str, set[str]] = defaultdict(set)
    folders = tuple(str(ROOT / PACKAGES[name] / name) for name in SHIPPED)

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code.co_name.endswith(("comp>", "genexpr>")):
            return
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(folders):
            called[code.co_filename].add(code.co_qualname)

    main = entries[words[0]].load()
    with mock.patch.object(console, "leave", _end), mock.patch.object(sys, "argv", words):
        sys.setprofile(note)
        try:
            main()
        except SystemExit as done:
            if done.code:
                raise
        finally:
            sys.setprofile(None)
    return called


def _end(done: SystemExit) -> None:
    """In place of what ends the process at once."""
    raise done


def _row(modules: dict[str, Path], importers: dict[str, set[str]]) -> list[str]:
    lengths = [_lines(path) for path in modules.values()]
    single = sum(len(importers[module]) == 1 for module, path in modules.items() if path.name != "__init__.py")
    numbers = (len(modules), sum(lengths), max(lengths), sum(length > LONG for length in lengths), single)
    return list(map(str, numbers))


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


if __name__ == "__main__":
    console.run(app, "lab.sizes")
