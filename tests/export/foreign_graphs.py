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
    state = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in state.items():
            if not tensor.is_floating_point() or name.endswith(("_u", "_v", "u0", "sv0")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            positive = name.endswith("var")
            tensor.copy_(tensor + 0.5 * noise.abs() if positive else tensor + 0.2 * noise)
        for name in [name for name in state if name.endswith("weight_u")]:  # as training leaves them
            left, _, right = torch.linalg.svd(state[name.replace("_u", "_orig")].flatten(1))
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


class BrockNorm(nn.Module):
    """BigGAN's conditional batch norm; `standing`: its statistics are sums over `accumulation_counter` batches."""

    def __init__(self, features: int, style: int, classes: int = 0, *, standing: bool = False) -> None:
        super().__init__()
        table = nn.Embedding(classes, features), nn.Embedding(classes, features)
        linear = normed(nn.Linear(style, features, bias=False)), normed(nn.Linear(style, features, bias=False))
        self.gain, self.bias = table if classes else linear
        holder = nn.Module() if standing else self
        holder.register_buffer("stored_mean", torch.zeros(features))
        holder.register_buffer("stored_var", torch.ones(features))
        if standing:
            holder.register_buffer("accumulation_counter", torch.full((1,), 4.0))
            self.bn = holder

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, bias = (part(style)[:, :, None, None] for part in (self.gain, self.bias))
        made: Tensor = _stored(self, x) * (1 + gain) + bias
        return made


class BrockEnd(nn.Module):
    def __init__(self, features: int, *, standing: bool = False) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        unconditional = BrockNorm(features, 1, standing=standing)
        if standing:
            self.bn = unconditional.bn
        else:
            self.register_buffer("stored_mean", torch.zeros(features))
            self.register_buffer("stored_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return _stored(self, x) * self.gain[:, None, None] + self.bias[:, None, None]


def _stored(norm: nn.Module, x: Tensor) -> Tensor:
    state = norm.state_dict()
    count = state.get("bn.accumulation_counter", torch.ones(1)).clamp_min(1)
    stem = "bn." if "bn.stored_mean" in state else ""
    mean, var = state[f"{stem}stored_mean"] / count, state[f"{stem}stored_var"] / count
    made: Tensor = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return made


def normed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """A layer with BigGAN's buffers of a spectral norm, `u0` and `sv0`; its weight is divided in `forward`."""
    layer.register_buffer("u0", torch.randn(1, layer.weight.shape[0]))
    layer.register_buffer("sv0", torch.ones(1))

    def divided(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        matrix, u = module.weight.flatten(1), module.u0
        assert isinstance(u, Tensor)
        v = F.normalize(u @ matrix)
        sigma = (F.normalize(v @ matrix.T) @ matrix @ v.T).squeeze()
        bias = 0 if module.bias is None else module.bias.reshape(-1, *(1 for _ in output.shape[2:]))
        return (output - bias) / sigma + bias

    layer.register_forward_hook(divided)
    return layer


class BrockBlock(nn.Module):
    def __init__(self, takes: int, makes: int, style: int, classes: int, deep: bool, upsample: bool, standing: bool):
        super().__init__()
        hidden = takes // 4
        inside = [(takes, makes, 3), (makes, makes, 3)]
        if deep:
            inside = [(takes, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, makes, 1)]
        for number, (given, made, kernel) in enumerate(inside, 1):
            setattr(self, f"conv{number}", normed(nn.Conv2d(given, made, kernel, padding=kernel // 2)))
            setattr(self, f"bn{number}", BrockNorm(given, style, classes, standing=standing))
        if not deep:
            self.conv_sc = normed(nn.Conv2d(takes, makes, 1))
        self.doubled = (2 if deep else 1) if upsample else 0
        self.count, self.makes = len(inside), makes

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = x
        for number in range(1, self.count + 1):
            h = self.get_submodule(f"bn{number}")(h, style).relu()
            if number == self.doubled:
                h, x = (F.interpolate(each, scale_factor=2) for each in (h, x))
            h = self.get_submodule(f"conv{number}")(h)
        beside: Tensor = self.conv_sc(x) if hasattr(self, "conv_sc") else x[:, : self.makes]
        return h + beside


class Brock(nn.Module):
    """BigGAN (hierarchical, or with tables for its norms) and BigGAN-deep, of 16 pixels."""

    def __init__(self, *, deep: bool = False, tables: bool = False, standing: bool = False) -> None:
        super().__init__()
        classes, embedded, self.chunk, self.deep = 4, 5, 3, deep
        widths = (16, 16, 8, 8, 8) if deep else (16, 8, 8)
        takes = embedded + 6 if deep else 6 if tables else self.chunk
        style = embedded + (6 if deep else self.chunk)
        self.shared = nn.Embedding(classes, embedded) if not tables else nn.Identity()
        self.linear = normed(nn.Linear(takes, 16 * 16))
        self.blocks = nn.ModuleList()
        for index, (given, made) in enumerate(itertools.pairwise(widths)):
            upsample = not deep or index % 2 == 1
            block = BrockBlock(given, made, style, classes if tables else 0, deep, upsample, standing)
            self.blocks.append(nn.ModuleList([block, NonLocal(made)] if index == 1 else [block]))
        self.output_layer = nn.Sequential(
            BrockEnd(widths[-1], standing=standing), nn.ReLU(), normed(nn.Conv2d(widths[-1], 3, 3, padding=1))
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        style = self.shared(label)
        if self.deep:
            styles = [z := torch.cat((style, z), dim=1)] * len(self.blocks)
        elif style.dim() == 1:
            styles = [style] * len(self.blocks)
        else:
            z, *chunks = z.split(self.chunk, dim=1)
            styles = [torch.cat((style, chunk), dim=1) for chunk in chunks]
        h = self.linear(z).unflatten(1, (16, 4, 4))
        for parts, taken in zip(self.blocks, styles, strict=True):
            assert isinstance(parts, nn.ModuleList)
            h = parts[0](h, taken)
            h = parts[1](h) if len(parts) > 1 else h
        return torch.tanh(self.output_layer(h))
