"""Small generators with lively weights, for the tests of the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.source import Source, from_spec
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every BatchNorm statistics and scales that matter, and the weights a size at which tanh bends. In place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if (
                isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))
                and part.running_mean is not None
                and part.running_var is not None
            ):
                part.running_mean.normal_(0, 0.3, generator=generator)
                assert part.running_var is not None
                part.running_var.uniform_(0.2, 1.5, generator=generator)
                if part.affine:
                    part.weight.uniform_(0.5, 1.5, generator=generator)
                    part.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                fan_in = part.weight[0].numel() if not isinstance(part, nn.ConvTranspose2d) else part.weight.shape[0]
                part.weight.normal_(0, 1.2 / fan_in**0.5, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.2, generator=generator)
    return module.eval()


def spec_of(arch: str = "dcgan", size: int = 28, channels: int = 3, **options: Any) -> GeneratorSpec:
    """A network of width 4 with a latent of 8."""
    return network_spec(arch, size, channels, width=4, z_dim=8, **options)


def lively_generator(spec: GeneratorSpec, seed: int = 0) -> nn.Module:
    """The module of `spec`, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return lively(build(spec), seed)


def source_of(spec: GeneratorSpec | None = None, seed: int = 0) -> Source:
    """A lively source of `spec` (default: `spec_of()`)."""
    spec = spec or spec_of()
    return from_spec(spec, lively_generator(spec, seed), provenance={"file": "g.pt", "sha256": f"{seed:064x}"})


def save_checkpoint(path: Path, spec: GeneratorSpec | None = None, seed: int = 0) -> Path:
    """A g.pt of a lively generator at `path`."""
    spec = spec or spec_of()
    weights = dict(lively_generator(spec, seed).state_dict())
    save_generator(GeneratorCheckpoint(spec, weights, "ema", {"data": "tests", "steps": 3}), path)
    return path
