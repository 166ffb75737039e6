"""The forms of a transposed convolution: whether one fits a layer, and the nodes that it is, bias included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import Builder
from gan_export.passes.transposed import winograd
from gan_export.passes.transposed.feature import Feature, Layout, nchw, nhwc, to_layout
from gan_export.passes.transposed.layer import Transposed

Taps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Form:
    """One form: `apply` takes and makes a value in whatever layout it likes."""

    fits: Callable[[Transposed], bool]
    apply: Callable[[Builder, Feature, Transposed], Feature]


def keep(b: Builder, x: Feature, layer: Transposed) -> Feature:
    """The ConvTranspose itself."""
    assert layer.node is not None
    weight = layer.node.inputs[1]
    assert weight is not None
    inputs = [to_layout(b, x, Layout.NCHW).value, weight]
    if np.any(layer.bias):
        inputs.append(b.constant(layer.bias))
    value = b.op(
        "ConvTranspose",
        *inputs,
        kernel_shape=list(layer.kernel),
        strides=[layer.stride] * 2,
        pads=list(layer.pads),
        output_padding=list(layer.extra),
        group=layer.groups,
    )
    return nchw(value, layer.c_out, layer.out_height, layer.out_width)


def gemm(b: Builder, x: Feature, layer: Transposed, layout: Layout = Layout.NCHW) -> Feature:
    """One matrix product for the whole batch, from a 1x1 input, or the same numbers in any shape.

    There a transposed convolution writes each kernel once: y[c, h, w] = sum of x[i] W[i, c, h, w] + b[c]. The columns
    come as `layout`, NCHW or NHWC, wants them, at no cost.
    """
    top, left, bottom, right = layer.pads
    h, w, c = layer.out_height, layer.out_width, layer.c_out
    kernels = layer.weight.numpy()
    if any(layer.extra):
        kernels = np.pad(kernels, ((0, 0), (0, 0), (0, layer.extra[0]), (0, layer.extra[1])))
    kernels = kernels[:, :, top : kernels.shape[2] - bottom, left : kernels.shape[3] - right]
    columns = kernels if layout is Layout.NCHW else kernels.transpose(0, 2, 3, 1)
    bias = np.repeat(layer.bias, h * w) if layout is Layout.NCHW else np.tile(layer.bias, h * w)
    flat = b.reshape(x.value, -1, layer.c_in)
    weight = b.constant(columns.reshape(layer.c_in, -1), layer.weight_name)
    product = b.op("Gemm", flat, weight, b.constant(bias))
    if layout is Layout.NCHW:
        return nchw(b.reshape(product, -1, c, h, w), c, h, w)
    return nhwc(b.reshape(product, -1, h, w, c), c, h, w)


def phases(b: Builder, x: Feature, layer: Transposed) -> Feature:
    """Each of the s x s phases as a small convolution of its own: nothing is multiplied by zero.

    Output s i + phase needs only the taps of that phase (`Transposed.taps`), on inputs next to i. Of a derived kernel
    each phase takes its own sums of the taps that the file holds. The result is in PHASES layout: activations then
    ride on the convolutions.
    """
    x = to_layout(b, x, Layout.NCHW)
    s = layer.stride
    rows, columns = -(-layer.out_height // s), -(-layer.out_width // s)
    values = tuple(
        _phase(b, x.value, layer, row, column, rows, columns) for row in layer.taps(0) for column in layer.taps(1)
    )
    return Feature(values, Layout.PHASES, layer.c_out, layer.out_height, layer.out_width)


def _phase(b: Builder, x: ir.Value, layer: Transposed, rows: Taps, columns: Taps, height: int, width: int) -> ir.Value:
    begin = -rows[0][1], -columns[0][1]
    end = height - 1 + rows[-1][1] - (layer.height - 1), width - 1 + columns[-1][1] - (layer.width - 1)
    cropped = b.pad(x, (0, 0, *(min(v, 0) for v in begin)), (0, 0, *(min(v, 0) for v in end)))
    return b.op(
        "Conv",
        cropped,
        _phase_kernel(b, layer, rows, columns),
        b.constant(layer.bias),
        kernel_shape=[len(rows), len(columns)],
        pads=[max(v, 0) for v in (*begin, *end)],
        group=layer.groups,
    )


def _phase_kernel(b: Builder, layer: Transposed, rows: Taps, columns: Taps) -> ir.Value:
    """The taps of one phase, as Conv wants them: (c_out, c_in / groups, rows, columns)."""
    groups, size = layer.groups, (len(rows), len(columns))
    shape = (layer.c_out, layer.c_in // groups, *size)
    if layer.derived is not None:
        places = [row * layer.kernel[1] + column for row, _ in rows for column, _ in columns]
        taps = b.reshape(layer.derived.weight, layer.c_out * shape[1], -1)
        return b.reshape(b.op("MatMul", taps, b.constant(layer.derived.mixing[:, places])), *shape)
    taken = layer.weight.numpy()[:, :, [k for k, _ in rows]][:, :, :, [k for k, _ in columns]]
    grouped = taken.reshape(groups, layer.c_in // groups, layer.c_out // groups, *size)
    return b.constant(grouped.transpose(0, 2, 1, 3, 4).reshape(shape), layer.weight_name)


def subpixel(b: Builder, x: Feature, layer: Transposed) -> Feature:
    """One convolution that makes all s x s phases as channels, then DepthToSpace. (Shi et al. 2016, arXiv:1609.07009)

    Counted before the padding is cropped, output s i + r of an axis is the sum over m of x[i - m] with tap s m + r:
    every phase r looks at the same inputs, so the kernel is ceil(k / s) wide and holds zeros only where s does not
    divide k. The price is the windows at the border whose outputs are cropped.
    """
    x = to_layout(b, x, Layout.NCHW)
    s, groups = layer.stride, layer.groups
    reach = [-(-k // s) for k in layer.kernel]
    wholes = np.zeros((layer.c_in, layer.c_out // groups, reach[0] * s, reach[1] * s), np.float32)
    wholes[:, :, : layer.kernel[0], : layer.kernel[1]] = layer.weight.numpy()
    # (group, in, out, m, r, m', r') → (group, out, r, r', in, m, m'), the taps m from the farthest input to the nearest
    blocks = wholes.reshape(groups, layer.c_in // groups, -1, reach[0], s, reach[1], s)[:, :, :, ::-1, :, ::-1]
    kernel = blocks.transpose(0, 2, 4, 6, 1, 3, 5).reshape(layer.c_out * s * s, layer.c_in // groups, *reach)
    sizes, wanted = (layer.height, layer.width), (layer.out_height, layer.out_width)
    first = [pad // s for pad in layer.pads[:2]]
    last = [-(-(out + pad) // s) - 1 for out, pad in zip(wanted, layer.pads[:2], strict=True)]
    begin = [m - 1 - i for m, i in zip(reach, first, strict=True)]
    end = [i - (size - 1) for i, size in zip(last, sizes, strict=True)]
    cropped = b.pad(x.value, (0, 0, *(min(v, 0) for v in begin)), (0, 0, *(min(v, 0) for v in end)))
    channels = b.op(
        "Conv",
        cropped,
        b.constant(kernel, layer.weight_name),
        b.constant(np.repeat(layer.bias, s * s)),
        kernel_shape=reach,
        pads=[max(v, 0) for v in (*begin, *end)],
        group=groups,
    )
    whole = b.op("DepthToSpace", channels, blocksize=s, mode="CRD")
    before = [i * s - pad for i, pad in zip(first, layer.pads[:2], strict=True)]
    behind = [out + pad - (i + 1) * s for out, pad, i in zip(wanted, layer.pads[:2], last, strict=True)]
    return nchw(b.pad(whole, (0, 0, *before), (0, 0, *behind)), layer.c_out, *wanted)


FORMS: dict[str, Form] = {
    "keep": Form(lambda _layer: True, keep),
    "gemm": Form(lambda layer: layer.derived is None and layer.height == layer.width == 1 and layer.groups == 1, gemm),
    "phases": Form(lambda layer: layer.stride > 1 and all(k >= layer.stride for k in layer.kernel), phases),
    "subpixel": Form(lambda layer: layer.derived is None and layer.stride > 1, subpixel),
    "winograd": Form(winograd.fits, winograd.apply),
}
