"""Generators with branches as strangers write them, tiny: what the drafts of their files are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rattled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every number of it moved, and running statistics that remember something: each matters for the image."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point() or name.endswith(("_u", "_v", "u0", "sv0")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            positive = name.endswith("var")
            tensor.copy_(tensor + 0.5 * noise.abs() if positive else tensor + 0.2 * noise)
    return module.eval()


class Constrained(nn.Module):
    """A layer whose output is multiplied by He's constant."""

    def __init__(self, module: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.module = module
        self.constant = (2 / module.weight[0].numel()) ** 0.5
        nn.init.normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.module(x) * self.constant
        return made


class Progressive(nn.Module):
    """pytorch_GAN_zoo's progressive GAN."""

    def __init__(self, z_dim: int = 6, widths: tuple[int, ...] = (9, 8, 7), slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope
        self.formatLayer = Constrained(nn.Linear(z_dim, 16 * widths[0]))
        self.groupScale0 = nn.ModuleList([Constrained(nn.Conv2d(widths[0], widths[0], 3, padding=1))])
        self.scaleLayers = nn.ModuleList()
        self.toRGBLayers = nn.ModuleList([Constrained(nn.Conv2d(widths[0], 3, 1))])
        for takes, makes in itertools.pairwise(widths):
            convs = [Constrained(nn.Conv2d(given, makes, 3, padding=1)) for given in (takes, makes)]
            self.scaleLayers.append(nn.ModuleList(convs))
            self.toRGBLayers.append(Constrained(nn.Conv2d(makes, 3, 1)))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None:
            z = torch.cat((z, F.one_hot(label, 2).float()), dim=1)
        x = self.formatLayer(_unit(z))
        x = _unit(F.leaky_relu(x, self.slope).unflatten(1, (-1, 4, 4)))
        x = _unit(F.leaky_relu(self.groupScale0[0](x), self.slope))
        for group in self.scaleLayers:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            assert isinstance(group, nn.ModuleList)
            for conv in group:
                x = _unit(F.leaky_relu(conv(x), self.slope))
        made: Tensor = self.toRGBLayers[-1](x)
        return made


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


class TableNorm(nn.Module):
    """mimicry's conditional batch norm: a table of gains, then biases."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(features, affine=False)
        self.embed = nn.Embedding(classes, 2 * features)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gain, bias = self.embed(label)[:, :, None, None].chunk(2, dim=1)
        made: Tensor = gain * self.bn(x) + bias
        return made


class NonLocal(nn.Module):
    """The attention block of SAGAN and BigGAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        key, value = (F.max_pool2d(part(x), 2).flatten(2) for part in (self.phi, self.g))
        scores = torch.einsum("nkq,nkp->nqp", self.theta(x).flatten(2), key).softmax(dim=-1)
        made: Tensor = self.o(torch.einsum("nqp,nvp->nvq", scores, value).unflatten(2, x.shape[2:]))
        return x + self.gamma * made


class MimicryBlock(nn.Module):
    def __init__(self, takes: int, makes: int, classes: int, normed: bool) -> None:
        super().__init__()
        wrap: Callable[[nn.Conv2d], nn.Conv2d] = nn.utils.spectral_norm if normed else nn.Conv2d.cpu
        self.c1 = wrap(nn.Conv2d(takes, makes, 3, padding=1))
        self.c2 = wrap(nn.Conv2d(makes, makes, 3, padding=1))
        self.c_sc = wrap(nn.Conv2d(takes, makes, 1))
        self.b1 = TableNorm(takes, classes) if classes else nn.BatchNorm2d(takes)
        self.b2 = TableNorm(makes, classes) if classes else nn.BatchNorm2d(makes)

    def forward(self, x: Tensor, *label: Tensor) -> Tensor:
        h = self.c1(_double(self.b1(x, *label).relu()))
        h = self.c2(self.b2(h, *label).relu())
        made: Tensor = h + self.c_sc(_double(x))
        return made


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class MimicryNet(nn.Module):
    """mimicry's SNGAN of 32 pixels, with `classes` its SAGAN."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.l1 = nn.Linear(6, 8 * 16)
        self.block2, self.block3, self.block4 = (MimicryBlock(8, 8, classes, bool(classes)) for _ in range(3))
        self.b5 = nn.BatchNorm2d(8)
        self.c5 = nn.Conv2d(8, 3, 3, padding=1)
        if classes:
            self.attn_block = NonLocal(8)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        x = self.block3(self.block2(self.l1(z).unflatten(1, (8, 4, 4)), *label), *label)
        x = self.attn_block(x) if label else x
        return torch.tanh(self.c5(self.b5(self.block4(x, *label)).relu()))
