"""A pickle machine that calls nothing.

It runs the pickle's opcodes (decoded by `pickletools`, protocols 0 to 5) on a stack, like Python's own; but names
are only remembered (`GlobalName`), calls go to the short list in `rebuild` or become `Inert` records, and every
length is checked against the bytes that are there. No module is imported, no attribute is looked up, no method of an
object from the file is called. What honest files don't contain is refused with a sentence that says so (`policy`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

from gan_core.errors import GanportError
from gan_export.reading import rebuild
from gan_export.reading.inert import CALL_STEPS, NAME_STEPS, Budget, DamagedError, GlobalName, Inert
from gan_export.reading.lazy import NumpyArray, NumpyDtype
from gan_export.reading.policy import check_name
from gan_export.reading.roles import words


class Stream:
    """A memoryview as a file for `pickletools` and `tarfile`, which never gives, or allocates, more than there is."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self.data) if size < 0 else self.position + size
        block = bytes(self.data[self.position : end])
        self.position += len(block)
        return block

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        parts = []
        while block := self.read(256):
            head, newline, _ = block.partition(b"\n")
            parts.append(head + newline)
            if newline:
                self.position -= len(block) - len(head) - 1
                break
        return b"".join(parts)

    def tell(self) -> int:
        return self.position

    def as_file(self) -> IO[bytes]:
        """Itself: all that `pickletools` and `tarfile` use of a file is here."""
        return cast("IO[bytes]", self)

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, not copied. Raises `GanportError` when there are fewer."""
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise DamagedError(f"it claims {size:,} bytes of numbers, the file has {left:,} left: cut short or forged")
        block = self.data[self.position : self.position + size]
        self.position += size
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}[whence]
        self.position = max(0, base + offset)
        return self.position


MAX_INT_BITS = 1024

PersistentLoad = Callable[[Any], Any]
NestedReader = Callable[[bytes | bytearray, Budget], Any]


class _Mark:
    """The stack's MARK."""


def load(stream: Stream, persistent_load: PersistentLoad, budget: Budget, nested: NestedReader | None = None) -> Any:
    """Reads one pickle from `stream` and leaves it behind the pickle's end.

    persistent_load  turns a persistent id (torch: a storage) into an object
    nested           reads the bytes of a storage pickled within the pickle
    Raises `GanportError` for damaged, oversized and hostile pickles.
    """
    machine = _Machine(persistent_load, budget, nested)
    try:
        with warnings.catch_warnings():  # pickletools warns of odd escapes in names
            warnings.simplefilter("ignore")
            data = stream.as_file()
            while (opcode := stream.read(1)) != pickle.STOP:
                budget.spend()
                step, argument = _STEPS[opcode]
                step(machine, argument(data) if argument else None)
            return machine.pop()
    except GanportError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, AttributeError, EOFError, struct.error) as error:
        raise DamagedError("the pickle in it is damaged or cut short") from error


