"""Convolutions with a kernel for every image, written so that a graph holds any batch.

StyleGAN2 gives every image its own kernels and convolves them at once, as one image of N·C channels in N groups (Karras
et al. 2020, arXiv:1912.04958, appendix B); ONNX's Conv has a fixed number of groups, so such a graph could only hold
one batch size. `UngroupBatch` writes such a convolution in one of two ways.

Where the kernels are one constant kernel times a factor for each image and input channel (the style) and maybe one for
each image and output channel (the demodulation), the factors scale the input and the output of one shared convolution
(the same paper, section 2.2): exact, and as fast as a plain convolution. What a kernel is made of is followed through
products, squares, sums, reshapes, transpositions and flips, whatever the code calls them. The sum of squares behind
the demodulation then needs no kernel for each image either, which helps code that scales by itself, too.

Any other kernels become a sum of matrix products, one for each position in the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode

from gan_core.errors import JobError

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_DEFAULTS: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


@dataclass(frozen=True)
class Kernels:
    """What a tensor of kernels for every image is: `constant` times `factors`.

    constant  float32 (A, B, kh, kw)
    factors   "a": (N, A) or (N, 1), and "b": (N, B) or (N, 1)
    axes      which of a, b, h, w and the batch n each side of the tensor is: ("n", "a", "b", "h", "w"), ("na", "b", …)
    """

    constant: Tensor
    factors: dict[str, Tensor]
    axes: tuple[str, ...] = ("n", "a", "b", "h", "w")

    def size(self, letters: str) -> int:
        """The product of the sides named by `letters`, without the batch."""
        return math.prod(int(self.constant.shape["abhw".index(letter)]) for letter in letters if letter != "n")


_TAG, _FILTER = "_gan_export_kernels", "_gan_export_filter"
"""Attributes of a tensor: its `Kernels`, and the one filter (1, 1, kh, kw) that it repeats for all channels."""


def _kernels(value: Any) -> Kernels | None:
    return getattr(value, _TAG, None) if isinstance(value, Tensor) else None


class UngroupBatch(TorchFunctionMode):
    """Rewrites conv2d and conv_transpose2d whose number of groups is the traced batch, and sums over kernels for every
    image; all else stays as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv_transpose2d):
            names = _CONV if func is torch.conv2d else _TRANSPOSED
            given = _DEFAULTS | dict(zip(names, args, strict=False)) | kwargs
            if _by_the_batch(given):
                return convolve(given, transposed=func is torch.conv_transpose2d)
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        first = _kernels(args[0]) if args else None
        if name in _SUMS and first is not None:
            summed = _sum(first, args, kwargs)
            return func(*args, **kwargs) if summed is None else summed
        made = func(*args, **kwargs)
        if (
            name == "repeat"
            and args[0].dim() == 4
            and args[0].shape[:2] == (1, 1)
            and made.shape[1:] == args[0].shape[1:]
        ):
            setattr(made, _FILTER, args[0])
        elif name in _FOLLOWED and isinstance(made, Tensor):
            followed = _FOLLOWED[name](made, args, kwargs)
            if followed is not None:
                setattr(made, _TAG, followed)
        elif first is not None and (name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))):
            delattr(args[0], _TAG)
        return made


def _product(made: Tensor, args: Any, _kwargs: Any) -> Kernels | None:
    for left, right in (args, args[::-1]) if len(args) == 2 else ():
        known = _kernels(left)
        if known is not None and left is right:
            return _squared(known)
        if known is None and isinstance(left, Tensor) and left.dim() in (4, 5) and made.dim() == 5:
            constant = left if left.dim() == 4 else left[0] if _one(left.shape[0]) else None
            if constant is not None and not any(isinstance(side, torch.SymInt) for side in constant.shape):
                known = Kernels(constant, {})
        if known is None or len(known.axes) != made.dim():
            continue
        scaled = _scaled(known, right)
        if scaled is not None and (scaled.factors or _kernels(left) is not None):
            return scaled
    return None


