"""Convolutions grouped by the batch, as sums of products.

StyleGAN2 gives every image its own kernels and convolves them at once, as one image of N·C channels in N groups (Karras
et al. 2020, arXiv:1912.04958, appendix B). ONNX's Conv has a fixed number of groups, so such a graph could only hold
one batch size. While a module is traced, these convolutions are written out: one batched matrix product for every
place in the kernel, added up. The module itself, run for the reference, keeps its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gan_core.errors import JobError

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_DEFAULTS: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


class UngroupBatch(TorchFunctionMode):
    """Rewrites conv2d and conv_transpose2d whose number of groups is the traced batch; all else stays as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv_transpose2d):
            names = _CONV if func is torch.conv2d else _TRANSPOSED
            given = _DEFAULTS | dict(zip(names, args, strict=False)) | kwargs
            if _by_the_batch(given):
                return conv_each(given) if func is torch.conv2d else transposed_each(given)
        return func(*args, **kwargs)


def _by_the_batch(given: dict[str, Any]) -> bool:
    """Whether the groups follow the batch: a symbol in torch.export; in torch.jit.trace all sizes are tensors."""
    one_image = given["input"].dim() == 4 and isinstance(given["groups"], (torch.SymInt, Tensor))
    return one_image and bool(given["input"].shape[0] == 1)


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
        raise JobError("a convolution without a kernel", hint="is the module built with the right --args?")
    return total.reshape(total.shape[0], -1, height, width)


def _joined(out: Tensor, bias: Tensor | None) -> Tensor:
    joined = out.reshape(1, -1, *out.shape[2:])
    return joined if bias is None else joined + bias.reshape(1, -1, 1, 1)


def _two(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return int(value), int(value)
