"""A matrix product in NHWC, then an overlap-add: every pixel's kernel block is computed at once and added in place.

With kernel k = m s, blocks of s x s outputs overlap m x m times. Window j of an axis is what lands on outputs
s j … s j + s - 1 before the padding is cropped: x[j] with taps 0 … s - 1, x[j - 1] with taps s … 2s - 1, and so on.
"""

from __future__ import annotations

import numpy as np

from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, nhwc, to_layout
from gan_export.passes.transposed.layer import Transposed


def fits(layer: Transposed) -> bool:
    return layer.derived is None and layer.groups == 1 and all(k % layer.stride == 0 for k in layer.kernel)


def apply(b: Builder, x: Feature, layer: Transposed) -> Feature:
    x = to_layout(b, x, Layout.NHWC)
    s, (top, left, _, _), c_out = layer.stride, layer.pads, layer.c_out
    blocks_h, blocks_w = (k // s for k in layer.kernel)
    kernel = layer.weight.transpose(0, 2, 3, 1)  # (c_in, kh, kw, c_out)
    columns = []
    for right in range(blocks_w):
        parts = []
        for down in range(blocks_h):
            block = kernel[:, down * s : (down + 1) * s, right * s : (right + 1) * s]
            part = b.op("MatMul", x.name, b.constant(block.reshape(layer.c_in, -1), layer.weight_name))
            parts.append(b.pad(part, (0, down, 0, 0), (0, blocks_h - 1 - down, 0, 0)))
        columns.append(b.pad(_sum(b, parts), (0, 0, right, 0), (0, 0, blocks_w - 1 - right, 0)))
    rows, across = layer.height + blocks_h - 1, layer.width + blocks_w - 1
    windows = b.reshape(_sum(b, columns), -1, rows, across, s, s * c_out)
    whole = b.reshape(b.op("Transpose", windows, perm=[0, 1, 3, 2, 4]), -1, rows * s, across * s, c_out)
    below = layer.out_height + top - rows * s
    beside = layer.out_width + left - across * s
    cropped = b.pad(whole, (0, -top, -left, 0), (0, below, beside, 0))
    name = b.op("Add", cropped, b.constant(layer.bias)) if np.any(layer.bias) else cropped
    return nhwc(name, c_out, layer.out_height, layer.out_width)


def _sum(b: Builder, names: list[str]) -> str:
    total = names[0]
    for name in names[1:]:
        total = b.op("Add", total, name)
    return total
