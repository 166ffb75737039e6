"""A pickle machine that calls nothing.

It runs the pickle's opcodes (decoded by `pickletools`, protocols 0 to 5) on a stack, like Python's own; but names
are only remembered (`GlobalName`), calls go to the short list in `rebuild` or become `Inert` records, and every
length is checked against the bytes that are there. No module is imported, no attribute is looked up, no method of an
object from the file is called. What honest files don't contain is refused with a sentence that says so (`policy`).
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any

from gan_core.errors import GanportError
from gan_export.reading import rebuild
from gan_export.reading.arrays import NumpyArray, NumpyDtype
from gan_export.reading.budget import CALL_STEPS, NAME_STEPS, Budget
from gan_export.reading.inert import GlobalName, Inert
from gan_export.reading.policy import check_name
from gan_export.reading.stream import Stream
from gan_export.reading.words import words

MAX_INT_BITS = 1024

PersistentLoad = Callable[[Any], Any]
NestedReader = Callable[[bytes | bytearray, Budget], Any]

_LITERALS = words(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


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
            for opcode, argument, _ in pickletools.genops(stream.as_file()):
                budget.spend()
                if opcode.name == "STOP":
                    return machine.pop()
                machine.step(opcode.name, argument)
    except GanportError:
        raise
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        UnicodeError,
        OverflowError,
        AttributeError,
        EOFError,
        struct.error,
    ) as error:
        raise GanportError(
            "the pickle in it is damaged or cut short",
            hint="download or copy the file again and compare its size and checksum",
        ) from error
    raise GanportError("the pickle in it ends too early", hint="download or copy the file again")


class _Machine:
    def __init__(self, persistent_load: PersistentLoad, budget: Budget, nested: NestedReader | None) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._persistent_load = persistent_load
        self._budget = budget
        self._nested = nested

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_INT_BITS:
                raise GanportError(
                    f"the pickle in it holds a number of {argument.bit_length():,} bits", hint="it is no checkpoint"
                )
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self._stack.append(self._memo[argument])
        elif name not in ("PROTO", "FRAME"):
            action = _ACTIONS.get(name)
            if action is None:
                raise GanportError(
                    f"the pickle in it uses {name}, which no checkpoint needs", hint="it is no checkpoint"
                )
            action(self, argument)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _Mark:
            raise ValueError("mark where a value should be")
        return value

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _Mark:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise ValueError("no mark")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    # ---------------------------------------------------------------------------------------- stack and containers

    def _mark(self, _: Any) -> None:
        self._push(_Mark)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _dup(self, _: Any) -> None:
        self._push(self._stack[-1])

    def _list(self, _: Any) -> None:
        self._push(self._pop_to_mark())

    def _tuple(self, _: Any) -> None:
        self._push(tuple(self._pop_to_mark()))

    def _short_tuple(self, count: int) -> None:
        items = tuple(self.pop() for _ in range(count))
        self._push(items[::-1])

    def _dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        self._fill(made, self._pop_to_mark())
        self._push(made)

    def _append(self, _: Any) -> None:
        self._extend([self.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert):
            target.elements = target.elements if target.elements is not None else []
            target = target.elements
        if type(target) is not list:
            raise TypeError("appends to something that is not a list")
        target.extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._fill(self._stack[-1], [key, value])

    def _set_items(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._fill(self._stack[-1], values)

    def _fill(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Inert):
            target.items = target.items if target.items is not None else {}
            target = target.items
        if type(target) is not dict or len(values) % 2:
            raise TypeError("sets items of something that is not a dictionary")
        for index in range(0, len(values), 2):
            self._budget.spend_copy(values[index])
            target[rebuild.safe_key(values[index])] = values[index + 1]

    # -------------------------------------------------------------------------------------------- names and objects

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name is not text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if len(module) + len(name) > 500:
            raise ValueError("a name of over 500 characters")
        self._budget.spend(NAME_STEPS)
        named = GlobalName(module, name)
        if (module, name) not in rebuild.HANDLED:
            check_name(named)
        self._push(named)

    def _reduce(self, _: Any) -> None:
        args, function = self.pop(), self.pop()
        self._push(self._call(function, args))

    def _new_object(self, _: Any) -> None:
        args, cls = self.pop(), self.pop()
        self._push(self._make(cls, args))

    def _new_object_ex(self, _: Any) -> None:
        keywords, args, cls = self.pop(), self.pop(), self.pop()
        made = self._make(cls, args)
        if isinstance(made, Inert) and isinstance(keywords, dict):
            self._budget.spend_copy(keywords)
            made.state.update(keywords)
        self._push(made)

    def _instance(self, argument: str) -> None:
        args = tuple(self._pop_to_mark())
        self._global(argument)
        self._push(self._make(self.pop(), args))

    def _object(self, _: Any) -> None:
        cls, *args = self._pop_to_mark()
        self._push(self._make(cls, tuple(args)))

    def _build(self, _: Any) -> None:
        state, target = self.pop(), self._stack[-1]
        self._budget.spend_copy(state)
        if isinstance(target, (Inert, NumpyArray, NumpyDtype)):
            target.build(state)

    def _persistent(self, argument: Any) -> None:
        self._push(self._persistent_load(argument))

    def _persistent_on_stack(self, _: Any) -> None:
        self._push(self._persistent_load(self.pop()))

    def _make(self, cls: Any, args: Any) -> Any:
        """cls.__new__(cls, *args): the containers and parameters that `rebuild` knows, an inert record otherwise."""
        if (
            isinstance(cls, GlobalName)
            and (cls.module, cls.name) not in rebuild.HANDLED
            and not rebuild.is_container(cls)
        ):
            self._pay(args)
            return rebuild.new_object(cls, *args) if isinstance(args, tuple) else Inert(cls)
        return self._call(cls, args)

    def _call(self, function: Any, args: Any) -> Any:
        self._pay(args)
        return rebuild.call(function, args, self._read_nested)

    def _pay(self, args: Any) -> None:
        self._budget.spend(CALL_STEPS + (len(args) if isinstance(args, tuple) else 0))
        self._budget.spend_copy(args)

    def _read_nested(self, data: bytes | bytearray) -> Any:
        if self._nested is None or self._budget.nesting <= 0:
            raise GanportError(
                "the pickle in it holds pickles in pickles, deeper than any checkpoint", hint="it is no checkpoint"
            )
        self._budget.nesting -= 1
        try:
            return self._nested(data, self._budget)
        finally:
            self._budget.nesting += 1


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._dup,
    "LIST": _Machine._list,
    "TUPLE": _Machine._tuple,
    "FROZENSET": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new_object,
    "NEWOBJ_EX": _Machine._new_object_ex,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "BUILD": _Machine._build,
    "PERSID": _Machine._persistent,
    "BINPERSID": _Machine._persistent_on_stack,
}
