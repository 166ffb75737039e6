"""The batch kept symbolic where a forward turns it into a number: `len(x)`, `int(x.shape[0])`, `np.prod(x.shape)`.

Python's `len` and `int` must return an int, so a tracer that meets them takes the batch that it traces with for the
only one. While a module is traced, the names `len` and `int` in the code that its classes are written in stand for
functions that leave a symbolic size as it is, and `numpy.prod` of such sizes is their product. Loops over the images
stay what they are, as many steps as were traced, and are refused.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_MISSING = object()


def _symbolic(value: Any) -> bool:
    """A size in torch.export, or in torch.jit.trace, where sizes are whole numbers in tensors."""
    if isinstance(value, torch.SymInt):
        return True
    traced = isinstance(value, Tensor) and torch._C._get_tracing_state() is not None
    return traced and value.dim() == 0 and value.dtype == torch.int64


def symbolic_len(value: Any) -> Any:
    """`len`, but the first side of a tensor as its shape has it."""
    return value.shape[0] if isinstance(value, Tensor) and value.dim() else len(value)


class _AnyInt(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, int)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, int)


class SymbolicInt(int, metaclass=_AnyInt):
    """`int`, but of a symbolic size that size; as a type it is `int`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and not kwargs and _symbolic(args[0]) else int(*args, **kwargs)


@contextlib.contextmanager
def symbolic_batch(module: nn.Module) -> Iterator[None]:
    """Traces with these names in the code of `module` and its parts; everything is as before at the end."""
    spaces = _namespaces(module)
    stand_ins = {"len": symbolic_len, "int": SymbolicInt}
    before = [{name: space.get(name, _MISSING) for name in stand_ins} for space in spaces]
    prod = np.prod
    try:
        for space in spaces:
            for name, stand_in in stand_ins.items():
                if space.get(name, getattr(builtins, name)) is getattr(builtins, name):  # not a name of the author's
                    space[name] = stand_in
        np.prod = lambda a, *args, **kwargs: _product(prod, a, *args, **kwargs)
        yield
    finally:
        np.prod = prod
        for space, names in zip(spaces, before, strict=True):
            for name, value in names.items():
                if value is _MISSING:
                    space.pop(name, None)
                else:
                    space[name] = value


def _product(prod: Any, a: Any, *args: Any, **kwargs: Any) -> Any:
    plain = isinstance(a, (tuple, list)) and not args and not kwargs
    return math.prod(a) if plain and any(_symbolic(side) for side in a) else prod(a, *args, **kwargs)


def _namespaces(module: nn.Module) -> list[dict[str, Any]]:
    """The global names of the code that `module` may run: its classes' modules, and what these take from others."""
    pending = [sys.modules.get(cls.__module__) for part in module.modules() for cls in type(part).__mro__]
    spaces: dict[int, dict[str, Any]] = {}
    waiting = [vars(found) for found in pending if found is not None and _authors(found.__name__)]
    while waiting:
        space = waiting.pop()
        if id(space) in spaces:
            continue
        spaces[id(space)] = space
        for value in list(space.values()):
            where = getattr(value, "__module__", None) if isinstance(value, (FunctionType, type)) else None
            found = sys.modules.get(where) if isinstance(where, str) else None
            if found is not None and _authors(found.__name__):
                waiting.append(vars(found))
    return list(spaces.values())


def _authors(name: str) -> bool:
    """Whether a Python module is neither torch's, numpy's, the standard library's nor ganport's."""
    top = name.partition(".")[0]
    return top not in (
        "torch",
        "torchvision",
        "numpy",
        "gan_core",
        "gan_export",
        "gan_serve",
        "gan_trainer",
        "__main__",
    ) and (top not in sys.stdlib_module_names)
