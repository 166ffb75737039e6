"""Faults of the module: another number somewhere, exported as it is.

Each is the right export that it is planted in, what plants it, and the check that has to name it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def edited(edit: Callable[[Any], object]) -> Callable[[nn.Module], nn.Module]:
    """A module edited in place."""

    def apply(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            edit(module)
        return module

    return apply


def every(kind: type[nn.Module], **values: object) -> Callable[[nn.Module], nn.Module]:
    """Sets attributes of every part of a kind."""
    return edited(lambda m: [assign(part, **values) for part in m.modules() if isinstance(part, kind)])


def assign(part: Any, **values: object) -> Any:
    """`part` with these attributes."""
    for name, value in values.items():
        setattr(part, name, value)
    return part


def lose_statistics(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()


class BatchStatistics(nn.Module):
    """A BatchNorm that normalises by the batch, in eval mode too."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, self.norm.weight, self.norm.bias, training=True)


class Wrapped(nn.Module):
    """A generator with something done to its input or output."""

    def __init__(
        self,
        generator: nn.Module,
        before: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda z, label: (z, label),
        after: Callable[[Tensor], Tensor] = lambda image: image,
    ) -> None:
        super().__init__()
        self.generator, self.before, self.after = generator, before, after

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(*self.before(z, label))
        return self.after(image)


def half_overflow(image: Tensor) -> Tensor:
    return (image * 1e5).half().float() / 1e5


def replace_layer(module: Any, index: int, make: Callable[[Any], nn.Module]) -> nn.Module:
    module.layers[index] = make(module.layers[index])
    assert isinstance(module, nn.Module)
    return module


MODULE_FAULTS: dict[str, tuple[str, Callable[[nn.Module], nn.Module], str]] = {
    "BatchNorm eps 0.8 lost": ("mlp", every(nn.BatchNorm1d, eps=1e-5), "image values"),
    "LeakyReLU slope 0.01": ("mlp", every(nn.LeakyReLU, negative_slope=0.01), "image values"),
    "LeakyReLU slope 0.21": ("mlp", every(nn.LeakyReLU, negative_slope=0.21), "image values"),
    "BatchNorm eps 1e-3": ("dcgan", every(nn.BatchNorm2d, eps=1e-3), "image values"),
    "ReLU became LeakyReLU": ("dcgan", lambda m: replace_layer(m, 4, lambda _: nn.LeakyReLU(0.01)), "image values"),
    "running statistics lost": (
        "dcgan",
        edited(lose_statistics),
        "image values",
    ),
    "BatchNorm in train mode": (
        "dcgan",
        lambda m: replace_layer(m, 3, BatchStatistics),
        "independent of neighbours",
    ),
    "stride 3 instead of 2": ("dcgan", edited(lambda m: assign(m.layers[8], stride=(3, 3))), "outputs"),
    "padding moved": (
        "dcgan",
        edited(lambda m: (assign(m.layers[8], padding=(0, 0)), assign(m.layers[5], padding=(2, 2)))),
        "outputs",
    ),
    "transposed conv flipped": (
        "dcgan",
        edited(lambda m: m.layers[5].weight.copy_(m.layers[5].weight.flip(2, 3))),
        "image values",
    ),
    "half precision overflows": ("dcgan", lambda m: Wrapped(m, after=half_overflow), "NaN or Inf"),
    "noise drawn inside": ("dcgan", lambda m: Wrapped(m, after=lambda x: x + 1e-3 * torch.randn_like(x)), "random ops"),
    "latent replaced by noise": (
        "dcgan",
        lambda m: Wrapped(m, before=lambda z, label: (torch.randn_like(z), label)),
        "repeats to the bit",
    ),
}  # fmt: skip
