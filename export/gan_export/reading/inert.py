"""What a pickle's unknown classes become, records that remember and do nothing, and what reading one file may cost.

`GlobalName` is a class or function that the file names; `Inert` is an object that would have been made by calling one.
Neither imports, calls or compares anything.

So that a small file cannot ask for much work or memory, everything that it decides is paid for from one budget, in
steps: an opcode, a value copied or looked at, 64 characters of a name. A step takes a microsecond or two and keeps some
hundred bytes at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_core.errors import GanportError
from gan_core.files.archive import HINT
from gan_core.printable import printable


class DamagedError(GanportError):
    """The file is not what its writer wrote ("it …"). The hint is to get it again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint=HINT)


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


MAX_OPERATIONS = 1_500_000
MAX_NESTING = 4
"""Pickles within pickles: a pickled module holds its storages as pickled bytes (2); more is an attack."""
NAME_STEPS = 8
CALL_STEPS = 8
TENSOR_STEPS = 24
"""What looking up a name, making an object and loading a tensor cost more than an opcode."""


@dataclass(slots=True)
class Budget:
    """What one file may cost, over all the pickles in it and all that is looked for in them."""

    operations: int = MAX_OPERATIONS
    nesting: int = MAX_NESTING

    @classmethod
    def of_file(cls, size_bytes: int) -> Budget:
        """That of a file of `size_bytes`: a large one may hold long lists of losses, and bytes to copy."""
        return cls(MAX_OPERATIONS + size_bytes // 8)

    def spend(self, steps: int = 1) -> None:
        """Raises `GanportError` when more is asked for than any checkpoint needs."""
        self.operations -= steps
        if self.operations < 0:
            raise GanportError(
                f"it takes over {MAX_OPERATIONS:,} steps to read, far more than a checkpoint does",
                hint="save the generator's state_dict alone, as .safetensors or with torch.save",
            )

    def spend_copy(self, values: Any) -> None:
        """Pays to copy `values`: a step an entry, one for 64 characters. A memo makes copies cheap to ask for."""
        for value in values if isinstance(values, tuple) else (values,):
            if isinstance(value, (list, tuple, dict)):
                self.spend(len(value))
            elif isinstance(value, (str, bytes, bytearray)):
                self.spend(len(value) // 64)


def brief(value: Any, limit: int = 40) -> str:
    """`value` as a short text: a plain one's own, of anything else its type (its own may be endless)."""
    plain = value is None or isinstance(value, (str, int, float, GlobalName))
    return str(value)[:limit] if plain else type(value).__name__
