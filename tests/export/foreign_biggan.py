"""BigGAN and BigGAN-deep as their author writes them, and BigGAN-deep as it was converted, tiny."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from export.foreign_graphs import NonLocal


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


class SetsNorm(nn.Module):
    """Statistics for several truncations, of which the last is used; `style` 0: with a weight and a bias."""

    def __init__(self, features: int, style: int = 0) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.randn(3, features))
        self.register_buffer("running_vars", torch.rand(3, features) + 0.5)
        if style:
            self.scale, self.offset = (spectral_norm(nn.Linear(style, features, bias=False)) for _ in range(2))
        else:
            self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        state = self.state_dict()
        x = F.batch_norm(x, state["running_means"][-1], state["running_vars"][-1], eps=1e-4)
        if style is None:
            return x * self.weight[:, None, None] + self.bias[:, None, None]
        made: Tensor = x * (1 + self.scale(style)[:, :, None, None]) + self.offset(style)[:, :, None, None]
        return made


class SetsBlock(nn.Module):
    def __init__(self, takes: int, makes: int, style: int, *, up: bool) -> None:
        super().__init__()
        hidden = takes // 4
        sizes = [(takes, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, makes, 1)]
        for number, (given, made, kernel) in enumerate(sizes):
            self.add_module(f"bn_{number}", SetsNorm(given, style))
            self.add_module(f"conv_{number}", spectral_norm(nn.Conv2d(given, made, kernel, padding=kernel // 2)))
        self.up, self.makes = up, makes

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = x
        for number in range(4):
            h = self.get_submodule(f"bn_{number}")(h, style).relu()
            if self.up and number == 1:
                h, x = (F.interpolate(each, scale_factor=2) for each in (h, x))
            h = self.get_submodule(f"conv_{number}")(h)
        return h + x[:, : self.makes]


class SetsAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = {"theta": (channels, channels // 8), "phi": (channels, channels // 8), "g": (channels, channels // 2)}
        for name, (takes, makes) in (sizes | {"o_conv": (channels // 2, channels)}).items():
            self.add_module(f"snconv1x1_{name}", spectral_norm(nn.Conv2d(takes, makes, 1, bias=False)))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        query: Tensor = self.get_submodule("snconv1x1_theta")(x).flatten(2)
        key, value = (F.max_pool2d(self.get_submodule(f"snconv1x1_{name}")(x), 2).flatten(2) for name in ("phi", "g"))
        seen = value @ (query.transpose(1, 2) @ key).softmax(-1).transpose(1, 2)
        out: Tensor = self.get_submodule("snconv1x1_o_conv")(seen.unflatten(2, x.shape[2:]))
        return x + self.gamma * out


class Converted(nn.Module):
    """BigGAN-deep as its TensorFlow weights were converted, of 16 pixels, with more channels at the end than images."""

    def __init__(self) -> None:
        super().__init__()
        z_dim, embedded, widths = 6, 5, (16, 16, 8, 8, 4)
        self.embeddings = nn.Linear(4, embedded, bias=False)
        blocks: list[nn.Module] = [
            SetsBlock(takes, makes, z_dim + embedded, up=index % 2 == 1)
            for index, (takes, makes) in enumerate(itertools.pairwise(widths))
        ]
        parts: dict[str, nn.Module] = {
            "gen_z": spectral_norm(nn.Linear(z_dim + embedded, 16 * 16)),
            "layers": nn.ModuleList([*blocks[:2], SetsAttention(8), *blocks[2:]]),
            "bn": SetsNorm(4),
            "conv_to_rgb": spectral_norm(nn.Conv2d(4, 4, 3, padding=1)),
        }
        self.generator = nn.ModuleDict(parts)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        style = torch.cat((z, self.embeddings(F.one_hot(label, 4).float())), dim=1)
        h = self.generator["gen_z"](style).unflatten(1, (4, 4, 16)).permute(0, 3, 1, 2)
        for part in self.generator["layers"].children():
            h = part(h) if isinstance(part, SetsAttention) else part(h, style)
        made: Tensor = self.generator["conv_to_rgb"](self.generator["bn"](h).relu())[:, :3]
        return made.tanh()
