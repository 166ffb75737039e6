"""Messages between a benchmark and the processes that it starts: frozen dataclasses, each a line of JSON on a pipe.

`write` and `read` are the one place where they become text and are checked again. The types of the fields are those of
the annotations: numbers, texts, paths, other dataclasses, tuples of them, or None. Nothing heavy is imported here: a
process that is measured imports it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any, Literal, TextIO, Union, get_args, get_origin, get_type_hints

_SHOWN = 60


class MessageError(ValueError):
    """A line that is none of the messages expected: which field, what was found, what was expected."""


def write(message: Any) -> str:
    """The message as one line, {"Kind": {its fields}}. Raises `MessageError` for a field that no message can hold."""
    return json.dumps({type(message).__name__: message}, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    raise MessageError(f"a {type(value).__name__} fits no message: {str(value)[:_SHOWN]!r}")


def read(line: str, *kinds: type[Any]) -> Any:
    """The message of one of `kinds` that `line` holds. Raises `MessageError` for anything else."""
    try:
        found = json.loads(line)
    except ValueError:
        raise MessageError(f"expected a message, got something that is not JSON: {line.strip()[:_SHOWN]!r}") from None
    known = {kind.__name__: kind for kind in kinds}
    if not isinstance(found, dict) or len(found) != 1 or not found.keys() <= known.keys():
        raise MessageError(f"expected {' or '.join(known)}, got {line.strip()[:_SHOWN]!r}")
    [(name, fields)] = found.items()
    return _typed(fields, known[name], name)


def _typed(value: Any, wanted: Any, where: str) -> Any:
    """`value` as JSON's reader gave it, as the type of a field."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        return _dataclass(value, wanted, where)
    if origin in (Union, types.UnionType):
        [other] = (kind for kind in inside if kind is not types.NoneType)
        return None if value is None else _typed(value, other, where)
    if origin is tuple and isinstance(value, list) and (inside[-1] is ... or len(value) == len(inside)):
        if inside[0] in (int, str) and {inside[0]}.issuperset(map(type, value)):
            return tuple(value)  # thousands of latencies
        each_kind = (inside[0],) * len(value) if inside[-1] is ... else inside
        return tuple(_typed(each, kind, where) for each, kind in zip(value, each_kind, strict=True))
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is Any or (value in inside if origin is Literal else type(value) is (origin or wanted)):
        return value
    raise MessageError(f"{where} is {str(value)[:_SHOWN]!r}, expected {getattr(wanted, '__name__', wanted)}")


def _dataclass(values: dict[str, Any], wanted: Any, where: str) -> Any:
    hints, fields = _hints(wanted), dataclasses.fields(wanted)
    for field in fields:
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise MessageError(f"{where} lacks {field.name}")
    for name in values:
        if name not in {field.name for field in fields}:
            raise MessageError(f"{where} has no {name}")
    return wanted(**{name: _typed(value, hints[name], f"{where}.{name}") for name, value in values.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def private_stdout() -> TextIO:
    """The real stdout for messages alone; what libraries print, to descriptor 1 even, goes to stderr from here on."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return messages


def die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even by SIGKILL (prctl PR_SET_PDEATHSIG).

    Elsewhere the end of its stdin or stdout does it, after what it is at.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
