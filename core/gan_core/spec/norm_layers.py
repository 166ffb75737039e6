"""Layers that normalise. None of them mixes samples: a network in eval mode draws each image alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gan_core.fields import Eps, Features, Number, Shape, Side, Sides
from gan_core.spec.layer import Layer, Reach, affine_tensors, expect, expect_image


@dataclass(frozen=True)
class BatchNorm(Layer):
    """torch.nn.BatchNorm1d on a vector, BatchNorm2d on an image: y = w (x - mean) / sqrt(var + eps) + b."""

    kind: ClassVar[str] = "batch_norm"
    features: Features
    eps: Eps = 1e-5
    affine: bool = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        names = ("weight", "bias", "running_mean", "running_var") if self.affine else ("running_mean", "running_var")
        return dict.fromkeys(names, (self.features,))

    def reach(self) -> Reach:
        return Reach()

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
    eps: Eps = 1e-8

    def reach(self) -> Reach:
        return Reach()

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)


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
    size: Side
    alpha: Number = 1e-4
    beta: Number = 0.75
    k: Number = 1.0

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect_image(shape)
        return shape

    def reach(self) -> Reach:
        return Reach()

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.LocalResponseNorm(self.size, self.alpha, self.beta, self.k)
