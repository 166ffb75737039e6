"""What a field of a spec or a contract may hold: its type and its range, checked once, where the value comes in.

A field's annotation says it: `Sides = Annotated[int, Range(1, MAX_SIDE)]`. Whole numbers are `int`, never `bool` and
never 2.0; numbers are finite; a text is one of a `Literal`'s. No torch here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gan_core.errors import GanportError

MAX_FEATURES = 1 << 24
"""Numbers of a vector, channels of an image: the largest MLPs end in 3 x 1024 x 1024."""
MAX_SIDE = 1 << 14
MAX_CLASSES = 1 << 20
MAX_NAME = 200
MAX_SHOWN = 60
MAX_LISTED = 8
MAX_JSON = 16 << 20
"""The most characters of one value's text: a golden set of large images takes some 100,000."""
MAX_DEPTH = 64

Shape = tuple[int, ...]
Json = dict[str, Any]
T = TypeVar("T")


class SpecError(GanportError):
    """A `GeneratorSpec` that describes no network: the message names the layer and what does not fit."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint or "edit the spec's layers: each takes what the one before it makes")


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a number, or the least and the greatest length of a tuple or a text."""

    least: float
    most: float


@dataclass(frozen=True)
class OneOf:
    """The texts that a field may be."""

    choices: tuple[str, ...]


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


def check_fields(owner: Any, error: type[GanportError] = SpecError, hint: str = "") -> None:
    """Raises `error` for the first field of the dataclass instance `owner` that its annotation does not allow."""
    cls: Any = type(owner)
    for name, wanted in types_of(cls).items():
        value = getattr(owner, name)
        if not _test_of(wanted)(value):
            raise error(
                f"{name} must be {_in_words(wanted)}, got {shown(value)}", hint=hint or f"correct {name} in the spec"
            )


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass `cls` of a JSON object's values: lists become tuples, objects dataclasses, where its fields are.

    What is no field of `cls` is left out. Raises as `cls` does for a field of another type or out of its range, and
    `TypeError` for one that is missing.
    """
    wanted: Any = types_of(cls)  # type: ignore[arg-type]
    return cls(**{name: _made(value, wanted[name]) for name, value in values.items() if name in wanted})


def _made(value: Any, wanted: Any) -> Any:
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _made(value, inside[0])
    if origin in (Union, types.UnionType):
        tried = (_made(value, one) for one in inside)
        return next((made for made in tried if made is not value), value)
    if origin is tuple and isinstance(value, list):
        return tuple(_made(each, inside[0]) for each in value)
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        needed = {f.name for f in dataclasses.fields(wanted) if f.default is dataclasses.MISSING}
        return from_json(wanted, value) if needed <= set(value) else value
    return value


def read_json(text: str) -> Any:
    """The value of `text`. Raises `ValueError` ("not JSON") where it is none, or more than any file of ours says."""
    if len(text) > MAX_JSON:
        raise ValueError(f"{len(text):,} characters long, expected at most {MAX_JSON:,}")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError("not JSON") from error
    _check_json(value)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _check_json(value: Any) -> None:
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


@cache
def _test_of(wanted: Any) -> Callable[[Any], bool]:
    """Whether a value is as the annotation `wanted` allows, as a function: a spec's fields are checked thousands of
    times in a search."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated and isinstance(inside[1], OneOf):
        choices = inside[1].choices
        return lambda value: type(value) is str and value in choices
    if origin is Annotated:
        inner, (least, most) = _test_of(inside[0]), (inside[1].least, inside[1].most)
        return lambda value: (
            inner(value) and least <= (len(value) if isinstance(value, (tuple, str)) else value) <= most
        )
    if origin is Literal:
        return lambda value: type(value) is str and value in inside
    if origin in (Union, types.UnionType):
        some = tuple(map(_test_of, inside))
        return lambda value: any(one(value) for one in some)
    if origin is tuple and inside[-1] is ...:
        each = _test_of(inside[0])
        return lambda value: isinstance(value, tuple) and all(map(each, value))
    if origin is tuple:
        parts = tuple(map(_test_of, inside))
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(parts)
            and all(part(one) for part, one in zip(parts, value, strict=True))
        )
    if origin is dict:
        return lambda value: isinstance(value, dict)
    if wanted is float:
        return lambda value: type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if wanted is bool:
        return lambda value: isinstance(value, bool)
    return lambda value: isinstance(value, wanted) and not isinstance(value, bool)


def _in_words(wanted: Any) -> str:
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        if isinstance(inside[1], OneOf):
            return f"one of {', '.join(inside[1].choices)}"
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
    if origin is dict:
        return "a JSON object"
    if dataclasses.is_dataclass(wanted):
        return f"an object of {', '.join(field.name for field in dataclasses.fields(wanted))}"
    return {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}.get(wanted, "a text")


def check_range(value_range: tuple[float, float]) -> None:
    """Raises `SpecError` unless (black, white) are in order."""
    if not value_range[0] < value_range[1]:
        raise SpecError(
            f"value_range must be (black, white) with black < white, got {value_range}",
            hint="as in [-1, 1] or [0, 1]",
        )
