"""Layers with weights: linear ones and convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from gan_core.fields import Features, Padding, Shape, Side
from gan_core.spec import Layer, Reach, expect, expect_image
from gan_core.spec.shape_layers import PaddingMode

MAX_ATTENDED = 1 << 28
"""Numbers of an attention matrix: 1 GiB of float32."""


@dataclass(frozen=True)
class Linear(Layer):
    """y = x Wᵀ + b on a vector. weight (out, in)."""

    kind: ClassVar[str] = "linear"
    in_features: Features
    out_features: Features
    bias: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape == (self.in_features,), f"takes a vector of {self.in_features}, gets {shape}")
        return (self.out_features,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features)} | _bias(self.bias, self.out_features)

    def products(self, shape: Shape) -> int:
        return math.prod(shape) * self.out_features

    def words(self) -> str:
        return f"linear {self.in_features} → {self.out_features}"

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.Linear(self.in_features, self.out_features, self.bias)


@dataclass(frozen=True)
class Conv(Layer):
    """torch.nn.Conv2d with square kernels. weight (out, in / groups, k, k)."""

    kind: ClassVar[str] = "conv"
    convolves: ClassVar[bool] = True
    in_channels: Features
    out_channels: Features
    kernel: Side
    stride: Side = 1
    padding: Padding = 0
    dilation: Side = 1
    groups: Features = 1
    bias: bool = True
    padding_mode: PaddingMode = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_groups(self)

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(c == self.in_channels, f"takes {self.in_channels} channels, gets {c}")
        if self.padding_mode in ("reflect", "circular"):
            most = min(h, w) - (self.padding_mode == "reflect")
            expect(self.padding <= most, f"padding {self.padding} is wider than {h}x{w} with {self.padding_mode}")
        reach = self.dilation * (self.kernel - 1) + 1
        out = tuple((side + 2 * self.padding - reach) // self.stride + 1 for side in (h, w))
        expect(min(out) >= 1, f"kernel {self.kernel} does not fit into {h}x{w}")
        return (self.out_channels, *out)

    def tensors(self) -> dict[str, Shape]:
        weight = (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)
        return {"weight": weight} | _bias(self.bias, self.out_channels)

    def products(self, shape: Shape) -> int:
        return math.prod(self.out_shape(shape)[1:]) * math.prod(self.tensors()["weight"])

    def reach(self) -> Reach | None:
        last = self.dilation * (self.kernel - 1) - self.padding
        return None if self.padding_mode == "circular" else Reach(-self.padding, last, self.stride)

    def words(self) -> str:
        return _convolution_words(self)

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel, self.stride, self.padding, self.dilation, self.groups,
            self.bias, self.padding_mode,
        )  # fmt: skip


@dataclass(frozen=True)
class ConvTranspose(Layer):
    """torch.nn.ConvTranspose2d with square kernels. weight (in, out / groups, k, k)."""

    kind: ClassVar[str] = "conv_transpose"
    convolves: ClassVar[bool] = True
    in_channels: Features
    out_channels: Features
    kernel: Side
    stride: Side = 1
    padding: Padding = 0
    output_padding: Padding = 0
    dilation: Side = 1
    groups: Features = 1
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_groups(self)
        least = max(self.stride, self.dilation)
        expect(self.output_padding < least, f"output_padding {self.output_padding} must be below {least}")

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(c == self.in_channels, f"takes {self.in_channels} channels, gets {c}")
        reach = self.dilation * (self.kernel - 1) + 1
        out = tuple((side - 1) * self.stride - 2 * self.padding + reach + self.output_padding for side in (h, w))
        expect(min(out) >= 1, f"makes a {out[0]}x{out[1]} image of {h}x{w}")
        return (self.out_channels, *out)

    def tensors(self) -> dict[str, Shape]:
        weight = (self.in_channels, self.out_channels // self.groups, self.kernel, self.kernel)
        return {"weight": weight} | _bias(self.bias, self.out_channels)

    def products(self, shape: Shape) -> int:
        return math.prod(shape[1:]) * math.prod(self.tensors()["weight"])

    def reach(self) -> Reach:
        """Output pixel o sees input pixel (o + padding - tap) / stride, where that is whole."""
        last = self.dilation * (self.kernel - 1)
        step = Fraction(1, self.stride)
        return Reach((self.padding - last) * step, self.padding * step, step)

    def words(self) -> str:
        return _convolution_words(self, f" op{self.output_padding}" if self.output_padding else "")

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.ConvTranspose2d(
            self.in_channels, self.out_channels, self.kernel, self.stride, self.padding, self.output_padding,
            self.groups, self.bias, self.dilation,
        )  # fmt: skip


@dataclass(frozen=True)
class Attention(Layer):
    """Self-attention over the places of an image, as in SAGAN (Zhang et al. 2019, arXiv:1805.08318) and BigGAN.

    x + out(softmax(queryᵀ key) value): four 1x1 convolutions, key and value max-pooled by `pool`. A learned gain of the
    block (gamma) is a factor of `out.weight`.
    keys, values  the channels of query and key, and of value
    bias          whether query, key and value have biases

    Every place has a weight for every pooled place; more than `MAX_ATTENDED` of them are refused.
    """

    kind: ClassVar[str] = "attention"
    convolves: ClassVar[bool] = True
    channels: Features
    keys: Features
    values: Features
    pool: Side = 2
    bias: bool = False

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(c == self.channels, f"takes {self.channels} channels, gets {c}")
        expect(h % self.pool == w % self.pool == 0, f"pools by {self.pool}, which does not divide {h}x{w}")
        expect(self._attended(shape) <= MAX_ATTENDED, f"attends over {h}x{w}, which takes too much memory")
        return shape

    def _attended(self, shape: Shape) -> int:
        return math.prod(shape[1:]) ** 2 // self.pool**2

    def tensors(self) -> dict[str, Shape]:
        sizes = {"query": self.keys, "key": self.keys, "value": self.values}
        made: dict[str, Shape] = {f"{name}.weight": (size, self.channels, 1, 1) for name, size in sizes.items()}
        made |= {f"{name}.bias": (size,) for name, size in sizes.items()} if self.bias else {}
        return made | {"out.weight": (self.channels, self.values, 1, 1)}

    def products(self, shape: Shape) -> int:
        places = math.prod(shape[1:])
        return (2 * places * self.channels + self._attended(shape)) * (self.keys + self.values)

    def words(self) -> str:
        return f"attention {self.channels}, keys {self.keys}, values {self.values}, pool {self.pool}"

    def module(self, nn: Any, shape: Shape) -> Any:
        sizes = {name.removesuffix(".weight"): size[:2] for name, size in self.tensors().items() if len(size) == 4}
        biases = {name: self.bias and name != "out" for name in sizes}
        return nn.ModuleDict({name: nn.Conv2d(i, o, 1, bias=biases[name]) for name, (o, i) in sizes.items()})

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        key, value = (torch.nn.functional.max_pool2d(module[name](x), self.pool) for name in ("key", "value"))
        query, key, value = (part.flatten(2) for part in (module["query"](x), key, value))
        attention = torch.softmax(query.transpose(1, 2) @ key, dim=2)
        attended = (attention @ value.transpose(1, 2)).transpose(1, 2)
        return x + module["out"](attended.unflatten(2, x.shape[2:]))


def _expect_groups(layer: Conv | ConvTranspose) -> None:
    for side, channels in (("in", layer.in_channels), ("out", layer.out_channels)):
        expect(channels % layer.groups == 0, f"{layer.groups} groups do not divide {channels} {side}_channels")


def _convolution_words(layer: Conv | ConvTranspose, extra: str = "") -> str:
    extra += f" groups {layer.groups}" if layer.groups > 1 else ""
    extra += f" dilation {layer.dilation}" if layer.dilation > 1 else ""
    sizes = f"k{layer.kernel} s{layer.stride} p{layer.padding}{extra}"
    return f"{layer.kind} {layer.in_channels} → {layer.out_channels}, {sizes}"


def _bias(bias: bool, n: int) -> dict[str, Shape]:
    return {"bias": (n,)} if bias else {}
