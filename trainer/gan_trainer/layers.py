"""The layers a `GeneratorSpec` is made of: plain data, with every number that the weights do not carry.

Each layer knows three things: its JSON fields, the shape it makes of a per-sample input shape, and the tensors
it owns (name → shape, as in the state_dict of `gan_trainer.build`). No torch here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from gan_serve.errors import GanportError

Shape = tuple[int, ...]

ActivationName = Literal[
    "relu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "tanh", "sigmoid", "hardtanh", "identity",
]  # fmt: skip
ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)
Merge = Literal["z_label", "label_z", "multiply"]
MERGES: tuple[Merge, ...] = get_args(Merge)
UpsampleMode = Literal["nearest", "bilinear"]


class SpecError(GanportError):
    """A `GeneratorSpec` that describes no network: the message names the layer and what does not fit."""


@dataclass(frozen=True)
class Layer:
    """Base of all layers. `kind` is the name in JSON."""

    kind: ClassVar[str]

    def out_shape(self, shape: Shape) -> Shape:
        """The per-sample shape after this layer. Raises `SpecError` when `shape` does not fit."""
        return shape

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the layer's own tensors, buffers included (without num_batches_tracked)."""
        return {}

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclass(frozen=True)
class Linear(Layer):
    """y = x Wᵀ + b on a vector. weight (out, in)."""

    kind: ClassVar[str] = "linear"
    in_features: int
    out_features: int
    bias: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        _expect(shape == (self.in_features,), f"takes a vector of {self.in_features}, gets {shape}")
        return (self.out_features,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features)} | _bias(self.bias, self.out_features)


@dataclass(frozen=True)
class Conv(Layer):
    """torch.nn.Conv2d with square kernels. weight (out, in / groups, k, k)."""

    kind: ClassVar[str] = "conv"
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    def out_shape(self, shape: Shape) -> Shape:
        c, h, w = _expect_image(shape)
        _expect(c == self.in_channels, f"takes {self.in_channels} channels, gets {c}")
        reach = self.dilation * (self.kernel - 1) + 1
        out = tuple((side + 2 * self.padding - reach) // self.stride + 1 for side in (h, w))
        _expect(min(out) >= 1, f"kernel {self.kernel} does not fit into {h}x{w}")
        return (self.out_channels, *out)

    def tensors(self) -> dict[str, Shape]:
        weight = (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)
        return {"weight": weight} | _bias(self.bias, self.out_channels)


@dataclass(frozen=True)
class ConvTranspose(Layer):
    """torch.nn.ConvTranspose2d with square kernels. weight (in, out / groups, k, k)."""

    kind: ClassVar[str] = "conv_transpose"
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        c, h, w = _expect_image(shape)
        _expect(c == self.in_channels, f"takes {self.in_channels} channels, gets {c}")
        reach = self.dilation * (self.kernel - 1) + 1
        out = tuple((side - 1) * self.stride - 2 * self.padding + reach + self.output_padding for side in (h, w))
        _expect(min(out) >= 1, f"makes a {out[0]}x{out[1]} image of {h}x{w}")
        return (self.out_channels, *out)

    def tensors(self) -> dict[str, Shape]:
        weight = (self.in_channels, self.out_channels // self.groups, self.kernel, self.kernel)
        return {"weight": weight} | _bias(self.bias, self.out_channels)


@dataclass(frozen=True)
class Upsample(Layer):
    """torch.nn.Upsample by a whole factor. `align_corners` matters for bilinear only."""

    kind: ClassVar[str] = "upsample"
    factor: int = 2
    mode: UpsampleMode = "nearest"
    align_corners: bool = False

    def out_shape(self, shape: Shape) -> Shape:
        c, h, w = _expect_image(shape)
        return (c, h * self.factor, w * self.factor)


@dataclass(frozen=True)
class PixelShuffle(Layer):
    """torch.nn.PixelShuffle: (C f², H, W) → (C, H f, W f)."""

    kind: ClassVar[str] = "pixel_shuffle"
    factor: int = 2

    def out_shape(self, shape: Shape) -> Shape:
        c, h, w = _expect_image(shape)
        _expect(c % self.factor**2 == 0, f"needs a multiple of {self.factor**2} channels, gets {c}")
        return (c // self.factor**2, h * self.factor, w * self.factor)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """torch.nn.BatchNorm1d on a vector, BatchNorm2d on an image: y = w (x - mean) / sqrt(var + eps) + b."""

    kind: ClassVar[str] = "batch_norm"
    features: int
    eps: float = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        _expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        names = ("weight", "bias", "running_mean", "running_var") if self.affine else ("running_mean", "running_var")
        return dict.fromkeys(names, (self.features,))


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """torch.nn.InstanceNorm2d without running statistics."""

    kind: ClassVar[str] = "instance_norm"
    features: int
    eps: float = 1e-5
    affine: bool = False

    def out_shape(self, shape: Shape) -> Shape:
        c, _, _ = _expect_image(shape)
        _expect(c == self.features, f"takes {self.features} channels, gets {c}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,), "bias": (self.features,)} if self.affine else {}


@dataclass(frozen=True)
class GroupNorm(Layer):
    """torch.nn.GroupNorm."""

    kind: ClassVar[str] = "group_norm"
    groups: int
    features: int
    eps: float = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        _expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        _expect(self.features % self.groups == 0, f"{self.groups} groups do not divide {self.features} features")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,), "bias": (self.features,)} if self.affine else {}


@dataclass(frozen=True)
class LayerNorm(Layer):
    """torch.nn.LayerNorm over the trailing `shape` of a sample."""

    kind: ClassVar[str] = "layer_norm"
    shape: Shape
    eps: float = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        _expect(shape[len(shape) - len(self.shape) :] == self.shape, f"normalises {self.shape}, gets {shape}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": self.shape, "bias": self.shape} if self.affine else {}


@dataclass(frozen=True)
class PixelNorm(Layer):
    """x / sqrt(mean over channels of x² + eps), per pixel (Karras et al. 2018, arXiv:1710.10196)."""

    kind: ClassVar[str] = "pixel_norm"
    eps: float = 1e-8


@dataclass(frozen=True)
class Activation(Layer):
    """An elementwise function. `slope` is LeakyReLU's negative slope and the alpha of ELU and CELU.

    PReLU owns its slope as a tensor `weight` of `features` numbers (1 or the number of channels).
    """

    kind: ClassVar[str] = "activation"
    name: ActivationName
    slope: float | None = None
    features: int = 1

    def __post_init__(self) -> None:
        _expect(self.name in ACTIVATIONS, f"must be one of {', '.join(ACTIVATIONS)}, got {self.name!r}")

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,)} if self.name == "prelu" else {}


