"""3x3 convolutions with many channels as Winograd products: 24 multiplications for eight pixels instead of 72.

Winograd's F(2, 3) on the rows and F(4, 3) on the columns, as Lavin and Gray 2015 (arXiv:1509.09308) use them. Along one
axis two outputs of three taps are sums of four products, and four outputs of six. Each product is of a `Factor`, a sum
of the inputs x[2t-1] … x[2t+2] or x[4t-1] … x[4t+4], zero outside, and of a sum of the taps.

Over both axes: 24 classes of the input, each an eighth of it; F(2, 3) on both, and 16 quarters, where an image is small
or its width no multiple of four. A class is two depthwise convolutions, a product a pointwise one, and a sum with a
factor a depthwise one that is added, so that onnxruntime stays in the blocked layout of its convolutions from the input
to the phases of the output.

The file keeps the 3x3 kernel. The graph derives the matrices, which a runtime does once, at loading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import TO_NCHW, TO_NHWC, Builder, constant, infer_shapes, nodes_of, replace, shape_of


@dataclass(frozen=True)
class Factor:
    """Taps of the input, so far apart (`dilation`), with zeros `before` and `behind` it; and of the kernel's three."""

    of_input: tuple[int, ...]
    of_kernel: tuple[float, float, float]
    dilation: int = 1
    before: int = 0
    behind: int = 0


FACTORS = {
    2: (
        Factor((1, -1), (1, 0, 0), dilation=2, before=1),
        Factor((1, 1), (1 / 2, 1 / 2, 1 / 2)),
        Factor((-1, 1), (1 / 2, -1 / 2, 1 / 2)),
        Factor((1, -1), (0, 0, -1), dilation=2, behind=1),
    ),
    4: (
        Factor((4, -5, 1), (1 / 4, 0, 0), dilation=2, before=1),
        Factor((-4, -4, 1, 1), (-1 / 6, -1 / 6, -1 / 6)),
        Factor((4, -4, -1, 1), (-1 / 6, 1 / 6, -1 / 6)),
        Factor((-2, -1, 2, 1), (1 / 24, 1 / 12, 1 / 6)),
        Factor((2, -1, -2, 1), (1 / 24, -1 / 12, 1 / 6)),
        Factor((4, -5, 1), (0, 0, 1), dilation=2, behind=1),
    ),
}
"""By how many outputs, which lie in as many phases: the two factors of each product."""
ROWS, PIXELS = 2, 256
"""The phases of the rows, and of how many pixels an image is that gains by four of the columns."""

CHANNELS, MACS = 192, 100_000_000
"""The least channels, and multiplications for an image, of convolutions that gain. With fewer channels the sums take
most of what the products save; with short operators a single image, which all threads compute together, waits."""


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
    (out, channels), (height, width) = kernel.shape[:2], (side or 0 for side in shape[2:])
    bias = [value for value in conv.inputs[2:] if value is not None]
    phases = 2 if width % 4 or height * width < PIXELS else 4
    rows, columns = FACTORS[ROWS], FACTORS[phases]
    mixing = np.kron([factor.of_kernel for factor in rows], [factor.of_kernel for factor in columns])
    taps = b.op("Transpose", b.reshape(weight, out * channels, 9), perm=[1, 0])
    mixed = b.reshape(b.op("MatMul", b.constant(mixing.astype(np.float32)), taps), -1, channels, 1, 1)
    matrices = iter(b.ops("Split", len(mixing), mixed, b.ints(*[out] * len(mixing)), axis=0))
    kernels: dict[tuple[int, ...], ir.Value] = {}

    def depthwise(
        value: ir.Value, size: int, axis: int, taps: tuple[int, ...], *last: ir.Value, **given: Any
    ) -> ir.Value:
        if (key := (size, axis, *taps)) not in kernels:
            line = np.expand_dims(np.array(taps, np.float32), 1 - axis)
            kernels[key] = b.op("Expand", b.constant(line), b.ints(size, 1, *line.shape))
        return b.op("Conv", value, kernels[key], *last, group=size, **given)

    def of_input(value: ir.Value, factor: Factor, axis: int, stride: int) -> ir.Value:
        pads, strides, dilations = [0] * 4, [1, 1], [1, 1]
        pads[axis], pads[axis + 2] = factor.before, factor.behind
        strides[axis], dilations[axis] = stride, factor.dilation
        return depthwise(value, channels, axis, factor.of_input, pads=pads, strides=strides, dilations=dilations)

    def plus(value: ir.Value, other: ir.Value, factor: int, *last: ir.Value) -> ir.Value:
        """value + factor · other + last."""
        return b.op("Add", depthwise(other, out, 0, (factor,), *last), value)

    def along(phases: int, product: Callable[..., ir.Value], *last: ir.Value) -> list[ir.Value]:
        """The phases of one axis, of the `product` of each factor."""
        pair = product(1), product(2)
        even, odd = b.op("Add", *pair), plus(*pair, -1)
        if phases == 2:
            return [b.op("Add", product(0, *last), even), b.op("Add", product(3, *last), odd)]
        pair = product(3), product(4)
        evens, odds = b.op("Add", *pair), plus(*pair, -1)
        first, fourth = b.op("Add", even, evens), plus(odd, odds, 8, *last)
        inner = [plus(odd, odds, 2, *last), plus(even, evens, 4, *last)]
        return [b.op("Add", product(0, *last), first), *inner, b.op("Add", product(5), fourth)]

    wide = [of_input(x, factor, 1, phases) for factor in columns]
    multiplied = {
        (row, column): (of_input(value, factor, 0, ROWS), next(matrices))
        for row, factor in enumerate(rows)
        for column, value in enumerate(wide)
    }
    ends = (0,) if phases == 4 else (0, 3)  # where `along` takes the bias from the products
    sums = [
        along(ROWS, lambda row, *last, n=n: b.op("Conv", *multiplied[row, n], *last), *(bias if n in ends else ()))
        for n in range(len(columns))
    ]
    made = [along(phases, lambda n, *_, each=each: each[n], *bias) for each in zip(*sums, strict=True)]
    pixels = b.op("Transpose", b.op("Concat", *made[0], *made[1], axis=1), perm=TO_NHWC)
    parted = b.reshape(pixels, -1, height // ROWS, width // phases, ROWS, phases * out)
    in_place = b.op("Transpose", parted, perm=[0, 1, 3, 2, 4])
    return b.op("Transpose", b.reshape(in_place, -1, height, width, out), perm=TO_NCHW)
