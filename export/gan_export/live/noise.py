"""Numbers that a module draws in its forward (StyleGAN's noise), held still: a latent must have one image.

`zero` puts the mean of the law in their place: 0 for normal numbers, ½ for uniform ones. `fixed` draws them once, from
a seed, and gives every image of every batch the same; they become part of the file.

Memory that a forward takes unwritten (`torch.empty`) is cleared, whatever is done to it afterwards.

It works on torch.randn, rand, normal and their _like forms, and on Tensor.normal_ and uniform_. Numbers drawn in
other ways (torch.randint, dropout that is always on, Python's random) are left, and the proof refuses the module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
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
        mean, std = _pair(args, kwargs, ("mean", "std"), (0.0, 1.0))
        return ("normal", tuple(args[0].shape), std, mean, args[0])
    if func is Tensor.uniform_:
        low, high = _pair(args, kwargs, ("from", "to"), (0.0, 1.0))
        return ("uniform", tuple(args[0].shape), high - low, low, args[0])
    if func is torch.normal:
        mean, std = (
            args[i] if len(args) > i else kwargs.get(n, d) for i, (n, d) in enumerate((("mean", 0.0), ("std", 1.0)))
        )
        size = args[2] if len(args) > 2 else kwargs.get("size")
        shape = tuple(size) if size is not None else tuple((mean if isinstance(mean, Tensor) else std).shape)
        return ("normal", shape, std, mean, None)
    return None


def _pair(args: Any, kwargs: dict[str, Any], names: tuple[str, str], defaults: tuple[float, float]) -> tuple[Any, Any]:
    first, second = (
        args[1 + index] if len(args) > 1 + index else kwargs.get(name, defaults[index])
        for index, name in enumerate(names)
    )
    return first, second