def _scaled(known: Kernels, factor: Any) -> Kernels | None:
    """`known` times a number, a constant that fits it, or a factor for each image and one of its channels."""
    if not isinstance(factor, Tensor):
        return replace(known, constant=known.constant * factor) if isinstance(factor, (int, float)) else None
    if _kernels(factor) is not None:
        return None
    if factor.dim() == 0:
        return replace(known, constant=known.constant * factor)
    if known.axes[0] != "n" or factor.dim() != 5:
        return None
    wide = [index for index in range(1, 5) if not _one(factor.shape[index])]
    if any(not _is(factor.shape[index], known.size(known.axes[index])) for index in wide):
        return None  # wider than the kernels
    if _one(factor.shape[0]):
        order = [1 + known.axes[1:].index(letter) for letter in "abhw"]
        return replace(known, constant=known.constant * factor.permute(0, *order)[0])
    if len(wide) > 1 or (wide and known.axes[wide[0]] not in "ab"):
        return None
    letter = known.axes[wide[0]] if wide else "a"
    rows = factor.reshape(factor.shape[0], -1)
    before = known.factors.get(letter)
    return replace(known, factors=known.factors | {letter: rows if before is None else before * rows})


def _power(_made: Tensor, args: Any, kwargs: Any) -> Kernels | None:
    known, exponent = _kernels(args[0]), args[1] if len(args) > 1 else kwargs.get("exponent", 2)
    return _squared(known) if known is not None and not isinstance(exponent, Tensor) and exponent == 2 else None


def _squared(known: Kernels) -> Kernels:
    factors = {letter: factor.square() for letter, factor in known.factors.items()}
    return replace(known, constant=known.constant.square(), factors=factors)


def _quotient(_made: Tensor, args: Any, _kwargs: Any) -> Kernels | None:
    known = _kernels(args[0])
    number = len(args) == 2 and isinstance(args[1], (int, float)) and args[1] != 0
    return replace(known, constant=known.constant / args[1]) if known is not None and number else None


def _reshaped(made: Tensor, args: Any, _kwargs: Any) -> Kernels | None:
    """The batch and the side behind it made one, or one made two again."""
    known = _kernels(args[0])
    if known is None:
        return None
    first, *others = known.axes
    apart = ("n", first[1], *others) if len(first) == 2 else known.axes
    joined = (apart[0] + apart[1], *apart[2:])
    for axes in (apart, joined):
        if made.dim() == len(axes) and all(
            _is(side, known.size(axis)) for side, axis in zip(made.shape[1:], axes[1:], strict=True)
        ):
            return replace(known, axes=axes)
    return None


def _same(made: Tensor, args: Any, _kwargs: Any) -> Kernels | None:
    known = _kernels(args[0])
    return known if known is not None and made.dtype == known.constant.dtype else None


def _turned(made: Tensor, args: Any, kwargs: Any) -> Kernels | None:
    known = _kernels(args[0])
    dims = [*args[1:], *kwargs.values()]
    if known is None or len(dims) != 2 or not all(isinstance(dim, int) for dim in dims):
        return None
    axes = [*known.axes]
    axes[dims[0]], axes[dims[1]] = axes[dims[1]], axes[dims[0]]
    return replace(known, axes=tuple(axes)) if made.dim() == len(axes) else None


def _permuted(_made: Tensor, args: Any, kwargs: Any) -> Kernels | None:
    known, order = _kernels(args[0]), _dims(args[1:], kwargs, "dims")
    return None if known is None or not order else replace(known, axes=tuple(known.axes[dim] for dim in order))


def _flipped(_made: Tensor, args: Any, kwargs: Any) -> Kernels | None:
    known, dims = _kernels(args[0]), _dims(args[1:], kwargs, "dims")
    if known is None or any(known.axes[dim] not in ("h", "w") for dim in dims):
        return None
    return replace(known, constant=known.constant.flip(["abhw".index(known.axes[dim]) for dim in dims]))


