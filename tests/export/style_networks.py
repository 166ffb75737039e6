"""Small networks with styles, with the keys of NVlabs' and rosinality's code, computed the long way: a kernel for each
image. And their pickles, whose classes bring their source."""

from __future__ import annotations

import io
import math
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, pad


def normalised(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def resampled(x: Tensor, kernel: Tensor, up: int, before: int, behind: int) -> Tensor:
    """Zeros between pixels, zeros around, and a convolution of each channel."""
    n, c, h, w = x.shape
    wide = torch.zeros(n, c, h * up, w * up)
    wide[:, :, ::up, ::up] = x
    wide = pad(wide, (before, behind, before, behind))
    return conv2d(wide, kernel.flip((0, 1)).expand(c, 1, *kernel.shape), groups=c)


def modulated(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False) -> Tensor:
    """One kernel an image; a transposed convolution as a convolution of the image with zeros between its pixels."""
    made = []
    for image, scale in zip(x, style, strict=True):
        kernel = weight * scale.reshape(1, -1, 1, 1)
        if demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        k = kernel.shape[-1]
        if up:
            wide = torch.zeros(1, image.shape[0], 2 * image.shape[1] - 1, 2 * image.shape[2] - 1)
            wide[0, :, ::2, ::2] = image
            made.append(conv2d(wide, kernel.flip((2, 3)), padding=k - 1))
        else:
            made.append(conv2d(image[None], kernel, padding=k // 2))
    return torch.cat(made)


class Dense(nn.Module):
    def __init__(
        self, before: int, after: int, rate: float = 1.0, activation: str = "linear", mean: float = 0.0
    ) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(after, before) / rate),
            nn.Parameter(torch.randn(after) + mean),
        )
        self.activation, self.weight_gain, self.bias_gain = activation, rate / math.sqrt(before), rate

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.weight * self.weight_gain).T + self.bias * self.bias_gain
        return x if self.activation == "linear" else leaky_relu(x, 0.2) * math.sqrt(2)


class SynthesisLayer(nn.Module):
    def __init__(self, before: int, out: int, w_dim: int, side: int, up: int = 1, clamp: float | None = 2.0) -> None:
        super().__init__()
        self.up, self.conv_clamp, self.activation = up, clamp, "lrelu"
        self.affine = Dense(w_dim, before, mean=1.0)
        self.weight = nn.Parameter(torch.randn(out, before, 3, 3))
        self.bias, self.noise_strength = nn.Parameter(torch.randn(out)), nn.Parameter(torch.randn([]))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.register_buffer("resample_filter", torch.rand(4, 4))

    def forward(self, x: Tensor, w: Tensor, gain: float, noise: float) -> Tensor:
        x = modulated(x, self.weight, self.affine(w), demodulate=True, up=self.up == 2)
        if self.up == 2:
            x = resampled(x, 4 * self.get_buffer("resample_filter"), 1, 1, 1)
        x = x + noise * self.noise_strength * self.get_buffer("noise_const") + self.bias.reshape(1, -1, 1, 1)
        x = leaky_relu(x, 0.2) * math.sqrt(2) * gain
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)


