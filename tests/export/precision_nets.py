"""Generators with weights as training leaves them: activations of order one, images neither flat nor saturated."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.source import Source, from_spec
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build

LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def settle(module: nn.Module, inputs: tuple[torch.Tensor, ...], spread: float = 0.8) -> nn.Module:
    """BatchNorms remember what they really see on `inputs`, and the last layer's values get the given spread."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.weight.normal_(1, 0.2)
                part.bias.normal_(0, 0.2)
                part.momentum = None
        for part in module.train().modules():
            if isinstance(part, LINEAR):
                _standardise(module, part, inputs)
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.reset_running_stats()
        module(*inputs)
        last = [part for part in module.eval().modules() if isinstance(part, LINEAR)][-1]
        _standardise(module, last, inputs, spread)
    return module


def _standardise(module: nn.Module, part: nn.Module, inputs: tuple[torch.Tensor, ...], spread: float = 1.0) -> None:
    seen: list[float] = []
    hook = part.register_forward_hook(lambda _module, _inputs, output: seen.append(float(output.std())))
    module(*inputs)
    hook.remove()
    part.weight.mul_(spread / seen[0])  # type: ignore[operator]


def settled_source(spec: GeneratorSpec) -> Source:
    """A source of `spec` with settled random weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(spec)
        z = torch.randn(16, spec.interface.z_dim)
        labels = (torch.arange(16) % spec.interface.n_classes,) if spec.interface.n_classes else ()
        settle(module, (z, *labels))
    return from_spec(spec, module, provenance={"file": "g.pt", "sha256": "0" * 64})


def settled(arch: str = "dcgan", size: int = 28, channels: int = 3, **options: Any) -> Source:
    """A network of width 8 with a latent of 16."""
    return settled_source(network_spec(arch, size, channels, **({"width": 8, "z_dim": 16} | options)))
