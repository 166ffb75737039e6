"""The layers a `GeneratorSpec` is made of: plain data, with every number that the weights do not carry.

Each layer knows its JSON fields, the shape it makes of a per-sample input shape, the tensors it owns (name → shape, as
in the state_dict of `gan_trainer.networks.build`), and its work. Here are those with weights and the elementwise ones;
`norm_layers` and `shape_layers` have the others. No torch here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from gan_core.spec.fields import Classes, Features, Number, Padding, Shape, Side, SpecError, shown
from gan_core.spec.layer import Layer, expect, expect_image
from gan_core.spec.norm_layers import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    PixelNorm,
    RmsNorm,
)
from gan_core.spec.shape_layers import (
    AdaptivePool,
    ChannelShuffle,
    Glu,
    Pad,
    PaddingMode,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Reshape,
    Upsample,
    UpsampleMode,
)

__all__ = [
    "ACTIVATIONS", "LAYER_KINDS", "LIMITED", "MERGES", "SLOPED", "Activation", "ActivationName", "AdaptivePool",
    "BatchNorm", "ChannelShuffle", "Conv", "ConvTranspose", "Glu", "GroupNorm", "InstanceNorm", "LabelEmbedding",
    "LabelOneHot", "Layer", "LayerNorm", "Linear", "LocalResponseNorm", "Merge", "Pad", "PaddingMode", "PixelNorm",
    "PixelShuffle", "PixelUnshuffle", "Pool", "Reshape", "RmsNorm", "Shape", "SpecError", "Upsample", "UpsampleMode",
    "layer_from_json",
]  # fmt: skip

ActivationName = Literal[
    "relu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "tanh", "sigmoid", "hardtanh", "identity",
    "gelu_tanh", "hardsigmoid", "hardswish", "softsign", "log_sigmoid", "tanhshrink", "hardshrink", "softshrink",
    "threshold", "softmax", "log_softmax",
]  # fmt: skip
ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)
SLOPED: dict[str, float] = {"leaky_relu": 0.01, "elu": 1.0, "celu": 1.0, "hardshrink": 0.5, "softshrink": 0.5}
"""Activations that have a `slope`, and torch's default."""
LIMITED: dict[str, tuple[float, float]] = {"hardtanh": (-1.0, 1.0), "softplus": (1.0, 20.0), "threshold": (0.0, 0.0)}
"""Activations that have `limits`, and torch's default."""
Merge = Literal["z_label", "label_z", "multiply"]
MERGES: tuple[Merge, ...] = get_args(Merge)


@dataclass(frozen=True)
class Linear(Layer):
    """y = x Wᵀ + b on a vector. weight (out, in)."""

    kind: ClassVar[str] = "linear"
    in_features: Features
    out_features: Features
    bias: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        expect(shape == (self.in_features,), f"takes a vector of {self.in_features}, gets {shape}")
        return (self.out_features,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features)} | _bias(self.bias, self.out_features)

    def products(self, shape: Shape) -> int:
        return math.prod(shape) * self.out_features


@dataclass(frozen=True)
class Conv(Layer):
    """torch.nn.Conv2d with square kernels. weight (out, in / groups, k, k)."""

    kind: ClassVar[str] = "conv"
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

    def out_shape(self, shape: Shape) -> Shape:
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


@dataclass(frozen=True)
class ConvTranspose(Layer):
    """torch.nn.ConvTranspose2d with square kernels. weight (in, out / groups, k, k)."""

    kind: ClassVar[str] = "conv_transpose"
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

    def out_shape(self, shape: Shape) -> Shape:
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


