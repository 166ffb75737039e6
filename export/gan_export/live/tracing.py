"""What stands in for functions of torch and Python while a live module runs, and while it is traced.

`Still` and `Cleared` hold what a forward draws (StyleGAN's noise), so that a latent has one image: they work on
torch.randn, rand, normal and their _like forms, and on Tensor.normal_ and uniform_. Numbers drawn in other ways
(torch.randint, dropout that is always on, Python's random) are left, and the proof refuses the module.

`FullPrecision` computes in float32 what a forward computes in float16 or bfloat16.

`symbolic_batch` keeps the batch symbolic where a forward turns it into a number: `len(x)`, `int(x.shape[0])`,
`np.prod(x.shape)`. Python's `len` and `int` must return an int, so a tracer takes the batch that it traces with for the
only one. Loops over the images stay what they are, as many steps as were traced, and are refused.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SEED = 0
_NORMAL = {torch.randn, torch.randn_like}
_UNIFORM = {torch.rand, torch.rand_like}
_LIKE = {torch.randn_like, torch.rand_like}
_KEPT = ("dtype", "device")
_CLEARED: dict[Any, Any] = {
    torch.empty: torch.zeros,
    torch.empty_like: torch.zeros_like,
    Tensor.new_empty: Tensor.new_zeros,
}

Shape = tuple[Any, ...]


HALVES = (torch.float16, torch.bfloat16)


class FullPrecision(TorchFunctionMode):
    """Computes in `dtype` what a forward computes in float16 or bfloat16, as it says itself or by autocast, which is
    for GPUs; `found` are the types that it asked for."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.found: set[torch.dtype] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.half or func is Tensor.bfloat16:
            self.found.add(torch.float16 if func is Tensor.half else torch.bfloat16)
            return args[0].to(self.dtype)
        halves = {one for one in (*args, *kwargs.values()) if isinstance(one, torch.dtype) and one in HALVES}
        if halves:
            self.found |= halves
            args = tuple(self.dtype if isinstance(one, torch.dtype) and one in halves else one for one in args)
            kwargs = {
                name: self.dtype if isinstance(one, torch.dtype) and one in halves else one
                for name, one in kwargs.items()
            }
        return func(*args, **kwargs)

    def __enter__(self) -> Any:
        mode, enter = self, torch.autocast.__enter__
        self._autocast = enter, torch.autocast.__exit__

        def plain(cast: Any) -> Any:
            if cast._enabled:
                mode.found.add(cast.fast_dtype)
            return cast

        torch.autocast.__enter__ = plain  # type: ignore[method-assign]
        torch.autocast.__exit__ = lambda *_: None  # type: ignore[method-assign]
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        torch.autocast.__enter__, torch.autocast.__exit__ = self._autocast  # type: ignore[method-assign]
        super().__exit__(*raised)  # type: ignore[no-untyped-call]


class Listener(TorchFunctionMode):
    """Writes down the law and shape of every draw, and lets it happen."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[tuple[str, Shape]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        drawn = _draw(func, args, kwargs or {})
        if drawn is not None:
            self.draws.append((drawn[0], drawn[1]))
        return func(*args, **(kwargs or {}))


class Cleared(TorchFunctionMode):
    """Memory that torch.empty and its kin leave as it was starts as zeros: an image must not depend on what was there,
    and a file that asks for such memory is one that others refuse."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _CLEARED.get(func, func)(*args, **(kwargs or {}))


class Still(TorchFunctionMode):
    """Replaces every draw. `fixed` holds one tensor a draw, in the order of the forward; None puts means there."""

    def __init__(self, fixed: list[Tensor] | None) -> None:
        super().__init__()
        self.fixed = fixed
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = _draw(func, args, kwargs)
        if drawn is None:
            return func(*args, **kwargs)
        law, shape, scale, shift, target = drawn
        value = self._value(law, shape, kwargs, target)
        value = value * scale + shift
        return target.copy_(value) if target is not None and func not in _LIKE else value

    def _value(self, law: str, shape: Shape, kwargs: dict[str, Any], target: Tensor | None) -> Tensor:
        options = {name: kwargs[name] for name in _KEPT if kwargs.get(name) is not None}
        if target is not None:
            options = {"dtype": target.dtype, "device": target.device} | options
        if self.fixed is None:
            return torch.full(
                shape, 0.5 if law == "uniform" else 0.0, **({"dtype": torch.get_default_dtype()} | options)
            )
        index = self.count % len(self.fixed)
        self.count += 1
        return self.fixed[index].to(**options).expand(shape) if options else self.fixed[index].expand(shape)


def draw_once(draws: list[list[tuple[str, Shape]]], batches: list[int]) -> list[Tensor]:
    """One tensor for each draw of a forward, seen with several batch sizes: sides that follow the batch are 1.

    float32; normal N(0, 1) or uniform U(0, 1), by `SEED`.
    """
    generator = torch.Generator().manual_seed(SEED)
    tensors = []
    for seen in zip(*draws, strict=True):
        law = seen[0][0]
        shape = [
            1 if all(side == batch for side, batch in zip(sides, batches, strict=True)) else int(sides[0])
            for sides in zip(*(shape for _, shape in seen), strict=True)
        ]
        make = torch.rand if law == "uniform" else torch.randn
        tensors.append(make(shape, generator=generator))
    return tensors


def _draw(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[str, Shape, Any, Any, Tensor | None] | None:
    """(law, shape, scale, shift, the tensor that is filled or imitated) of a draw; None for any other function."""
    if func in _LIKE:
        target = args[0] if args else kwargs["input"]
        return ("normal" if func in _NORMAL else "uniform", tuple(target.shape), 1.0, 0.0, target)
    if func in _NORMAL or func in _UNIFORM:
        size = args if args else kwargs["size"]
        size = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(size)
        return ("normal" if func in _NORMAL else "uniform", size, 1.0, 0.0, None)
    if func is Tensor.normal_:
        mean, std = _pair(args[1:], kwargs, "mean", "std")
        return ("normal", tuple(args[0].shape), std, mean, args[0])
    if func is Tensor.uniform_:
        low, high = _pair(args[1:], kwargs, "from", "to")
        return ("uniform", tuple(args[0].shape), high - low, low, args[0])
    if func is torch.normal:
        mean, std = _pair(args, kwargs, "mean", "std")
        size = args[2] if len(args) > 2 else kwargs.get("size")
        shape = tuple(size) if size is not None else tuple((mean if isinstance(mean, Tensor) else std).shape)
        return ("normal", shape, std, mean, None)
    return None


def _pair(args: Any, kwargs: dict[str, Any], first: str, second: str) -> tuple[Any, Any]:
    """Two parameters, 0 and 1 unless given, in order or by name."""
    given = {first: 0.0, second: 1.0} | kwargs | dict(zip((first, second), args, strict=False))
    return given[first], given[second]


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
        return isinstance(instance, int) or _symbolic(instance)

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
            found = (
                value if isinstance(value, ModuleType) else sys.modules.get(where) if isinstance(where, str) else None
            )
            if found is not None and _authors(found.__name__):
                waiting.append(vars(found))
    return list(spaces.values())


def _authors(name: str) -> bool:
    """Whether a Python module is neither torch's, numpy's, the standard library's nor ganport's."""
    top = name.partition(".")[0]
    known = ("torch", "torchvision", "numpy", "gan_core", "gan_export", "gan_serve", "gan_trainer", "__main__")
    return top not in known and top not in sys.stdlib_module_names
