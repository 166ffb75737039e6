"""Small generators as strangers write them, whose BatchNorms were fed in train mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.foreign_networks import feed, sequential
from export.forensics_nets import ENOUGH


def fed(module: nn.Module, *z_shape: int, batches: int = ENOUGH, seed: int = 0) -> nn.Module:
    """`module` with BatchNorms off their initial values, fed with `batches` of 64 normal latents; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                    part.reset_parameters()
                if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    part.weight.copy_(1 + 0.2 * torch.randn_like(part.weight))
                    part.bias.copy_(0.3 * torch.randn_like(part.bias))
        feed(module, ((torch.randn(64, *z_shape),) for _ in range(batches)))
    return module.eval()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unpadded(
    widths: tuple[int, ...], kernels: tuple[tuple[int, int], ...], activation: nn.Module, *, blocks: bool
) -> nn.Module:
    """Transposed convolutions of (kernel, stride) without padding, BatchNorm and activation behind all but the last."""
    parts: list[nn.Module] = []
    for i, (kernel, stride) in enumerate(kernels):
        conv = nn.ConvTranspose2d(widths[i], widths[i + 1], kernel, stride)
        last = i == len(kernels) - 1
        block = [conv, nn.Tanh()] if last else [conv, nn.BatchNorm2d(widths[i + 1]), activation]
        parts += [nn.Sequential(*block)] if blocks else block
    return sequential(*parts, prefix="net")
