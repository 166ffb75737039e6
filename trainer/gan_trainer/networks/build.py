"""`GeneratorSpec` → torch module.

The module's state_dict keys are `layers.<index>.<name>`, index and names as in `GeneratorSpec.tensors()`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec, SpecError


class SpecGenerator(nn.Module):
    """The module of a spec. forward(z float32 (N, z_dim), label int64 (N,) | None) → image (N, C, H, W)."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        modules = []
        for index, layer in enumerate(spec.layers):
            modules.append(build_layer(layer, spec.shapes[index]))
        self.layers = nn.ModuleList(modules)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = z
        for module in self.layers:
            x = module(x, label) if isinstance(module, _Label) else module(x)
        return x


def build(spec: GeneratorSpec) -> SpecGenerator:
    """A freshly initialised module for `spec` (torch's default initialisation)."""
    return SpecGenerator(spec)


def build_layer(layer: L.Layer, in_shape: L.Shape) -> nn.Module:
    """The torch module of one layer, given the per-sample shape it receives."""
    match layer:
        case L.Linear():
            return nn.Linear(layer.in_features, layer.out_features, layer.bias)
        case L.Conv():
            return nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding, layer.dilation,
                layer.groups, layer.bias, layer.padding_mode,
            )  # fmt: skip
        case L.ConvTranspose():
            return nn.ConvTranspose2d(
                layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding, layer.output_padding,
                layer.groups, layer.bias, layer.dilation,
            )  # fmt: skip
        case L.Upsample():
            corners = layer.align_corners if layer.mode in ("bilinear", "bicubic") else None
            factor = None if layer.size else float(layer.factor)
            return nn.Upsample(layer.size, factor, layer.mode, corners)
        case L.PixelShuffle():
            return nn.PixelShuffle(layer.factor)
        case L.PixelUnshuffle():
            return nn.PixelUnshuffle(layer.factor)
        case L.ChannelShuffle():
            return _ChannelShuffle(layer.groups)
        case L.Glu():
            return nn.GLU(dim=1)
        case L.Pool() if layer.mode == "max":
            return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil)
        case L.Pool():
            return nn.AvgPool2d(layer.kernel, layer.stride, layer.padding, layer.ceil, layer.count_padding)
        case L.AdaptivePool():
            return nn.AdaptiveMaxPool2d(layer.size) if layer.mode == "max" else nn.AdaptiveAvgPool2d(layer.size)
        case L.Pad():
            return _Pad(layer)
        case L.BatchNorm():
            norm = nn.BatchNorm1d if len(in_shape) == 1 else nn.BatchNorm2d
            return norm(layer.features, eps=layer.eps, affine=layer.affine)
        case L.InstanceNorm():
            return nn.InstanceNorm2d(layer.features, eps=layer.eps, affine=layer.affine)
        case L.GroupNorm():
            return nn.GroupNorm(layer.groups, layer.features, eps=layer.eps, affine=layer.affine)
        case L.LayerNorm():
            return nn.LayerNorm(layer.shape, eps=layer.eps, elementwise_affine=layer.affine, bias=layer.bias)
        case L.RmsNorm():
            return nn.RMSNorm(layer.shape, eps=layer.eps, elementwise_affine=layer.affine)
        case L.LocalResponseNorm():
            return nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)
        case L.PixelNorm():
            return _PixelNorm(layer.eps)
        case L.Activation():
            return build_activation(layer)
        case L.Reshape():
            return nn.Unflatten(1, layer.shape) if len(in_shape) == 1 else _Reshape(layer.shape)
        case L.LabelEmbedding():
            return _LabelEmbedding(layer)
        case L.LabelOneHot():
            return _LabelOneHot(layer)
    raise SpecError(
        f"no module for layer kind {layer.kind!r}", hint="the spec may be of a newer ganport: install that one"
    )


def build_activation(layer: L.Activation) -> nn.Module:
    """The torch module of an activation; `slope` and `limits` fall back to torch's defaults."""
    if layer.name in L.SLOPED:
        return _SLOPED[layer.name](L.SLOPED[layer.name] if layer.slope is None else layer.slope)
    if layer.name in L.LIMITED:
        return _LIMITED[layer.name](*(L.LIMITED[layer.name] if layer.limits is None else layer.limits))
    return nn.PReLU(layer.features) if layer.name == "prelu" else _PLAIN[layer.name]()


_SLOPED: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "hardshrink": nn.Hardshrink,
    "softshrink": nn.Softshrink,
}
_LIMITED: dict[str, Callable[[float, float], nn.Module]] = {
    "hardtanh": nn.Hardtanh,
    "softplus": nn.Softplus,
    "threshold": nn.Threshold,
}
_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "softsign": nn.Softsign,
    "log_sigmoid": nn.LogSigmoid,
    "tanhshrink": nn.Tanhshrink,
    "softmax": lambda: nn.Softmax(dim=1),
    "log_softmax": lambda: nn.LogSoftmax(dim=1),
}


class _ChannelShuffle(nn.Module):
    """torch.nn.ChannelShuffle, in operations that ONNX has."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class _Pad(nn.Module):
    def __init__(self, layer: L.Pad) -> None:
        super().__init__()
        self.borders, self.value = layer.borders, layer.value
        self.mode = "constant" if layer.mode == "zeros" else layer.mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.borders, self.mode, self.value if self.mode == "constant" else None)


class _PixelNorm(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)


class _Reshape(nn.Module):
    def __init__(self, shape: L.Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape)


class _Label(nn.Module):
    """A layer that takes the label beside its input."""


class _LabelEmbedding(_Label):
    def __init__(self, layer: L.LabelEmbedding) -> None:
        super().__init__()
        self.merge = layer.merge
        self.weight = nn.Parameter(torch.randn(layer.n_classes, layer.dim))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        embedded = F.embedding(label, self.weight)
        return _join(z, embedded, self.merge)


class _LabelOneHot(_Label):
    def __init__(self, layer: L.LabelOneHot) -> None:
        super().__init__()
        self.n_classes = layer.n_classes
        self.merge: L.Merge = layer.merge

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        classes = torch.arange(self.n_classes, device=label.device)
        one_hot = (label.unsqueeze(1) == classes).to(z.dtype)
        return _join(z, one_hot, self.merge)


def _join(z: Tensor, embedded: Tensor, merge: L.Merge) -> Tensor:
    if merge == "multiply":
        return z * embedded
    parts = (z, embedded) if merge == "z_label" else (embedded, z)
    return torch.cat(parts, dim=1)
