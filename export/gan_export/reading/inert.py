"""What a pickle's unknown classes become: records that remember and do nothing.

`GlobalName` is a class or function that the file names; `Inert` is an object that would have been made by calling one.
Neither imports, calls or compares anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_core.printable import printable


@dataclass(frozen=True, slots=True)
class GlobalName:
    """`module.name` as written in the file; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}"[:200])


class Inert:
    """An object of class `cls` as the file describes it.

    args     what its class or function would have been called with
    state    its `__dict__`, or {} (what else a `__setstate__` would have got lies under "__state__")
    items    what it holds as a mapping, or None
    elements what it holds as a list, or None
    """

    __slots__ = ("args", "cls", "elements", "items", "state")

    def __init__(self, cls: GlobalName, args: tuple[Any, ...] = ()) -> None:
        self.cls = cls
        self.args = args
        self.state: dict[Any, Any] = {}
        self.items: dict[Any, Any] | None = None
        self.elements: list[Any] | None = None

    def build(self, state: Any) -> None:
        """Takes a pickled state: a dictionary, a pair (dictionary, slots), or anything else."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if all(part is None or isinstance(part, dict) for part in parts):
            for part in parts:
                self.state.update(part or {})
        else:
            self.state["__state__"] = state

    def children(self) -> Iterator[tuple[str, Any]]:
        """What it holds, as (name, value): mapping items, then attributes, then elements and arguments by number."""
        for key, value in (self.items or {}).items():
            yield str(key), value
        for key, value in self.state.items():
            yield str(key), value
        for index, value in enumerate(self.elements or ()):
            yield str(index), value
        for index, value in enumerate(self.args):
            yield f"args.{index}", value
