"""Convolutions in float64 within bounded memory.

torch multiplies float64 convolutions as matrices, and first writes out every product's left side, kernel by kernel: for
the 9x9 convolution of 64 channels with which an SRGAN ends, 11 GB at 512x512. Cut into strips of rows, or groups of
output channels of a transposed convolution, the same sums need no more than `STRIP_BYTES` at a time.

Other dtypes and paddings in words run as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

STRIP_BYTES = 1 << 24
"""Half of the size from which on glibc gives memory back to the system, and faults all of it in again."""


class Strips(TorchFunctionMode):
    """While active, `conv2d` and `conv_transpose2d` on float64 run piece by piece, each image by itself."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made: Tensor | None = None
        if func in (F.conv2d, F.conv_transpose2d) and _wanted(*args[:2]):
            made = (_convolution if func is F.conv2d else _transposed)(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if made is None else made


def _wanted(*tensors: Any) -> bool:
    return len(tensors) == 2 and all(one.dtype == torch.float64 and one.ndim == 4 for one in tensors)


def _convolution(
    x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor | None:
    """The convolution by strips of output rows, or None where it is not cut."""
    if isinstance(padding, str):
        return None
    (down, across), (above, beside), apart = _pair(stride), _pair(padding), _pair(dilation)
    padded = F.pad(x, (beside, beside, above, above))
    reach = [gap * (size - 1) + 1 for gap, size in zip(apart, weight.shape[2:], strict=True)]
    rows, columns = (padded.shape[2] - reach[0]) // down + 1, (padded.shape[3] - reach[1]) // across + 1
    step = max(1, STRIP_BYTES // (8 * groups * weight[0].numel() * columns))
    made = x.new_empty(len(x), len(weight), rows, columns)
    for image, first in itertools.product(range(len(x)), range(0, rows, step)):
        last = min(first + step, rows)
        strip = padded[image : image + 1, :, first * down : (last - 1) * down + reach[0]]
        made[image, :, first:last] = F.conv2d(strip, weight, bias, stride, 0, dilation, groups)[0]
    return made


def _transposed(
    x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transposed convolution by groups of output channels."""
    if groups > 1:
        biases = [None] * groups if bias is None else bias.chunk(groups)
        parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
        return torch.cat([_transposed(*part, stride, padding, output_padding, 1, dilation) for part in parts], dim=1)
    step = max(1, STRIP_BYTES // (8 * weight[0, 0].numel() * x.shape[2] * x.shape[3]))
    settings = stride, padding, output_padding, 1, dilation
    pieces = [slice(first, first + step) for first in range(0, weight.shape[1], step)]
    biases = [None if bias is None else bias[piece] for piece in pieces]
    return torch.cat(
        [
            torch.cat([F.conv_transpose2d(x[i : i + 1], weight[:, piece], bias, *settings) for i in range(len(x))])
            for piece, bias in zip(pieces, biases, strict=True)
        ],
        dim=1,
    )


def _pair(value: Any) -> tuple[int, int]:
    """(rows, columns) of an argument of torch's that is one number or two."""
    rows, columns = value if isinstance(value, (tuple, list)) else (value, value)
    return int(rows), int(columns)
