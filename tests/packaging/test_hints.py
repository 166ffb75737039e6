"""Every error of ours says what to do next."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core/gan_core", "serve_cli/gan_serve", "trainer/gan_trainer", "export/gan_export", "benchmarks")
OWN_HINT = {"BusyError", "DamagedError", "MissingPackageError", "UndecidedError"}
"""These make their hint themselves."""


Nodes = list[ast.AST]


def nodes_of(code: str) -> Nodes:
    """The classes, calls and raised errors of a module."""
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.ClassDef, ast.Call, ast.Raise))]


def modules() -> dict[str, Nodes]:
    """Those that name an error."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text("utf-8")
            if "Error" in text:
                found[str(path.relative_to(ROOT))] = nodes_of(text)
    return found


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def error_classes(nodes: Nodes) -> set[str]:
    """GanportError and all that inherit from it."""
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    found = {"GanportError"}
    while more := {c.name for c in classes if {name_of(base) for base in c.bases} & found} - found:
        found |= more
    return found


def says_nothing(hint: ast.expr) -> bool:
    """Whether a hint is empty, or empty in one of its branches."""
    if isinstance(hint, ast.IfExp):
        return says_nothing(hint.body) or says_nothing(hint.orelse)
    return isinstance(hint, ast.Constant) and not (isinstance(hint.value, str) and hint.value.strip())


def without_hint(nodes: Nodes, classes: set[str]) -> list[int]:
    """The lines where an error is made or raised without a hint."""
    lines = []
    for node in nodes:
        if isinstance(node, ast.Raise) and node.exc is not None and name_of(node.exc) in classes:
            lines.append(node.lineno)
        if not isinstance(node, ast.Call) or name_of(node.func) not in classes - OWN_HINT:
            continue
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            continue  # a message and a hint that another process sent
        hints = [word.value for word in node.keywords if word.arg == "hint"] + node.args[1:2]
        if not hints or says_nothing(hints[0]):
            lines.append(node.lineno)
    return lines


@pytest.mark.slow
def test_no_error_is_raised_without_a_hint() -> None:
    found = modules()
    classes = error_classes([node for nodes in found.values() for node in nodes])
    assert {"ContractError", "JobError", "ProofError", "MissingPackageError", "SpecError"} <= classes
    lacking = [f"{file}:{line}" for file, nodes in found.items() for line in without_hint(nodes, classes)]
    assert lacking == [], "say what to do next: GanportError(message, hint=…)"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("raise GanportError('a', hint='b')", []),
        ("raise errors.GanportError('a', 'b')", []),
        ("raise MissingPackageError('a', 'b', 'c')", []),
        ("raise Other('a')", []),
        ("raise GanportError('a')", [1]),
        ("raise GanportError", [1]),
        ("x = 1\nraise GanportError('a', hint='')", [2]),
        ("raise Kind('a', hint='b' if x else ' ')", [1]),
        ("def check(): return GanportError(f'{x}')", [1]),
    ],
)
def test_what_counts_as_a_hint(code: str, lines: list[int]) -> None:
    classes = error_classes(nodes_of("class Kind(GanportError): ...\nclass MissingPackageError(Kind): ..."))
    assert without_hint(nodes_of(code), classes) == lines