@dataclass(frozen=True)
class Reshape(Layer):
    """A new per-sample shape with as many elements: (100,) → (100, 1, 1), (6272,) → (128, 7, 7)."""

    kind: ClassVar[str] = "reshape"
    shape: Shape

    def out_shape(self, shape: Shape) -> Shape:
        _expect(math.prod(shape) == math.prod(self.shape), f"makes {self.shape} of {shape}")
        return self.shape


@dataclass(frozen=True)
class LabelEmbedding(Layer):
    """torch.nn.Embedding of the label, joined with the latent vector; weight (n_classes, dim).

    merge "z_label" concatenates (z, embedding), "label_z" (embedding, z), "multiply" takes the product
    (then dim is z_dim). Only as the first layer, or after a reshape of z to a vector.
    """

    kind: ClassVar[str] = "label_embedding"
    n_classes: int
    dim: int
    merge: Merge = "z_label"

    def out_shape(self, shape: Shape) -> Shape:
        _expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        if self.merge == "multiply":
            _expect(shape == (self.dim,), f"multiplies a vector of {self.dim}, gets {shape}")
            return shape
        return (shape[0] + self.dim,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.n_classes, self.dim)}


@dataclass(frozen=True)
class LabelOneHot(Layer):
    """The label as a one-hot vector, concatenated with the latent; owns no tensors."""

    kind: ClassVar[str] = "label_one_hot"
    n_classes: int
    merge: Literal["z_label", "label_z"] = "z_label"

    def out_shape(self, shape: Shape) -> Shape:
        _expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        return (shape[0] + self.n_classes,)


LAYER_KINDS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear, Conv, ConvTranspose, Upsample, PixelShuffle, BatchNorm, InstanceNorm, GroupNorm, LayerNorm,
        PixelNorm, Activation, Reshape, LabelEmbedding, LabelOneHot,
    )
}  # fmt: skip


def layer_from_json(values: dict[str, Any]) -> Layer:
    """One layer from its JSON object. Raises `SpecError` for an unknown kind or field."""
    if not isinstance(values, dict) or "kind" not in values:
        raise SpecError("a layer must be an object with a 'kind'", hint=f"kinds: {', '.join(LAYER_KINDS)}")
    kind = values["kind"]
    if kind not in LAYER_KINDS:
        raise SpecError(f"unknown layer kind {kind!r}", hint=f"kinds: {', '.join(LAYER_KINDS)}")
    cls = LAYER_KINDS[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = set(values) - known - {"kind"}
    if unknown:
        raise SpecError(f"{kind}: unknown field {sorted(unknown)[0]!r}", hint=f"fields: {', '.join(sorted(known))}")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise SpecError(f"{kind}: {error}") from error


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


def _expect_image(shape: Shape) -> tuple[int, int, int]:
    _expect(len(shape) == 3, f"takes an image (C, H, W), gets {shape}")
    c, h, w = shape
    return c, h, w


def _bias(bias: bool, n: int) -> dict[str, Shape]:
    return {"bias": (n,)} if bias else {}
