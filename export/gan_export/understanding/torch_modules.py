"""torch.nn's modules as layers of a spec: one row a class, with every number that the class has.

A whole-module pickle names each module's class and keeps its numbers. `layers_of` says in a spec's layers what such a
module computes in eval mode, or raises: what it cannot say is refused by name, never left out. Nothing but torch's own
classes is believed; what a class of the author's computes stands in code that the file does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gan_core.spec import layers as L
from gan_core.spec.layers import SpecError
from gan_export.understanding.module_tree import Part, UnsaidError
from gan_export.understanding.units import needs_code

RMS_EPS = 1.1920928955078125e-07
"""RMSNorm's eps when none is given: float32's machine epsilon."""


Row = Callable[[Part], list[L.Layer]]


def layers_of(part: Part, where: str = "") -> list[L.Layer]:
    """What `part` computes in eval mode, as layers (none for a dropout); the one that owns tensors, if any, comes last.

    Raises `GanportError` naming the module, `where` it stands, and why, for what a spec cannot say.
    """
    where = where or f"at {part.name or 'the root'}"
    listed = f"the file lists {part.kind} {where}"
    if part.info.changed:
        raise needs_code(f"{listed} with {part.info.changed}, which a spec cannot say")
    if not part.info.from_torch:
        raise needs_code(f"{listed}, a class of the author's own whose code is not in the file")
    row = ROWS.get(part.kind)
    if row is None:
        raise needs_code(f"{listed}, which a spec cannot say")
    try:
        layers = row(part)
        owned = layers[-1].tensors() if layers else {}
        held = {name: tuple(tensor.shape) for name, tensor in part.tensors.items()}
        if owned != held and not isinstance(layers[-1] if layers else None, L.LabelEmbedding):
            names = ", ".join(sorted(set(held) ^ set(owned))) or "shapes that differ"
            raise UnsaidError(f"owns other tensors than its class has: {names}")
        shape = part.shape
        for layer in layers:
            shape = None if shape is None else layer.out_shape(shape)
    except (UnsaidError, SpecError) as error:
        raise needs_code(f"{listed}, which a spec cannot say: it {error}") from error
    return layers


def bounds_of(layer: L.Activation) -> tuple[float, float] | None:
    """The range of values that an activation leaves, where that is one that images have; else None."""
    limits = layer.limits or (-1.0, 1.0)
    if layer.name == "hardtanh" and limits in ((-1.0, 1.0), (0.0, 1.0)):
        return limits
    signed = layer.name in ("tanh", "softsign")
    return (-1.0, 1.0) if signed else (0.0, 1.0) if layer.name in ("sigmoid", "hardsigmoid") else None


# ------------------------------------------------------------------------------------------------ elementwise modules


def _plain(name: L.ActivationName) -> Row:
    return lambda _: [L.Activation(name)]


def _sloped(name: L.ActivationName, field: str) -> Row:
    return lambda part: [L.Activation(name, part.number(field))]


def _limited(name: L.ActivationName, low: str, high: str) -> Row:
    return lambda part: [L.Activation(name, limits=(part.number(low), part.number(high)))]


def _gelu(part: Part) -> list[L.Layer]:
    approximate = part.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise UnsaidError(f"has approximate {approximate!r}")
    return [L.Activation("gelu_tanh" if approximate == "tanh" else "gelu")]


def _hardtanh(part: Part) -> list[L.Layer]:
    limits = part.number("min_val"), part.number("max_val")
    return [L.Activation("hardtanh", limits=None if limits == L.LIMITED["hardtanh"] else limits)]


def _over_channels(layer: L.Layer) -> Row:
    """The row of a module that runs over dimension 1 of a batch, and over no other."""

    def row(part: Part) -> list[L.Layer]:
        dim = -3 if part.kind == "Softmax2d" else part.get("dim")
        if type(dim) is not int or dim not in (1, -len(part.reached_by)):
            raise UnsaidError(f"runs over dimension {dim}, expected dimension 1")
        return [layer]

    return row


# ------------------------------------------------------------------------------------------ modules with their weights


def _linear(part: Part) -> list[L.Layer]:
    makes, takes = part.weight(2)
    return [L.Linear(takes, makes, bias="bias" in part.tensors)]


def _kernel(part: Part) -> tuple[int, int, int, int, int]:
    """(first two sides of a convolution's weight, side of its kernel, groups, dilation)."""
    first, second, *kernel = part.weight(4)
    if len(set(kernel)) != 1:
        raise UnsaidError(f"has a kernel of {kernel[0]}x{kernel[1]}, expected a square one")
    return first, second, kernel[0], part.whole("groups", 1), part.square("dilation", 1)


def _conv(part: Part) -> list[L.Layer]:
    """Paddings that differ by side come as a layer of their own before the convolution."""
    makes, per_group, size, groups, dilation = _kernel(part)
    mode = part.get("padding_mode", "zeros")
    stated = part.get("padding")
    if stated == "same":
        total = dilation * (size - 1)
        borders = (total // 2, total - total // 2) * 2
    else:
        height, width = (0, 0) if stated == "valid" else part.pair("padding")
        borders = (width, width, height, height)
    padding = borders[0] if len(set(borders)) == 1 else 0
    conv = L.Conv(
        per_group * groups, makes, size, part.square("stride"), padding, dilation, groups, "bias" in part.tensors, mode
    )
    return [conv] if padding or not any(borders) else [L.Pad(borders, mode), conv]


def _conv_transpose(part: Part) -> list[L.Layer]:
    takes, per_group, size, groups, dilation = _kernel(part)
    stride, padding, extra = (part.square(field) for field in ("stride", "padding", "output_padding"))
    bias = "bias" in part.tensors
    return [L.ConvTranspose(takes, per_group * groups, size, stride, padding, extra, dilation, groups, bias)]


def _batch_norm(dimensions: int) -> Row:
    def row(part: Part) -> list[L.Layer]:
        if "running_mean" not in part.tensors:
            raise UnsaidError("has no running statistics: it normalises with those of its batch, even in eval mode")
        if part.shape is not None and dimensions and len(part.shape) != dimensions:
            raise UnsaidError(f"gets {part.shape}")
        features = tuple(part.tensors["running_mean"].shape)
        return [L.BatchNorm(math.prod(features), part.number("eps"), affine=part.affine)]

    return row


def _instance_norm(part: Part) -> list[L.Layer]:
    """With running statistics it is a BatchNorm, in eval mode."""
    if part.get("track_running_stats", False):
        return _batch_norm(3)(part)
    return [L.InstanceNorm(part.get("num_features"), part.number("eps"), affine=part.affine)]


def _group_norm(part: Part) -> list[L.Layer]:
    return [L.GroupNorm(part.get("num_groups"), part.get("num_channels"), part.number("eps"), part.affine)]


def _layer_norm(part: Part) -> list[L.Layer]:
    bias = not part.affine or "bias" in part.tensors
    return [L.LayerNorm(part.get("normalized_shape"), part.number("eps"), part.affine, bias)]


def _rms_norm(part: Part) -> list[L.Layer]:
    eps = RMS_EPS if part.get("eps") is None else part.number("eps")
    return [L.RmsNorm(part.get("normalized_shape"), eps, part.affine)]


def _embedding(part: Part) -> list[L.Layer]:
    if part.get("max_norm", None) is not None:
        raise UnsaidError("has a max_norm")
    n_classes, dim = part.weight(2)
    return [L.LabelEmbedding(n_classes, dim)]


# -------------------------------------------------------------------------------------- modules that change the shape


def _upsample(part: Part) -> list[L.Layer]:
    _, height, width = part.image()
    mode, corners = part.get("mode"), bool(part.get("align_corners", None))
    if part.get("size", None) is not None:
        return [L.Upsample(mode=mode, align_corners=corners, size=part.pair("size"))]
    factor = part.get("scale_factor")
    factors = tuple(factor) if isinstance(factor, tuple) else (factor, factor)
    if len(factors) != 2 or any(type(one) not in (int, float) or not 0 < one < 1e6 for one in factors):
        raise UnsaidError(f"has scale_factor {factor!r}, expected a factor or one each for height and width")
    if factors[0] == factors[1] == int(factors[0]):
        return [L.Upsample(int(factors[0]), mode, corners)]
    size = tuple(math.floor(side * one) for side, one in zip((height, width), factors, strict=True))
    for side, made, one in zip((height, width), size, factors, strict=True):
        between = str(mode).startswith("nearest") and made and made % side and side % made
        if made < 1 or abs(side * one - made) > 1e-9 or between:
            raise UnsaidError(f"has scale_factor {factor!r}, which makes no whole size of {height}x{width}")
    return [L.Upsample(mode=mode, align_corners=corners, size=size)]


def _flatten(part: Part) -> list[L.Layer]:
    shape = part.reached_by
    first, last = (_dimension(part, field, len(shape)) for field in ("start_dim", "end_dim"))
    if last < first:
        raise UnsaidError(f"flattens dimensions {first} to {last}")
    return [L.Reshape((*shape[: first - 1], math.prod(shape[first - 1 : last]), *shape[last:]))]


def _unflatten(part: Part) -> list[L.Layer]:
    shape, size = part.reached_by, part.get("unflattened_size")
    at = _dimension(part, "dim", len(shape)) - 1
    if not isinstance(size, tuple) or any(type(side) is not int for side in size) or size.count(-1) > 1:
        raise UnsaidError(f"has unflattened_size {size!r}, expected whole numbers")
    known = math.prod(side for side in size if side != -1)
    if known < 1 or shape[at] % known:
        raise UnsaidError(f"makes {size} of {shape[at]} numbers")
    inner = tuple(shape[at] // known if side == -1 else side for side in size)
    return [L.Reshape((*shape[:at], *inner, *shape[at + 1 :]))]


def _dimension(part: Part, field: str, rank: int) -> int:
    """A dimension counted from 1, the first behind the batch."""
    value = part.get(field)
    if type(value) is not int or not 1 <= (value if value >= 0 else value + rank + 1) <= rank:
        raise UnsaidError(f"has {field} {value!r}, expected a dimension behind the batch")
    return value if value >= 0 else value + rank + 1


def _factor(cls: Callable[[Any], L.Layer], field: str) -> Row:
    return lambda part: [cls(part.get(field))]


def _pool(part: Part) -> list[L.Layer]:
    kernel, stride, padding = (part.pair(field) for field in ("kernel_size", "stride", "padding"))
    if part.kind == "MaxPool2d":
        _no_indices(part)
        return [L.Pool("max", kernel, stride, padding, part.pair("dilation"), ceil=part.get("ceil_mode"))]
    if part.get("divisor_override", None) is not None:
        raise UnsaidError("has a divisor_override")
    counted = part.get("count_include_pad")
    return [L.Pool("avg", kernel, stride, padding, ceil=part.get("ceil_mode"), count_padding=counted)]


def _adaptive_pool(part: Part) -> list[L.Layer]:
    _no_indices(part)
    size = part.get("output_size")
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2:
        raise UnsaidError(f"has output_size {size!r}")
    height, width = (own if side is None else side for side, own in zip(sides, part.image()[1:], strict=True))
    return [L.AdaptivePool("max" if "Max" in part.kind else "avg", (height, width))]


def _no_indices(part: Part) -> None:
    if part.get("return_indices", False):
        raise UnsaidError("returns indices too")


def _pad(mode: L.PaddingMode) -> Row:
    def row(part: Part) -> list[L.Layer]:
        value = part.number("value") if part.kind == "ConstantPad2d" else 0.0
        return [L.Pad(part.get("padding"), mode, value)]

    return row


ACTIVATION_ROWS: dict[str, Row] = {
    "ReLU": _plain("relu"),
    "LeakyReLU": _sloped("leaky_relu", "negative_slope"),
    "RReLU": lambda part: [L.Activation("leaky_relu", (part.number("lower") + part.number("upper")) / 2)],
    "ELU": _sloped("elu", "alpha"),
    "SELU": _plain("selu"),
    "CELU": _sloped("celu", "alpha"),
    "GELU": _gelu,
    "SiLU": _plain("silu"),
    "Mish": _plain("mish"),
    "Softplus": _limited("softplus", "beta", "threshold"),
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "Hardtanh": _hardtanh,
    "ReLU6": _hardtanh,
    "Hardsigmoid": _plain("hardsigmoid"),
    "Hardswish": _plain("hardswish"),
    "Softsign": _plain("softsign"),
    "LogSigmoid": _plain("log_sigmoid"),
    "Tanhshrink": _plain("tanhshrink"),
    "Hardshrink": _sloped("hardshrink", "lambd"),
    "Softshrink": _sloped("softshrink", "lambd"),
    "Threshold": _limited("threshold", "threshold", "value"),
}
"""The elementwise ones, which need no shape: they may stand in any slot of a drafted chain."""

INERT = (
    "Identity", "Sequential", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout",
)  # fmt: skip
"""Modules that compute nothing in eval mode; a Sequential stands here when it is empty."""

UPSAMPLES = ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d")
PADS: dict[str, L.PaddingMode] = {
    "ZeroPad2d": "zeros",
    "ConstantPad2d": "zeros",
    "ReflectionPad2d": "reflect",
    "ReplicationPad2d": "replicate",
    "CircularPad2d": "circular",
}

ROWS: dict[str, Row] = {
    **ACTIVATION_ROWS,
    **dict.fromkeys(INERT, lambda _: []),
    **dict.fromkeys(UPSAMPLES, _upsample),
    **{kind: _pad(mode) for kind, mode in PADS.items()},
    "Softmax": _over_channels(L.Activation("softmax")),
    "Softmax2d": _over_channels(L.Activation("softmax")),
    "LogSoftmax": _over_channels(L.Activation("log_softmax")),
    "GLU": _over_channels(L.Glu()),
    "PReLU": lambda part: [L.Activation("prelu", features=part.weight(1)[0])],
    "Linear": _linear,
    "Conv2d": _conv,
    "ConvTranspose2d": _conv_transpose,
    "BatchNorm1d": _batch_norm(1),
    "BatchNorm2d": _batch_norm(3),
    "SyncBatchNorm": _batch_norm(0),
    "InstanceNorm2d": _instance_norm,
    "GroupNorm": _group_norm,
    "LayerNorm": _layer_norm,
    "RMSNorm": _rms_norm,
    "LocalResponseNorm": lambda part: [
        L.LocalResponseNorm(part.get("size"), part.number("alpha"), part.number("beta"), part.number("k"))
    ],
    "Embedding": _embedding,
    "Flatten": _flatten,
    "Unflatten": _unflatten,
    "PixelShuffle": _factor(L.PixelShuffle, "upscale_factor"),
    "PixelUnshuffle": _factor(L.PixelUnshuffle, "downscale_factor"),
    "ChannelShuffle": _factor(L.ChannelShuffle, "groups"),
    "MaxPool2d": _pool,
    "AvgPool2d": _pool,
    "AdaptiveMaxPool2d": _adaptive_pool,
    "AdaptiveAvgPool2d": _adaptive_pool,
}
"""Class of torch.nn → what it computes. Every other class is refused by name."""