def _sum(known: Kernels, args: Any, kwargs: Any) -> Tensor | None:
    """The sum over all sides but the batch and one kind of channels, (N, A): no kernel for each image is made."""
    dims = _dims(args[1:2], kwargs, "dim")
    extra = {name: value for name, value in kwargs.items() if name not in ("dim", "keepdim")}
    keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    summed = {known.axes[dim] for dim in dims}
    if extra or known.axes[0] != "n" or len(dims) != 3 or summed not in ({"a", "h", "w"}, {"b", "h", "w"}):
        return None
    kept, gone = ("b", "a") if "a" in summed else ("a", "b")
    matrix = known.constant.sum((2, 3))
    matrix = matrix if kept == "b" else matrix.t()  # (gone, kept)
    inner = known.factors.get(gone)
    if inner is None:
        total = matrix.sum(0, keepdim=True)
    elif inner.shape[1] == matrix.shape[0]:
        total = inner @ matrix
    else:
        total = inner * matrix.sum(0, keepdim=True)
    outer = known.factors.get(kept)
    total = total if outer is None else total * outer
    if not keep:
        return total
    return total.reshape([total.shape[0] if axis == "n" else -1 if axis == kept else 1 for axis in known.axes])


def _dims(given: Any, kwargs: Any, name: str) -> list[int]:
    """What a function takes as one list or as several arguments; empty for anything else."""
    value = given if given else kwargs.get(name, ())
    value = value[0] if len(value) == 1 and isinstance(value[0], (tuple, list)) else value
    return list(value) if isinstance(value, (tuple, list)) and all(isinstance(dim, int) for dim in value) else []


def _one(side: Any) -> bool:
    return _is(side, 1)


def _is(side: Any, size: int) -> bool:
    """Whether a side is `size`, whatever the batch."""
    return statically_known_true(side == size) if isinstance(side, torch.SymInt) else int(side) == size


_SUMS = ("sum",)
_IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__")
_FOLLOWED: dict[str, Callable[[Tensor, Any, Any], Kernels | None]] = (
    dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), _product)
    | dict.fromkeys(("pow", "__pow__", "square"), _power)
    | dict.fromkeys(("div", "divide", "true_divide", "__truediv__"), _quotient)
    | dict.fromkeys(("view", "reshape", "flatten", "unflatten"), _reshaped)
    | dict.fromkeys(("contiguous", "clone", "detach", "float", "to", "type", "type_as"), _same)
    | dict.fromkeys(("transpose", "swapaxes", "swapdims"), _turned)
    | {"permute": _permuted, "flip": _flipped}
)


def _by_the_batch(given: dict[str, Any]) -> bool:
    """Whether the groups follow the batch: a symbol in torch.export; in torch.jit.trace all sizes are tensors."""
    one_image = given["input"].dim() == 4 and isinstance(given["groups"], (torch.SymInt, Tensor))
    return one_image and bool(given["input"].shape[0] == 1)


def convolve(given: dict[str, Any], *, transposed: bool) -> Tensor:
    """conv2d or conv_transpose2d of (1, N·Cin, H, W) in N groups: (1, N·Cout, H', W'), for a symbolic N."""
    shared = getattr(given["weight"], _FILTER, None)
    if shared is not None and not transposed and statically_known_true(given["weight"].shape[0] == given["groups"]):
        return _filtered(given, shared)
    known = _kernels(given["weight"])
    if known is None or len(known.axes[0]) != 2 or not {"n"} < {*known.axes[0]}:
        return transposed_each(given) if transposed else conv_each(given)
    inside, outside = (known.axes[0][1], known.axes[1]) if transposed else (known.axes[1], known.axes[0][1])
    order = [*(known.axes[0][1] + known.axes[1]), *known.axes[2:]]
    weight = known.constant.permute(["abhw".index(letter) for letter in order])
    x = given["input"]
    x = x.reshape(given["groups"], known.size(inside), *x.shape[2:])
    if inside in known.factors:
        x = x * known.factors[inside][:, :, None, None]
    settings = {name: given[name] for name in (_TRANSPOSED if transposed else _CONV)[3:] if name != "groups"}
    out = (F.conv_transpose2d if transposed else F.conv2d)(x, weight, **settings)
    if outside in known.factors:
        out = out * known.factors[outside][:, :, None, None]
    return _joined(out, given["bias"])


