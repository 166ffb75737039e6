"""The ConvTranspose itself."""

from __future__ import annotations

import numpy as np

from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, nchw, to_layout
from gan_export.passes.transposed.layer import Transposed


def fits(layer: Transposed) -> bool:  # noqa: ARG001 - the interface of a form
    return True


def apply(b: Builder, x: Feature, layer: Transposed) -> Feature:
    inputs = [to_layout(b, x, Layout.NCHW).name, layer.weight_name]
    if np.any(layer.bias):
        inputs.append(b.constant(layer.bias))
    name = b.op(
        "ConvTranspose",
        *inputs,
        kernel_shape=list(layer.kernel),
        strides=[layer.stride] * 2,
        pads=list(layer.pads),
        output_padding=list(layer.extra),
        group=layer.groups,
    )
    return nchw(name, layer.c_out, layer.out_height, layer.out_width)
