"""On a 1x1 input a transposed convolution writes each kernel once: y[c, h, w] = sum of x[i] W[i, c, h, w] + b[c].

That is one matrix product for the whole batch. The input's columns come as the layout wants them, at no cost.
"""

from __future__ import annotations

import numpy as np

from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, nchw, nhwc
from gan_export.passes.transposed.layer import Transposed


def fits(layer: Transposed) -> bool:
    return layer.derived is None and layer.height == layer.width == 1 and layer.groups == 1


def apply(b: Builder, x: Feature, layer: Transposed, layout: Layout = Layout.NCHW) -> Feature:
    """`x` holds (batch, c_in, 1, 1), or the same numbers in any shape. `layout` is NCHW or NHWC."""
    top, left, bottom, right = layer.pads
    kh, kw = layer.kernel
    h, w, c = layer.out_height, layer.out_width, layer.c_out
    kernels = np.zeros((layer.c_in, c, kh + layer.extra[0], kw + layer.extra[1]), np.float32)
    kernels[:, :, :kh, :kw] = layer.weight
    kernels = kernels[:, :, top : kernels.shape[2] - bottom, left : kernels.shape[3] - right]
    columns = kernels if layout is Layout.NCHW else kernels.transpose(0, 2, 3, 1)
    bias = np.repeat(layer.bias, h * w) if layout is Layout.NCHW else np.tile(layer.bias, h * w)
    flat = b.reshape(x.name, -1, layer.c_in)
    weight = b.constant(columns.reshape(layer.c_in, -1), layer.weight_name)
    product = b.op("Gemm", flat, weight, b.constant(bias))
    if layout is Layout.NCHW:
        return nchw(b.reshape(product, -1, c, h, w), c, h, w)
    return nhwc(b.reshape(product, -1, h, w, c), c, h, w)
