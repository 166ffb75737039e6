"""Layers that normalise, and activations. None mixes samples: a network in eval mode generates each image alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from gan_core.fields import Eps, Features, Number, Range, Shape, Side, Sides
from gan_core.spec import Layer, affine_tensors, expect, expect_image


@dataclass(frozen=True)
class BatchNorm(Layer):
    """torch.nn.BatchNorm1d on a vector, BatchNorm2d on an image: y = w (x - mean) / sqrt(var + eps) + b."""

    kind: ClassVar[str] = "batch_norm"
    pointwise: ClassVar[bool] = True
    features: Features
    eps: Eps = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        names = ("weight", "bias", "running_mean", "running_var") if self.affine else ("running_mean", "running_var")
        return dict.fromkeys(names, (self.features,))

    def words(self) -> str:
        return f"batch_norm eps {self.eps:g}"

    def module(self, nn: Any, shape: Shape) -> Any:
        norm = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
        return norm(self.features, eps=self.eps, affine=self.affine)


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """torch.nn.InstanceNorm2d without running statistics. With them, in eval mode, it is a `BatchNorm`."""

    kind: ClassVar[str] = "instance_norm"
    features: Features
    eps: Eps = 1e-5
    affine: bool = False

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, _, _ = expect_image(shape)
        expect(c == self.features, f"takes {self.features} channels, gets {c}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return affine_tensors(self.affine, (self.features,))

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.InstanceNorm2d(self.features, eps=self.eps, affine=self.affine)


@dataclass(frozen=True)
class GroupNorm(Layer):
    """torch.nn.GroupNorm."""

    kind: ClassVar[str] = "group_norm"
    groups: Features
    features: Features
    eps: Eps = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        expect(self.features % self.groups == 0, f"{self.groups} groups do not divide {self.features} features")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return affine_tensors(self.affine, (self.features,))

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.GroupNorm(self.groups, self.features, eps=self.eps, affine=self.affine)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """torch.nn.LayerNorm over the trailing `shape` of a sample; `bias` matters only where it is affine."""

    kind: ClassVar[str] = "layer_norm"
    shape: Sides
    eps: Eps = 1e-5
    affine: bool = True
    bias: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[len(shape) - len(self.shape) :] == self.shape, f"normalises {self.shape}, gets {shape}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        owned = affine_tensors(self.affine, self.shape)
        return owned if self.bias else {name: shape for name, shape in owned.items() if name == "weight"}

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.LayerNorm(self.shape, eps=self.eps, elementwise_affine=self.affine, bias=self.bias)


@dataclass(frozen=True)
class PixelNorm(Layer):
    """x / sqrt(mean over channels of x² + eps), per pixel (Karras et al. 2018, arXiv:1710.10196)."""

    kind: ClassVar[str] = "pixel_norm"
    pointwise: ClassVar[bool] = True
    eps: Eps = 1e-8

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)


@dataclass(frozen=True)
class ChannelNorm(Layer):
    """A layer norm over the channels of each pixel: w (x - mean) / sqrt(var + eps) + b; weight, bias (features,)."""

    kind: ClassVar[str] = "channel_norm"
    pointwise: ClassVar[bool] = True
    features: Features
    eps: Eps = 1e-5

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, _, _ = expect_image(shape)
        expect(c == self.features, f"takes {self.features} channels, gets {c}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return affine_tensors(True, (self.features,))

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        x = x - x.mean(dim=1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)
        return x * module["weight"].reshape(-1, 1, 1) + module["bias"].reshape(-1, 1, 1)


@dataclass(frozen=True)
class RmsNorm(Layer):
    """torch.nn.RMSNorm over the trailing `shape` of a sample: x / sqrt(mean of x² + eps), times weight (shape)."""

    kind: ClassVar[str] = "rms_norm"
    shape: Sides
    eps: Eps = 1.1920928955078125e-07
    affine: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[len(shape) - len(self.shape) :] == self.shape, f"normalises {self.shape}, gets {shape}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": self.shape} if self.affine else {}

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.RMSNorm(self.shape, eps=self.eps, elementwise_affine=self.affine)


@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """torch.nn.LocalResponseNorm: x / (k + alpha / size · sum of x² over `size` channels) ^ beta."""

    kind: ClassVar[str] = "local_response_norm"
    pointwise: ClassVar[bool] = True
    size: Side
    alpha: Number = 1e-4
    beta: Number = 0.75
    k: Number = 1.0

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect_image(shape)
        return shape

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.LocalResponseNorm(self.size, self.alpha, self.beta, self.k)


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

_CLASSES: dict[ActivationName, str] = {
    "relu": "ReLU", "leaky_relu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "selu": "SELU", "celu": "CELU",
    "gelu": "GELU", "gelu_tanh": "GELU", "silu": "SiLU", "mish": "Mish", "softplus": "Softplus", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "hardtanh": "Hardtanh", "identity": "Identity", "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish", "softsign": "Softsign", "log_sigmoid": "LogSigmoid", "tanhshrink": "Tanhshrink",
    "hardshrink": "Hardshrink", "softshrink": "Softshrink", "threshold": "Threshold", "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
}  # fmt: skip
"""The class of torch.nn that computes each."""


Bound = Annotated[float, Range(1e-6, 1e6)]


@dataclass(frozen=True)
class Activation(Layer):
    """An elementwise function, or a softmax over dimension 1.

    slope     LeakyReLU's negative slope, alpha of ELU and CELU, lambda of the shrinks; None is torch's default
    limits    hardtanh's (least, greatest), softplus's (beta, threshold), threshold's (threshold, value); None likewise
    features  PReLU's slopes, its tensor `weight`: 1 or the number of channels
    gain      what the function's value is multiplied by; None for 1
    clamp     bounds the product to -clamp … clamp; None for no bound
    """

    kind: ClassVar[str] = "activation"
    pointwise: ClassVar[bool] = True
    name: ActivationName
    slope: Number | None = None
    features: Features = 1
    limits: tuple[Number, Number] | None = None
    gain: Number | None = None
    clamp: Bound | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self.slope is None or self.name in SLOPED, f"slope has no meaning for {self.name}, got {self.slope}")
        expect(self.limits is None or self.name in LIMITED, f"limits have no meaning for {self.name}")
        expect(self.features == 1 or self.name == "prelu", f"features have no meaning for {self.name}")
        if self.limits is not None:
            low, high = self.limits
            expect(self.name != "hardtanh" or low < high, f"limits must be (least, greatest), got {self.limits}")
            expect(self.name != "softplus" or low != 0, f"limits must be (beta, threshold), beta not 0: {self.limits}")

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        fits = self.name != "prelu" or self.features in (1, shape[0])
        expect(fits, f"has {self.features} slopes, gets {shape[0]} features")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,)} if self.name == "prelu" else {}

    def words(self) -> str:
        limits = "" if self.limits is None else " ({:g}, {:g})".format(*self.limits)
        gain = "" if self.gain is None else f" x {self.gain:.6g}"
        clamp = "" if self.clamp is None else f", at most {self.clamp:g}"
        return self.name + (f" {self.slope:g}" if self.slope is not None else "") + limits + gain + clamp

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        x = module(x)
        x = x if self.gain is None else x * self.gain
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)

    def module(self, nn: Any, shape: Shape) -> Any:
        """`slope` and `limits` fall back to torch's defaults."""
        made = getattr(nn, _CLASSES[self.name])
        if self.name in SLOPED:
            return made(SLOPED[self.name] if self.slope is None else self.slope)
        if self.name in LIMITED:
            return made(*(LIMITED[self.name] if self.limits is None else self.limits))
        settings: dict[ActivationName, dict[str, Any]] = {
            "prelu": {"num_parameters": self.features},
            "gelu_tanh": {"approximate": "tanh"},
            "softmax": {"dim": 1},
            "log_softmax": {"dim": 1},
        }
        return made(**settings.get(self.name, {}))
