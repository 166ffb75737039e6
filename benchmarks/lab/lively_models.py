"""The project's own models to measure: the tutorials' networks at the tutorials' widths, lively but untrained.

How fast a generator draws does not depend on what its weights are, as long as nothing is denormal, NaN or flat; how
far a lower precision strays does, so the weights have to make images that use the range. `lively` gets there without
training: DCGAN's initialisation, BatchNorm statistics gathered from the network's own images (as a trained one has
them), and the last layer scaled so that what reaches tanh has a standard deviation of `CONTRAST`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gan_core.spec.generator_spec import GeneratorSpec
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, SpecGenerator, build, save_generator

WIDTH, Z_DIM = 64, 100
CONTRAST = 0.8
BATCHES, BATCH = 4, 64
MODELS = {
    "mlp-28": ("mlp", 28, 1),
    "dcgan-64": ("dcgan", 64, 3),
    "dcgan-96": ("dcgan", 96, 3),
    "dcgan-128": ("dcgan", 128, 3),
}
"""Name → architecture, size, channels."""


def write_model(name: str, folder: Path, width: int = WIDTH) -> Path:
    """`folder/NAME.pt`, a checkpoint of ours. The same torch gives the same weights."""
    arch, size, channels = MODELS[name]
    spec = network_spec(arch, size, channels, width=width, z_dim=Z_DIM)
    module = lively(spec)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.pt"
    training = {"recipe": "none: untrained, see lab.lively_models"}
    save_generator(GeneratorCheckpoint(spec, module.state_dict(), training=training), target)
    return target


@torch.no_grad()
def lively(spec: GeneratorSpec, seed: int = 0) -> SpecGenerator:
    """An untrained generator of `spec`, in eval mode, whose images use their value range."""
    torch.manual_seed(seed)
    module = build(spec)
    norms = [part for part in module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    weighted = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    for part in weighted:
        if not isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.02)
    for norm in norms:
        norm.momentum = None  # the plain average of all batches
    module.train()
    reached: list[torch.Tensor] = []
    hook = weighted[-1].register_forward_hook(lambda _module, _inputs, output: reached.append(output))
    for _ in range(BATCHES):
        module(torch.randn(BATCH, spec.interface.z_dim))
    module.eval()
    reached.clear()
    module(torch.randn(BATCH, spec.interface.z_dim))
    hook.remove()
    scale = CONTRAST / float(reached[0].std())
    weighted[-1].weight.mul_(scale)
    if weighted[-1].bias is not None:
        weighted[-1].bias.mul_(scale)
    for norm in norms:
        norm.momentum = 0.1
    return module