class ToRGBLayer(nn.Module):
    def __init__(self, before: int, channels: int, w_dim: int, clamp: float | None = 2.0) -> None:
        super().__init__()
        self.conv_clamp, self.affine = clamp, Dense(w_dim, before, mean=1.0)
        self.weight = nn.Parameter(0.3 * torch.randn(channels, before, 1, 1))
        self.bias = nn.Parameter(0.1 * torch.randn(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) / math.sqrt(x.shape[1])
        x = modulated(x, self.weight, style, demodulate=False) + self.bias.reshape(1, -1, 1, 1)
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class Skip(nn.Module):
    def __init__(self, before: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, before, 1, 1))
        self.register_buffer("resample_filter", torch.rand(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = conv2d(x, self.weight / math.sqrt(x.shape[1]))
        return resampled(x, 4 * self.get_buffer("resample_filter"), 2, 2, 1) * math.sqrt(0.5)


class Generator(nn.Module):
    """NVlabs' keys. forward(z, class, psi, ws of its own, noise)."""

    def __init__(self, architecture: str = "skip", n_classes: int = 0, channels: tuple[int, ...] = (5, 4, 3)) -> None:
        super().__init__()
        self.architecture, self.w_dim, self.n_classes, self.widths = architecture, 6, n_classes, channels
        self.synthesis, self.mapping = nn.Module(), nn.Module()
        for index, out in enumerate(channels):
            block, side = nn.Module(), 4 << index
            block.register_buffer("resample_filter", torch.rand(4, 4))
            if index:
                block.conv0 = SynthesisLayer(channels[index - 1], out, 6, side, up=2)
                if architecture == "resnet":
                    block.skip = Skip(channels[index - 1], out)
            else:
                block.const = nn.Parameter(torch.randn(out, 4, 4))
            block.conv1 = SynthesisLayer(out, out, 6, side)
            if architecture == "skip" or index == len(channels) - 1:
                block.torgb = ToRGBLayer(out, 3, 6)
            setattr(self.synthesis, f"b{side}", block)
        if n_classes:
            self.mapping.embed = Dense(n_classes, 4)
        self.mapping.fc0 = Dense(7 + 4 * bool(n_classes), 5, 0.02, "lrelu")
        self.mapping.fc1 = Dense(5, 6, 0.02, "lrelu")
        self.mapping.register_buffer("w_avg", torch.randn(6))

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        psi: float = 1.0,
        ws: Tensor | None = None,
        noise: float = 1.0,
    ) -> Tensor:
        part: Any = self.mapping
        x = normalised(z)
        if label is not None:
            x = torch.cat((x, normalised(part.embed(torch.eye(self.n_classes)[label]))), dim=1)
        w = part.w_avg.lerp(part.fc1(part.fc0(x)), psi)
        ws = w[:, None].expand(-1, 2 * len(self.widths), -1) if ws is None else ws
        image, row = None, 0
        for index in range(len(self.widths)):
            block: Any = self.synthesis.get_submodule(f"b{4 << index}")
            residual = self.architecture == "resnet" and index > 0
            if index:
                y = block.skip(x) if residual else 0
                x = block.conv0(x, ws[:, row], 1.0, noise)
                x = block.conv1(x, ws[:, row + 1], math.sqrt(0.5) if residual else 1.0, noise) + y
                row += 2
            else:
                x = block.const.expand(len(z), *block.const.shape)
                x, row = block.conv1(x, ws[:, 0], 1.0, noise), 1
            if image is not None:
                image = resampled(image, 4 * block.resample_filter, 2, 2, 1)
            if hasattr(block, "torgb"):
                rgb = block.torgb(x, ws[:, row])
                image = rgb if image is None else image + rgb
        assert isinstance(image, Tensor)
        return image


class Rosinality(nn.Module):
    """rosinality's keys, as a dictionary of tensors and what is computed of them."""

    def __init__(self, channels: tuple[int, ...] = (5, 4, 3), w_dim: int = 6) -> None:
        super().__init__()
        self.widths, held = channels, dict[str, Tensor]()
        for n in (1, 2):
            held |= {f"style.{n}.weight": 100 * torch.randn(w_dim, w_dim), f"style.{n}.bias": torch.randn(w_dim)}
        held["input.input"] = torch.randn(1, channels[0], 4, 4)
        held |= self._conv("conv1", channels[0], channels[0], w_dim) | self._rgb("to_rgb1", channels[0], w_dim)
        held["noises.noise_0"] = torch.randn(1, 1, 4, 4)
        for n, (before, out) in enumerate(pairwise(channels)):
            for half, width in enumerate((before, out)):
                held |= self._conv(f"convs.{2 * n + half}", width, out, w_dim)
                held[f"noises.noise_{2 * n + half + 1}"] = torch.randn(1, 1, 8 << n, 8 << n)
            held[f"convs.{2 * n}.conv.blur.kernel"] = torch.rand(4, 4)
            held |= self._rgb(f"to_rgbs.{n}", out, w_dim) | {f"to_rgbs.{n}.upsample.kernel": torch.rand(4, 4)}
        self.held = held

    @staticmethod
    def _modulation(name: str, shape: tuple[int, ...], w_dim: int) -> dict[str, Tensor]:
        return {
            f"{name}.conv.weight": torch.randn(shape),
            f"{name}.conv.modulation.weight": torch.randn(shape[2], w_dim),
            f"{name}.conv.modulation.bias": 1 + torch.randn(shape[2]),
        }

    def _conv(self, name: str, before: int, out: int, w_dim: int) -> dict[str, Tensor]:
        own = {f"{name}.noise.weight": torch.randn(1), f"{name}.activate.bias": torch.randn(out)}
        return self._modulation(name, (1, out, before, 3, 3), w_dim) | own

    def _rgb(self, name: str, before: int, w_dim: int) -> dict[str, Tensor]:
        return self._modulation(name, (1, 3, before, 1, 1), w_dim) | {f"{name}.bias": 0.1 * torch.randn(1, 3, 1, 1)}

    def _modulated(self, name: str, x: Tensor, w: Tensor, **how: bool) -> Tensor:
        weight, held = self.held[f"{name}.conv.weight"][0], self.held
        affine = held[f"{name}.conv.modulation.weight"] / math.sqrt(w.shape[1])
        style = w @ affine.T + held[f"{name}.conv.modulation.bias"]
        return modulated(x, weight / math.sqrt(weight[0].numel()), style, **how)

    def _styled(self, n: int, x: Tensor, w: Tensor, noise: float) -> Tensor:
        name = f"convs.{n - 1}" if n else "conv1"
        x = self._modulated(name, x, w, demodulate=True, up=n % 2 == 1)
        if n % 2:
            x = resampled(x, self.held[f"{name}.conv.blur.kernel"], 1, 1, 1)
        x = x + noise * self.held[f"{name}.noise.weight"] * self.held[f"noises.noise_{n}"]
        return leaky_relu(x + self.held[f"{name}.activate.bias"].reshape(1, -1, 1, 1), 0.2) * math.sqrt(2)

    def w(self, z: Tensor) -> Tensor:
        x = normalised(z)
        for n in (1, 2):
            weight = self.held[f"style.{n}.weight"] * 0.01 / math.sqrt(x.shape[1])
            x = leaky_relu(x @ weight.T + 0.01 * self.held[f"style.{n}.bias"], 0.2) * math.sqrt(2)
        return x

    def forward(self, ws: Tensor, noise: float = 1.0) -> Tensor:
        x = self._styled(0, self.held["input.input"].expand(len(ws), -1, -1, -1), ws[:, 0], noise)
        image = self._modulated("to_rgb1", x, ws[:, 1], demodulate=False) + self.held["to_rgb1.bias"]
        for n in range(len(self.widths) - 1):
            for half in (1, 2):
                x = self._styled(2 * n + half, x, ws[:, 2 * n + half], noise)
            rgb = (
                self._modulated(f"to_rgbs.{n}", x, ws[:, 2 * n + 3], demodulate=False) + self.held[f"to_rgbs.{n}.bias"]
            )
            image = rgb + resampled(image, self.held[f"to_rgbs.{n}.upsample.kernel"], 2, 2, 1)
        return image


class _Persistent(pickle.Pickler):
    """Modules as NVlabs' torch_utils.persistence pickles them: a function's name, and a dictionary with the source."""

    def __init__(self, file: io.BytesIO, source: str, restored: Any) -> None:
        super().__init__(file)
        self.source, self.restored = source, restored

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, nn.Module):
            return NotImplemented
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": type(value).__name__,
            "state": value.__dict__,
        }
        return self.restored, (meta,)


def persistent(content: object, source: str) -> bytes:
    """The pickle of `content` whose modules bring `source`."""
    package, module = ModuleType("torch_utils"), ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: object) -> object:
        return meta

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    file = io.BytesIO()
    sys.modules |= {package.__name__: package, module.__name__: module}
    try:
        _Persistent(file, source, _reconstruct_persistent_obj).dump(content)
    finally:
        del sys.modules[package.__name__], sys.modules[module.__name__]
    return file.getvalue()


def save_weights(path: Path) -> Path:
    """The weights of a network of two classes, whose images use the whole range."""
    torch.manual_seed(7)
    weights = Generator(n_classes=2).state_dict()
    small = {"torgb": 0.2, "filter": 1 / 8}  # filters that sum to 1, and images within the range
    for name, tensor in weights.items():
        tensor.mul_(next((factor for part, factor in small.items() if part in name), 1.0))
    torch.save(weights, path)
    return path
