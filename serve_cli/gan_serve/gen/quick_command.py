"""A command whose usual options are read without pydantic, which a cold start would pay 60 ms for.

typer 0.29 hands every value to pydantic: its import, and an adapter for each option, take as long as loading NumPy.
Here typer still splits the arguments; plain text, whole numbers, decimals, paths and flags are then taken as they are.
Anything else (help, a mistake, an unusual number, an option with a callback or an environment variable) goes typer's
own way, which says what is wrong. Other versions of typer go their own way always.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

_READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: (r"(?s).*", str),
    int: (r"[+-]?[0-9]{1,15}", int),
    float: (r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", float),
    Path: (r"[^\0]+", Path),
}
"""What a value of a type looks like where there can be no doubt of it, and how it is read."""


class QuickCommand(TyperCommand):
    """`app.command(cls=QuickCommand)`: the same options, errors and help as typer's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values = None if ctx.resilient_parsing else self._read(ctx, list(args))
        if values is None:
            return super().parse_args(ctx, args)
        ctx.params = values
        ctx.args = []
        return []

    def _read(self, ctx: Any, args: list[str]) -> dict[str, Any] | None:
        """The values of all parameters, or None where typer should look."""
        try:
            given, rest, _ = self.make_parser(ctx).parse_args(args)
        except Exception:
            return None
        if rest:
            return None
        values = {}
        for param in self.get_params(ctx):
            text = given.get(param.name)
            if (
                text is None and param.is_eager and param.callback is not None
            ):  # --help and --version do nothing unasked
                if param.expose_value:
                    values[param.name] = param.default
                continue
            read = self._value(param, text)
            if read is None:
                return None
            values[param.name] = read[0]
        return values

    def _value(self, param: Any, text: Any) -> tuple[Any] | None:
        """(value,) of a parameter whose argument is `text` (None: not given), or None where typer should look."""
        if param.callback is not None or param.envvar or getattr(param, "count", False) or param.nargs != 1:
            return None
        if text is None:
            plain = param.default is None or isinstance(param.default, (str, int, float))
            return (param.default,) if plain and not param.required else None
        kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        if kind is bool and isinstance(text, bool):
            return (text,)
        if kind == list[str] and param.multiple and all(isinstance(each, str) for each in text):
            return (list(text),)
        if param.multiple or kind not in _READERS or not isinstance(text, str) or _has_limits(param):
            return None
        pattern, read = _READERS[kind]
        return (read(text),) if re.fullmatch(pattern, text) else None


def _has_limits(param: Any) -> bool:
    """Whether typer checks more of a value than its type: bounds, or a path that has to exist."""
    about = param.type_descriptor.parameter_info
    checks = ("min", "max", "clamp", "exists", "resolve_path", "parser", "path_type")
    return any(getattr(about, name, None) for name in checks)
