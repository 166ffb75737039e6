"""What a field of a layer or of a spec may hold: its type and its range, checked once, where the value comes in.

A field's annotation says it: `Sides = Annotated[int, Range(1, MAX_SIDE)]`. Whole numbers are `int`, never `bool` and
never 2.0; numbers are finite; a text is one of a `Literal`'s. No torch here.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from gan_core.errors import GanportError

MAX_FEATURES = 1 << 24
"""Numbers of a vector, channels of an image: the largest MLPs end in 3 x 1024 x 1024."""
MAX_SIDE = 1 << 14
MAX_CLASSES = 1 << 20
MAX_NAME = 200
MAX_SHOWN = 60
MAX_LISTED = 8

Shape = tuple[int, ...]


class SpecError(GanportError):
    """A `GeneratorSpec` that describes no network: the message names the layer and what does not fit."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint or "edit the spec's layers: each takes what the one before it makes")


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a number, or the least and the greatest length of a tuple or a text."""

    least: float
    most: float


Features = Annotated[int, Range(1, MAX_FEATURES)]
Side = Annotated[int, Range(1, MAX_SIDE)]
Padding = Annotated[int, Range(0, MAX_SIDE)]
Border = Annotated[int, Range(-MAX_SIDE, MAX_SIDE)]
Classes = Annotated[int, Range(1, MAX_CLASSES)]
Number = Annotated[float, Range(-1e6, 1e6)]
Eps = Annotated[float, Range(0.0, 1e3)]
Sides = Annotated[tuple[Annotated[int, Range(1, MAX_FEATURES)], ...], Range(1, 4)]
Name = Annotated[str, Range(0, MAX_NAME)]


@cache
def types_of(cls: Any) -> Mapping[str, Any]:
    """The annotations of the fields of a dataclass, with their ranges."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def check_fields(owner: Any) -> None:
    """Raises `SpecError` for the first field of the dataclass instance `owner` that its annotation does not allow."""
    cls: Any = type(owner)
    for name, wanted in types_of(cls).items():
        value = getattr(owner, name)
        if not _fits(value, wanted):
            raise SpecError(
                f"{name} must be {_in_words(wanted)}, got {shown(value)}", hint=f"correct {name} in the spec"
            )


def shown(value: Any) -> str:
    """`value` as JSON's reader gave it, cut to a length that fits a line."""
    if isinstance(value, (list, tuple)) and 0 < len(value) <= MAX_LISTED and not any(map(_nests, value)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, (list, tuple, dict)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value[: MAX_SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _nests(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict))


def _fits(value: Any, wanted: Any) -> bool:
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        measured = len(value) if isinstance(value, (tuple, str)) else value
        return _fits(value, inside[0]) and inside[1].least <= measured <= inside[1].most
    if origin is Literal:
        return type(value) is str and value in inside
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is tuple:
        each = (inside[0],) * len(value) if isinstance(value, tuple) and inside[-1] is ... else inside
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if wanted is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))


def _in_words(wanted: Any) -> str:
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        least, most = (f"{bound:,.10g}" for bound in (inside[1].least, inside[1].most))
        if inside[0] is str:
            return f"a text of at most {most} characters"
        if get_origin(inside[0]) is tuple:
            return f"{least} to {most} of: {_in_words(get_args(inside[0])[0])}"
        return f"{_in_words(inside[0])} from {least} to {most}"
    if origin is Literal:
        return f"one of {', '.join(inside)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(one) for one in inside)
    if origin is tuple:
        return f"a list of {'any number' if inside[-1] is ... else len(inside)}, each {_in_words(inside[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}.get(wanted, "a text")
