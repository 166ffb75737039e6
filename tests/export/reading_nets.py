"""Tiny networks for the reader's tests: shapes of real ones, a few hundred weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """The 96×96 tutorial generator (anime faces): five transposed convolutions, the last of kernel 5, stride 3."""

    def __init__(self, nz: int = 6, ngf: int = 2, leak: float = 0.2, eps: float = 1e-5) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8, eps=eps), nn.ReLU(True)
        )
        self.layer2 = _step(ngf * 8, ngf * 4, leak, eps)
        self.layer3 = _step(ngf * 4, ngf * 2, leak, eps)
        self.layer4 = _step(ngf * 2, ngf, leak, eps)
        self.layer5 = nn.Sequential(nn.ConvTranspose2d(ngf, 3, 5, 3, 1, bias=False), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layer5(self.layer4(self.layer3(self.layer2(self.layer1(z)))))
        return images


def _step(inputs: int, outputs: int, leak: float, eps: float) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=eps), nn.LeakyReLU(leak))


def generator(seed: int = 0, prefix: str = "main.") -> OrderedDict[str, Tensor]:
    """A DCGAN generator's state_dict, 6 → 16×16×3, with trained-looking statistics; keys `main.0.weight` …"""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    net(torch.randn(8, 6, 1, 1))
    return prefixed(net.state_dict(), prefix)


def discriminator(seed: int = 1, prefix: str = "main.", channels: int = 3) -> OrderedDict[str, Tensor]:
    """A DCGAN discriminator's state_dict, 16×16 → 1; keys `main.0.weight` …"""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(channels, 5, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(5, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
        nn.Conv2d(8, 1, 4, bias=False),
    )  # fmt: skip
    return prefixed(net.state_dict(), prefix)


def parameters(state: Mapping[str, Tensor]) -> list[Tensor]:
    """The parameters among a state_dict's tensors, in order."""
    return [tensor for name, tensor in state.items() if "running" not in name and "num_batches" not in name]


def prefixed(state: Mapping[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def optimizer_state() -> dict[str, Any]:
    """Adam's state_dict after a step."""
    weight = nn.Parameter(torch.ones(3, 4))
    adam = torch.optim.Adam([weight])
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """The same names in the same order, equal numbers, float32."""
    return list(found) == list(expected) and all(
        torch.equal(found[name], tensor if not tensor.is_floating_point() else tensor.float())
        for name, tensor in expected.items()
    )