@dataclass(frozen=True)
class Activation(Layer):
    """An elementwise function, or a softmax over dimension 1.

    slope     LeakyReLU's negative slope, alpha of ELU and CELU, lambda of the shrinks; None is torch's default
    limits    hardtanh's (least, greatest), softplus's (beta, threshold), threshold's (threshold, value); None likewise
    features  PReLU's slopes, its tensor `weight`: 1 or the number of channels
    """

    kind: ClassVar[str] = "activation"
    name: ActivationName
    slope: Number | None = None
    features: Features = 1
    limits: tuple[Number, Number] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self.slope is None or self.name in SLOPED, f"slope has no meaning for {self.name}, got {self.slope}")
        expect(self.limits is None or self.name in LIMITED, f"limits have no meaning for {self.name}")
        expect(self.features == 1 or self.name == "prelu", f"features have no meaning for {self.name}")
        if self.limits is not None:
            low, high = self.limits
            expect(self.name != "hardtanh" or low < high, f"limits must be (least, greatest), got {self.limits}")
            expect(self.name != "softplus" or low != 0, f"limits must be (beta, threshold), beta not 0: {self.limits}")

    def out_shape(self, shape: Shape) -> Shape:
        fits = self.name != "prelu" or self.features in (1, shape[0])
        expect(fits, f"has {self.features} slopes, gets {shape[0]} features")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,)} if self.name == "prelu" else {}


@dataclass(frozen=True)
class LabelEmbedding(Layer):
    """torch.nn.Embedding of the label, joined with the latent vector; weight (n_classes, dim).

    merge "z_label" concatenates (z, embedding), "label_z" (embedding, z), "multiply" takes the product
    (then dim is z_dim). Only as the first layer, or after a reshape of z to a vector.
    """

    kind: ClassVar[str] = "label_embedding"
    n_classes: Classes
    dim: Features
    merge: Merge = "z_label"

    def out_shape(self, shape: Shape) -> Shape:
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        if self.merge == "multiply":
            expect(shape == (self.dim,), f"multiplies a vector of {self.dim}, gets {shape}")
            return shape
        return (shape[0] + self.dim,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.n_classes, self.dim)}


@dataclass(frozen=True)
class LabelOneHot(Layer):
    """The label as a one-hot vector, concatenated with the latent; owns no tensors."""

    kind: ClassVar[str] = "label_one_hot"
    n_classes: Classes
    merge: Literal["z_label", "label_z"] = "z_label"

    def out_shape(self, shape: Shape) -> Shape:
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        return (shape[0] + self.n_classes,)


LAYER_KINDS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear, Conv, ConvTranspose, Upsample, PixelShuffle, PixelUnshuffle, ChannelShuffle, Glu, Pool, AdaptivePool,
        Pad, BatchNorm, InstanceNorm, GroupNorm, LayerNorm, RmsNorm, LocalResponseNorm, PixelNorm, Activation, Reshape,
        LabelEmbedding, LabelOneHot,
    )
}  # fmt: skip


def layer_from_json(values: Any) -> Layer:
    """One layer from its JSON object. Raises `SpecError` for an unknown kind, and for a field that is unknown, missing,
    of another type or out of its range."""
    kinds = f"kinds: {', '.join(LAYER_KINDS)}"
    if not isinstance(values, dict) or "kind" not in values:
        raise SpecError("a layer must be an object with a 'kind'", hint=kinds)
    kind = values["kind"]
    if not isinstance(kind, str) or kind not in LAYER_KINDS:
        raise SpecError(f"unknown layer kind {shown(kind)}", hint=kinds)
    known = {field.name: field for field in dataclasses.fields(LAYER_KINDS[kind])}
    unknown = sorted(set(values) - set(known) - {"kind"})
    missing = sorted(
        name for name, field in known.items() if field.default is dataclasses.MISSING and name not in values
    )
    for words, names in (("unknown field", unknown), ("lacks the field", missing)):
        if names:
            raise SpecError(f"{kind}: {words} {shown(names[0])}", hint=f"fields of {kind}: {', '.join(sorted(known))}")
    arguments = {name: _tuples(value) for name, value in values.items() if name != "kind"}
    return LAYER_KINDS[kind](**arguments)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _expect_groups(layer: Conv | ConvTranspose) -> None:
    for side, channels in (("in", layer.in_channels), ("out", layer.out_channels)):
        expect(channels % layer.groups == 0, f"{layer.groups} groups do not divide {channels} {side}_channels")


def _bias(bias: bool, n: int) -> dict[str, Shape]:
    return {"bias": (n,)} if bias else {}