def _filtered(given: dict[str, Any], shared: Tensor) -> Tensor:
    """The same filter for every channel of (1, N·C, H, W): a depthwise convolution of (N, C, H, W)."""
    x, groups = given["input"], given["groups"]
    channels = int(groups.node.expr.as_coeff_Mul()[0]) if isinstance(groups, torch.SymInt) else 1
    settings = {name: given[name] for name in ("stride", "padding", "dilation")}
    x = x.reshape(-1, channels, *x.shape[2:])
    return _joined(F.conv2d(x, shared.repeat(channels, 1, 1, 1), groups=channels, **settings), given["bias"])


def conv_each(given: dict[str, Any]) -> Tensor:
    """conv2d of (1, N·Cin, H, W) with (N·Cout, Cin, kh, kw) in N groups, for a symbolic N: (1, N·Cout, H', W')."""
    x, weight, n = given["input"], given["weight"], given["groups"]
    inside, kernel_h, kernel_w = (int(side) for side in weight.shape[1:])
    x = x.reshape(n, inside, *x.shape[2:])
    weight = weight.reshape(n, -1, inside, kernel_h, kernel_w)
    padding = given["padding"]
    if padding == "same":
        spans = [dilation * (k - 1) for dilation, k in zip(_two(given["dilation"]), (kernel_h, kernel_w), strict=True)]
        x = F.pad(x, (spans[1] // 2, spans[1] - spans[1] // 2, spans[0] // 2, spans[0] - spans[0] // 2))
    elif padding != "valid":
        pad_h, pad_w = _two(padding)
        x = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    out = _sum_of_products(x, weight, _two(given["stride"]), _two(given["dilation"]))
    return _joined(out, given["bias"])


def transposed_each(given: dict[str, Any]) -> Tensor:
    """conv_transpose2d likewise, weight (N·Cin, Cout, kh, kw): zeros between the pixels, then the flipped kernel."""
    x, weight, n = given["input"], given["weight"], given["groups"]
    outside, kernel_h, kernel_w = (int(side) for side in weight.shape[1:])
    height, width = (int(side) for side in x.shape[2:])
    x = x.reshape(n, -1, height, width)
    weight = weight.reshape(n, -1, outside, kernel_h, kernel_w)
    (stride_h, stride_w), (pad_h, pad_w) = _two(given["stride"]), _two(given["padding"])
    (more_h, more_w), (step_h, step_w) = _two(given["output_padding"]), _two(given["dilation"])
    if stride_h > 1 or stride_w > 1:
        spread = F.pad(x.unsqueeze(3).unsqueeze(5), (0, stride_w - 1, 0, 0, 0, stride_h - 1))
        x = spread.reshape(n, -1, height * stride_h, width * stride_w)
        x = x[:, :, : (height - 1) * stride_h + 1, : (width - 1) * stride_w + 1]
    edge_h, edge_w = step_h * (kernel_h - 1) - pad_h, step_w * (kernel_w - 1) - pad_w
    x = F.pad(x, (edge_w, edge_w + more_w, edge_h, edge_h + more_h))
    out = _sum_of_products(x, weight.transpose(1, 2).flip(3, 4), (1, 1), (step_h, step_w))
    return _joined(out, given["bias"])


def _sum_of_products(x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """x (N, Cin, H, W), padded, with weight (N, Cout, Cin, kh, kw): (N, Cout, H', W')."""
    kernel_h, kernel_w = (int(side) for side in weight.shape[3:])
    height = (int(x.shape[2]) - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    width = (int(x.shape[3]) - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    total: Tensor | None = None
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * dilation[0], j * dilation[1]
            bottom, right = top + (height - 1) * stride[0] + 1, left + (width - 1) * stride[1] + 1
            seen = x[:, :, top : bottom : stride[0], left : right : stride[1]]
            product = torch.matmul(weight[:, :, :, i, j], seen.flatten(2))
            total = product if total is None else total + product
    if total is None:
        raise JobError("a convolution without a kernel", hint="is the module built with the right `args`?")
    return total.reshape(total.shape[0], -1, height, width)


def _joined(out: Tensor, bias: Tensor | None) -> Tensor:
    joined = out.reshape(1, -1, *out.shape[2:])
    return joined if bias is None else joined + bias.reshape(1, -1, 1, 1)


def _two(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return int(value), int(value)
