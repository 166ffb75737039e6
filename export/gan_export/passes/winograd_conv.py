"""3x3 convolutions with many channels as Winograd products: 16 multiplications for four pixels instead of 36.

Winograd's F(2x2, 3x3), as Lavin and Gray 2015 (arXiv:1509.09308) use it. Along one axis, with x the input, zero
outside, and g the three taps,

    y[2t]     = m1 + m2 + m3      m1 = (x[2t-1] - x[2t+1]) g0            m2 = (x[2t] + x[2t+1]) (g0 + g1 + g2) / 2
    y[2t + 1] = m2 - m3 - m4      m4 = (x[2t] - x[2t+2]) g2              m3 = (x[2t+1] - x[2t]) (g0 - g1 + g2) / 2

Over both axes: 16 classes of the input, each a quarter of it. A class is a depthwise convolution of 2x2 taps (with a
dilation of 2 where they are not neighbours), a product a pointwise one, and a difference a depthwise one by -1, so that
onnxruntime stays in the blocked layout of its convolutions from the input to the four phases of the output. The signs
of m3 and m4 are the kernel's.

The file keeps the 3x3 kernel. The graph derives the 16 matrices, which a runtime does once, at loading.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import (
    Builder,
    Feature,
    Layout,
    constant,
    infer_shapes,
    nodes_of,
    replace,
    shape_of,
    to_layout,
)

TAPS = ((1, -1), (1, 1), (-1, 1), (1, -1))
DILATIONS = (2, 1, 1, 2)
BEFORE, BEHIND = (1, 0, 0, 0), (0, 0, 0, 1)
"""Of each class along one axis: its two taps, how far apart they are, and the zeros around the input."""
KERNELS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, -1]])
"""What each product takes of the three taps."""
MIXING = np.kron(KERNELS, KERNELS).astype(np.float32)

CHANNELS, MACS = 192, 100_000_000
"""The least channels, and multiplications for an image, of convolutions that gain. With 128 channels the sums take what
the products save; with short operators a single image, which all threads compute together, waits for them."""


class WinogradConvs(ir.passes.InPlacePass):
    """Rewrites every Conv of 3x3, stride 1, padding 1, no groups, with constant float32 weights, an even height and
    width that are known, and at least so many `channels` and multiplications (`macs`).

    The result draws the same images up to float32 rounding.
    """

    def __init__(self, channels: int = CHANNELS, macs: int = MACS) -> None:
        self.channels, self.macs = channels, macs

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        infer_shapes(model)
        convs = [conv for conv in nodes_of(model, "Conv") if self._fits(conv)]
        for number, conv in enumerate(convs):
            b = Builder(model, f"winograd{number}")
            value = _written(b, conv)
            replace([conv], b.nodes, conv.outputs[0], by=value)
        return ir.passes.PassResult(model, modified=bool(convs))

    def _fits(self, conv: ir.Node) -> bool:
        given, shape, weight = conv.attributes, shape_of(conv.inputs[0]), constant(conv.inputs[1])
        if shape is None or weight is None or weight.dtype != np.float32 or weight.shape[2:] != (3, 3):
            return False
        plain = all(v == 1 for name in ("strides", "dilations", "pads") for v in given.get_ints(name, (1,)))
        if not plain or "pads" not in given or given.get_string("auto_pad", "NOTSET") != "NOTSET":
            return False
        _, channels, height, width = shape
        if not height or not width or height % 2 or width % 2 or channels != weight.shape[1]:
            return False
        return min(weight.shape[:2]) >= self.channels and weight.size * height * width >= self.macs


def _written(b: Builder, conv: ir.Node) -> ir.Value:
    """Adds the nodes that make what `conv` makes."""
    x, weight = conv.inputs[:2]
    shape, kernel = shape_of(x), constant(weight)
    assert x is not None
    assert weight is not None
    assert shape is not None
    assert kernel is not None
    out, channels = kernel.shape[:2]
    bias = [value for value in conv.inputs[2:] if value is not None]
    taps = b.op("Transpose", b.reshape(weight, out * channels, 9), perm=[1, 0])
    mixed = b.op("MatMul", b.constant(MIXING), taps)
    matrices = b.ops("Split", 16, b.reshape(mixed, 16 * out, channels, 1, 1), b.ints(*[out] * 16), axis=0)
    minus = b.op("Expand", b.constant(np.full((1, 1, 1, 1), -1, np.float32)), b.ints(out, 1, 1, 1))

    def product(row: int, column: int, *last: ir.Value) -> ir.Value:
        signs = b.constant(np.outer(TAPS[row], TAPS[column]).astype(np.float32).reshape(1, 1, 2, 2))
        of_class = b.op(
            "Conv",
            x,
            b.op("Expand", signs, b.ints(channels, 1, 1, 1)),
            kernel_shape=[2, 2],
            strides=[2, 2],
            dilations=[DILATIONS[row], DILATIONS[column]],
            pads=[BEFORE[row], BEFORE[column], BEHIND[row], BEHIND[column]],
            group=channels,
        )
        return b.op("Conv", of_class, matrices[4 * row + column], *last, kernel_shape=[1, 1])

    def difference(left: ir.Value, right: ir.Value) -> ir.Value:
        return b.op("Add", b.op("Conv", right, minus, kernel_shape=[1, 1], group=out), left)

    def rows(column: int, *added: ir.Value) -> list[ir.Value]:
        """y[2t] and y[2t + 1] along the rows, of the products of one column, plus what is `added` to each."""
        middle = product(1, column), product(2, column)
        sums = [b.op("Add", *middle), difference(*middle)]
        sums = [b.op("Add", *pair) for pair in zip(sums, added, strict=True)] if added else sums
        last = bias if added else []
        return [b.op("Add", product(row, column, *last), one) for row, one in zip((0, 3), sums, strict=True)]

    left, right = rows(1), rows(2)
    even = rows(0, *(b.op("Add", *pair) for pair in zip(left, right, strict=True)))
    odd = rows(3, *(difference(*pair) for pair in zip(left, right, strict=True)))
    values = (even[0], odd[0], even[1], odd[1])
    height, width = (side or 0 for side in shape[2:])
    return to_layout(b, Feature(values, Layout.PHASES, out, height, width), Layout.NCHW).value