class _Machine:
    def __init__(self, persistent_load: PersistentLoad, budget: Budget, nested: NestedReader | None) -> None:
        self.stack: list[Any] = []
        self.persistent_load = persistent_load
        self._memo: dict[int, Any] = {}
        self._budget = budget
        self._nested = nested

    def literal(self, value: Any) -> Any:
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise _no_checkpoint(f"holds a number of {value.bit_length():,} bits")
        return value

    def remember(self, place: int | None) -> None:
        self._memo[len(self._memo) if place is None else place] = self.stack[-1]

    def remembered(self, place: int) -> Any:
        return self._memo[place]

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _Mark:
            raise ValueError("mark where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _Mark:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("no mark")

    def pop_tuple(self, count: int) -> tuple[Any, ...]:
        return tuple(self.pop() for _ in range(count))[::-1]

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.elements = target.elements if target.elements is not None else []
            target = target.elements
        if type(target) is not list:
            raise TypeError("appends to something that is not a list")
        target.extend(values)

    def fill(self, values: Sequence[Any], target: Any = None) -> Any:
        """Puts keys and values, in turn, into the dictionary `target`, the stack's last when None."""
        target = self.stack[-1] if target is None else target
        if isinstance(target, Inert):
            target.items = target.items if target.items is not None else {}
            target = target.items
        if type(target) is not dict or len(values) % 2:
            raise TypeError("sets items of something that is not a dictionary")
        for index in range(0, len(values), 2):
            self._budget.spend_copy(values[index])
            target[rebuild.safe_key(values[index])] = values[index + 1]
        return target

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        self._budget.spend_copy(state)
        if isinstance(target, (Inert, NumpyArray, NumpyDtype)):
            target.build(state)

    # -------------------------------------------------------------------------------------------- names and objects

    def named(self, module: Any, name: Any) -> GlobalName:
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name is not text")
        if len(module) + len(name) > 500:
            raise ValueError("a name of over 500 characters")
        self._budget.spend(NAME_STEPS)
        named = GlobalName(module, name)
        if (module, name) not in rebuild.HANDLED:
            check_name(named)
        return named

    def made(self, cls: Any, args: Any, keywords: Any = None) -> Any:
        """cls.__new__(cls, *args): the containers and parameters that `rebuild` knows, an inert record otherwise."""
        if not isinstance(cls, GlobalName) or (cls.module, cls.name) in rebuild.HANDLED or rebuild.is_container(cls):
            made = self.called(cls, args)
        else:
            self._pay(args)
            made = rebuild.new_object(cls, *args) if isinstance(args, tuple) else Inert(cls)
        if isinstance(made, Inert) and isinstance(keywords, dict):
            self._budget.spend_copy(keywords)
            made.state.update(keywords)
        return made

    def called(self, function: Any, args: Any) -> Any:
        self._pay(args)
        return rebuild.call(function, args, self._read_nested)

    def _pay(self, args: Any) -> None:
        self._budget.spend(CALL_STEPS + (len(args) if isinstance(args, tuple) else 0))
        self._budget.spend_copy(args)

    def _read_nested(self, data: bytes | bytearray) -> Any:
        if self._nested is None or self._budget.nesting <= 0:
            raise _no_checkpoint("holds pickles in pickles, deeper than any checkpoint")
        self._budget.nesting -= 1
        try:
            return self._nested(data, self._budget)
        finally:
            self._budget.nesting += 1


def _no_checkpoint(what: str) -> GanportError:
    return GanportError(f"the pickle in it {what}", hint="it is no checkpoint")


def _instance(machine: _Machine, argument: str) -> Any:
    args = tuple(machine.pop_to_mark())
    return machine.made(machine.named(*argument.split(" ", 1)), args)


def _object(machine: _Machine, _: Any) -> Any:
    cls, *args = machine.pop_to_mark()
    return machine.made(cls, tuple(args))


_MADE: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(
        words(
            "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
            "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
        ),
        _Machine.literal,
    ),
    **dict.fromkeys(words("BINGET LONG_BINGET GET"), _Machine.remembered),
    "NONE": lambda _machine, _: None,
    "NEWTRUE": lambda _machine, _: True,
    "NEWFALSE": lambda _machine, _: False,
    "EMPTY_LIST": lambda _machine, _: [],
    "EMPTY_TUPLE": lambda _machine, _: (),
    "EMPTY_DICT": lambda _machine, _: {},
    "EMPTY_SET": lambda _machine, _: [],
    "MARK": lambda _machine, _: _Mark,
    "DUP": lambda machine, _: machine.stack[-1],
    "LIST": lambda machine, _: machine.pop_to_mark(),
    "TUPLE": lambda machine, _: tuple(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: tuple(machine.pop_to_mark()),
    "TUPLE1": lambda machine, _: machine.pop_tuple(1),
    "TUPLE2": lambda machine, _: machine.pop_tuple(2),
    "TUPLE3": lambda machine, _: machine.pop_tuple(3),
    "DICT": lambda machine, _: machine.fill(machine.pop_to_mark(), {}),
    "GLOBAL": lambda machine, argument: machine.named(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.named(*machine.pop_tuple(2)),
    "REDUCE": lambda machine, _: machine.called(*machine.pop_tuple(2)),
    "NEWOBJ": lambda machine, _: machine.made(*machine.pop_tuple(2)),
    "NEWOBJ_EX": lambda machine, _: machine.made(*machine.pop_tuple(3)),
    "INST": _instance,
    "OBJ": _object,
    "PERSID": lambda machine, argument: machine.persistent_load(argument),
    "BINPERSID": lambda machine, _: machine.persistent_load(machine.pop()),
}
"""Opcodes that leave a value on the stack, by what it is."""

_CHANGES: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(words("BINPUT LONG_BINPUT PUT MEMOIZE"), _Machine.remember),
    **dict.fromkeys(words("PROTO FRAME"), lambda _machine, _: None),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.fill(machine.pop_tuple(2)),
    "SETITEMS": lambda machine, _: machine.fill(machine.pop_to_mark()),
    "BUILD": lambda machine, _: machine.build(machine.pop()),
}
"""Opcodes that change what is on the stack."""


def _step(name: str) -> Callable[[_Machine, Any], object]:
    if name in _CHANGES:
        return _CHANGES[name]
    make = _MADE.get(name)
    if make is None:

        def refuse(_machine: _Machine, _: Any) -> None:
            raise _no_checkpoint(f"uses {name}, which no checkpoint needs")

        return refuse

    def push(machine: _Machine, argument: Any) -> None:
        machine.stack.append(make(machine, argument))

    return push


_STEPS = {
    opcode.code.encode("latin-1"): (_step(opcode.name), opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
}
"""By an opcode's byte: what it does, and what reads its argument."""
