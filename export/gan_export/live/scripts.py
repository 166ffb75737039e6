"""The definitions of a script or notebook: what its network needs, without the training around it.

These run: imports, classes, functions, and assignments of plain values: numbers, what is computed from them, and the
options of a command, with their defaults. Loops, other calls and what stands under `__name__ == "__main__"` do not.

It does not know: a network that needs what was left out. It fails, with a NameError, where it is built.
"""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from gan_export.reading.authors_words import name_of

log = logging.getLogger(__name__)

PLAIN = frozenset({
    "ArgumentParser", "Namespace", "SimpleNamespace", "parse_args", "parse_known_args", "bool", "ceil", "device",
    "dict", "float", "floor", "getenv", "int", "is_available", "join", "len", "list", "log", "log2", "max", "min",
    "namedtuple", "partial", "prod", "range", "round", "set", "sorted", "sqrt", "str", "sum", "tuple",
})  # fmt: skip
"""Calls whose value a definition may need; any other may load data or train."""
SETTING = frozenset({"add_argument", "append", "filterwarnings", "insert", "set_defaults"})
"""Calls that are statements and prepare what definitions need: options, sys.path."""
PARSING = frozenset({"parse_args", "parse_known_args"})


def is_script(tree: ast.Module) -> bool:
    """Whether importing a file of this code would train, or read the options of gan-export's command."""
    outside = [one for one in tree.body if not isinstance(one, (ast.ClassDef, ast.FunctionDef)) and not _is_main(one)]
    calls = [call for one in outside for call in ast.walk(one) if isinstance(call, ast.Call)]
    return any(isinstance(one, (ast.For, ast.While)) for one in outside) or any(
        name_of(call) in PARSING for call in calls
    )


def run_definitions(module: ModuleType, trees: Iterable[ast.Module], path: Path, name: str) -> None:
    """Runs the definitions in `trees`, the code of `path`, in `module`. What fails is left out, but for the class or
    function `name`, whose error is raised. Packages that are not installed are logged."""
    before, sys.argv = sys.argv, [str(path)]
    try:
        for statement in (one for tree in trees for one in _definitions(tree.body)):
            compiled = compile(ast.Module([statement], []), str(path), "exec")
            try:
                exec(compiled, vars(module))
            except ImportError as error:
                log.info(f"{path.name}: {error}; it goes on without")
            except (Exception, SystemExit):
                if getattr(statement, "name", None) == name:
                    raise
    finally:
        sys.argv = before


def _definitions(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for one in statements:
        match one:
            case ast.Import() | ast.ImportFrom() | ast.ClassDef() | ast.FunctionDef():
                yield one
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value) if _is_plain(value):
                yield one
            case ast.Expr(value=ast.Call() as call) if name_of(call) in SETTING and all(map(_is_plain, call.args)):
                yield one
            case ast.If(test=test) if not _is_main(one) and _is_plain(test):
                body, orelse = list(_definitions(one.body)), list(_definitions(one.orelse))
                yield ast.copy_location(ast.If(test, body or [ast.copy_location(ast.Pass(), one)], orelse), one)
            case ast.Try() if all(isinstance(each, (ast.Import, ast.ImportFrom, ast.Assign)) for each in one.body):
                yield one


def _is_plain(value: ast.expr) -> bool:
    """Whether all that it calls is in `PLAIN`."""
    return all(name_of(call) in PLAIN for call in ast.walk(value) if isinstance(call, ast.Call))


def _is_main(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == …`."""
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
