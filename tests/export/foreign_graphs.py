"""Generators with branches as strangers write them, tiny: what the drafts of their files are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

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


def spectral(layer: nn.Module) -> nn.Module:
    made: nn.Module = nn.utils.spectral_norm(layer)
    return made


class NoiseInjection(nn.Module):
    """FastGAN's noise, of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight * 0


class Excitation(nn.Module):
    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(takes, makes, 4, bias=False), nn.Conv2d(makes, makes, 1, bias=False)
        self.main = nn.Sequential(nn.AdaptiveAvgPool2d(4), spectral(first), nn.SiLU(), spectral(second), nn.Sigmoid())

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        made: Tensor = large * self.main(small)
        return made


def fast_block(takes: int, makes: int, *, twice: bool) -> nn.Sequential:
    """A size of FastGAN: with noise where it has two convolutions."""
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
    for given in (takes, makes) if twice else (takes,):
        layers.append(spectral(nn.Conv2d(given, 2 * makes, 3, padding=1, bias=False)))
        layers += [*([NoiseInjection()] if twice else []), nn.BatchNorm2d(2 * makes), nn.GLU(dim=1)]
    return nn.Sequential(*layers)


class FastBlock(nn.Module):
    """A size of projected-gan's FastGAN with classes."""

    def __init__(self, takes: int, makes: int, z_dim: int) -> None:
        super().__init__()
        self.conv1 = spectral(nn.Conv2d(takes, 2 * makes, 3, padding=1, bias=False))
        self.conv2 = spectral(nn.Conv2d(makes, 2 * makes, 3, padding=1, bias=False))
        self.bn1, self.bn2 = (BrockNorm(2 * makes, z_dim) for _ in range(2))
        for norm in (self.bn1, self.bn2):
            norm.gain, norm.bias = (spectral(nn.Linear(z_dim, 2 * makes)) for _ in range(2))
        self.noise = NoiseInjection()

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = F.glu(norm(self.noise(conv(x)), style), dim=1)
        return x


class FastNet(nn.Module):
    """FastGAN, and with `projected` projected-gan's: six sizes at least, also where `size` is 128."""

    def __init__(
        self, size: int = 256, *, projected: bool = False, twice: bool | None = None, classes: int = 0
    ) -> None:
        super().__init__()
        self.size, self.projected, self.classes = size, projected, classes
        widths, sides = (6, 5, 4, 4, 3, 3, 2, 2), (8, 16, 32, 64, 128, 256, 512)
        init = spectral(nn.ConvTranspose2d(6, 2 * widths[0], 4, bias=False)), nn.BatchNorm2d(2 * widths[0])
        self.init = nn.ModuleDict({"init": nn.Sequential(*init, nn.GLU(dim=1))})
        self.sides = tuple(side for side in sides if side <= max(size, 256))
        for index, side in enumerate(self.sides):
            doubled = index % 2 == 0 if twice is None else twice
            block = fast_block(widths[index], widths[index + 1], twice=doubled)
            made = FastBlock(widths[index], widths[index + 1], 6) if classes else block
            self.add_module(f"feat_{side}", made)
            if side >= 64:
                self.add_module(f"se_{side}", Excitation(widths[index - 3], widths[index + 1]))
        last = widths[self.sides.index(size) + 1]
        self.to_big = spectral(nn.Conv2d(last, 3, 3, padding=1, bias=projected))
        if not projected:
            self.to_128 = spectral(nn.Conv2d(widths[5], 3, 1, bias=False))
        if classes:
            self.embed = nn.Embedding(classes, 6)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        made = {4: self.init["init"]((_unit(z) if self.projected else z)[:, :, None, None])}
        style = (self.embed(label[0]),) if label else ()
        for side in self.sides[: self.sides.index(self.size) + 1]:
            x = self.get_submodule(f"feat_{side}")(made[side // 2], *style)
            made[side] = self.get_submodule(f"se_{side}")(made[side // 16], x) if side >= 64 else x
        image: Tensor = self.to_big(made[self.size])
        return image


class ProjectedPickled(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.synthesis = FastNet(128, projected=True, **options)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        made: Tensor = self.synthesis(z, *label)
        return made
