"""Values from a file, typed and bounded: one reader for each kind of field of the contract.

A reader takes what JSON gave and returns it as Python's own type, or raises `ValueError` that says what was found and
what was expected. `read_json` bounds the text itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_JSON = 16 << 20
"""The most characters of one value's text: a golden set of large images takes some 100,000."""
MAX_DEPTH = 64
_SHOWN = 60

Read = Callable[[Any], Any]


def read_json(text: str) -> Any:
    """The value of `text`. Raises `ValueError` where it is no JSON, or more than any file of ours says."""
    if len(text) > MAX_JSON:
        raise ValueError(f"{len(text):,} characters long, expected at most {MAX_JSON:,}")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError("not JSON") from error
    _check(value)
    return value


def whole(low: int, high: int) -> Read:
    """A whole number from `low` to `high`."""

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{show(value)}, expected a whole number from {low} to {high}")
        return value

    return read


def number(value: Any) -> float:
    """A finite number, of float32's range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 3e38:
        raise ValueError(f"{show(value)}, expected a number")
    return float(value)


def text(most: int) -> Read:
    """A text of at most `most` characters."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"{show(value)}, expected a text of at most {most} characters")
        return value

    return read


def one_of(choices: Sequence[str]) -> Read:
    """One of a few words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{show(value)}, expected one of {', '.join(choices)}")
        return value

    return read


def maybe(inner: Read) -> Read:
    """null, or what `inner` reads."""
    return lambda value: None if value is None else inner(value)


def anything(value: Any) -> Any:
    """Any JSON value."""
    return value


def list_of(inner: Read, most: int, least: int = 0) -> Read:
    """A list of `least` to `most` values, as a tuple."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            count = str(most) if least == most else f"{least} to {most}"
            raise ValueError(f"{show(value)}, expected a list of {count} values")
        return tuple(inner(each) for each in value)

    return read


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object, whatever is in it."""
    if not isinstance(value, dict):
        raise ValueError(f"{show(value)}, expected a JSON object")
    return value


def known(fields: Mapping[str, Read]) -> Read:
    """A JSON object whose keys of these names are so, where they are there; whatever else is in it stays."""

    def read(value: Any) -> dict[str, Any]:
        found = json_object(value)
        present = {key: inner for key, inner in fields.items() if key in found}
        return {**found, **record(present)(found)}

    return read


def record(fields: Mapping[str, Read]) -> Read:
    """A JSON object with at least these keys; others are for a later version, and left out."""

    def read(value: Any) -> dict[str, Any]:
        found = json_object(value)
        made = {}
        for key, inner in fields.items():
            if key not in found:
                raise ValueError(f"without {key}")
            try:
                made[key] = inner(found[key])
            except ValueError as error:
                raise ValueError(f"{key} is {error}") from None
        return made

    return read


def show(value: Any) -> str:
    """A value for an error's line, short and without control characters."""
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} values"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    shown = ascii(value[: _SHOWN + 1]) if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _check(value: Any) -> None:
    """Nesting, infinite numbers and texts that are no Unicode, all of which JSON's reader lets through."""
    pending = [(value, 1)]
    while pending:
        each, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(each, dict):
            pending += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, list):
            pending += [(part, depth + 1) for part in each]
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValueError("a number beyond what a float holds")
        elif isinstance(each, str) and not each.isascii():
            try:
                each.encode()
            except UnicodeEncodeError:
                raise ValueError("text that is no Unicode") from None
