"""Generators with branches as strangers write them, tiny: what the drafts of their files are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.style_networks import normalised


def rattled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every number of it moved, and running statistics that remember something: each matters for the image."""
    generator = torch.Generator().manual_seed(seed)
    state = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in state.items():
            if not tensor.is_floating_point() or name.endswith(("_u", "_v", "u0", "sv0")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            positive = name.endswith("var")
            tensor.copy_(tensor + 0.5 * noise.abs() if positive else tensor + 0.2 * noise)
        for name in [name for name in state if name.endswith("weight_u")]:  # as training leaves them
            weight = state[name.replace("_u", "_orig")]
            rows = weight if len(weight) == len(state[name]) else weight.transpose(0, 1)
            left, _, right = torch.linalg.svd(rows.flatten(1))
            state[name].copy_(left[:, 0])
            state[name.replace("_u", "_v")].copy_(right[0])
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
        x = self.formatLayer(normalised(z))
        x = normalised(F.leaky_relu(x, self.slope).unflatten(1, (-1, 4, 4)))
        x = normalised(F.leaky_relu(self.groupScale0[0](x), self.slope))
        for group in self.scaleLayers:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            assert isinstance(group, nn.ModuleList)
            for conv in group:
                x = normalised(F.leaky_relu(conv(x), self.slope))
        made: Tensor = self.toRGBLayers[-1](x)
        return made


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


class R3Convolution(nn.Module):
    def __init__(self, takes: int, makes: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.Layer = nn.Conv2d(takes, makes, kernel, padding=kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.Layer(x)
        return made


class R3Bias(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.Bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.Bias[:, None, None], 0.2)


class R3Block(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.LinearLayer1 = R3Convolution(width, 2 * width)
        self.LinearLayer2 = R3Convolution(2 * width, 2 * width, 3, groups)
        self.LinearLayer3 = R3Convolution(2 * width, width)
        self.NonLinearity1, self.NonLinearity2 = R3Bias(2 * width), R3Bias(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.NonLinearity1(self.LinearLayer1(x))
        made: Tensor = self.LinearLayer3(self.NonLinearity2(self.LinearLayer2(y)))
        return x + made


class R3Basis(nn.Module):
    def __init__(self, takes: int, width: int) -> None:
        super().__init__()
        self.Basis = nn.Parameter(torch.randn(width, 4, 4))
        self.LinearLayer = nn.Linear(takes, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.Basis * self.LinearLayer(x)[:, :, None, None]
        return made


class R3Up(nn.Module):
    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        self.Resampler = nn.Module()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.Resampler.register_buffer("Kernel", torch.outer(taps, taps))
        if takes != makes:
            self.LinearLayer = R3Convolution(takes, makes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.LinearLayer(x) if hasattr(self, "LinearLayer") else x
        kernel = 4 * self.Resampler.state_dict()["Kernel"].expand(x.shape[1], 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class R3Stage(nn.Module):
    def __init__(self, takes: int, width: int, groups: int, *, first: bool) -> None:
        super().__init__()
        start = R3Basis(takes, width) if first else R3Up(takes, width)
        self.Layers = nn.ModuleList([start, R3Block(width, groups), R3Block(width, groups)])
        self.DataType = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.Layers:
            x = layer(x)
        return x


class R3Net(nn.Module):
    """R3GAN's network of 16 pixels, with `classes` one-hot labels."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        widths = (8, 8, 4)
        takes = (6 + 3 * bool(classes), *widths)
        stages = [R3Stage(a, b, b // 2, first=not i) for i, (a, b) in enumerate(zip(takes, widths, strict=False))]
        self.MainLayers = nn.ModuleList(stages)
        self.AggregationLayer = R3Convolution(widths[-1], 3)
        if classes:
            self.EmbeddingLayer = nn.Linear(classes, 3, bias=False)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        x = z
        if label:
            one_hot = F.one_hot(label[0], self.EmbeddingLayer.in_features).float()
            x = torch.cat((z, self.EmbeddingLayer(one_hot)), dim=1)
        for stage in self.MainLayers:
            x = stage(x)
        made: Tensor = self.AggregationLayer(x)
        return made


class R3Pickled(nn.Module):
    """What the pickles of R3GAN hold: the network in another module, stages that ran in half precision."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.Model = R3Net(classes)
        self.z_dim, self.c_dim = 6, classes
        setattr(self.Model.MainLayers[-1], "DataType", torch.bfloat16)  # noqa: B010

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        made: Tensor = self.Model(z, *label)
        return made
