"""3x3 convolutions with many channels as Winograd products: 24 multiplications for eight pixels instead of 72.

Winograd's F(2, 3) on the rows and F(4, 3) on the columns, as Lavin and Gray 2015 (arXiv:1509.09308) use them. Along one
axis two outputs of three taps are sums of four products, and four outputs of six. Each product is of a `Factor`, a sum
of the inputs x[2t-1] … x[2t+2] or x[4t-1] … x[4t+4], zero outside, and of a sum of the taps; without padding, of the
inputs from x[2t] or x[4t] on.

Over both axes: 24 classes of the input, each an eighth of it; F(2, 3) on both, and 16 quarters, where an image is small
or its width no multiple of four. A class is two depthwise convolutions, a product a pointwise one, and a sum with a
factor a depthwise one that is added, so that onnxruntime stays in the blocked layout of its convolutions from the input
to the phases of the output. Where the size is not known, the last of them go beyond the image and are cut off.

The file keeps the 3x3 kernel. The graph derives the matrices, which a runtime does once, at loading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import (
    TO_NCHW,
    TO_NHWC,
    Builder,
    constant,
    conv_pads,
    conv_weight,
    infer_shapes,
    interleaved,
    nodes_of,
    replace,
    shape_of,
)  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """Factors of the inputs, and of the kernel's three taps."""

    of_input: tuple[int, ...]
    of_kernel: tuple[float, float, float]


FACTORS = {
    2: (
        Factor((1, 0, -1, 0), (1, 0, 0)),
        Factor((0, 1, 1, 0), (1 / 2, 1 / 2, 1 / 2)),
        Factor((0, -1, 1, 0), (1 / 2, -1 / 2, 1 / 2)),
        Factor((0, 1, 0, -1), (0, 0, -1)),
    ),
    4: (
        Factor((4, 0, -5, 0, 1, 0), (1 / 4, 0, 0)),
        Factor((0, -4, -4, 1, 1, 0), (-1 / 6, -1 / 6, -1 / 6)),
        Factor((0, 4, -4, -1, 1, 0), (-1 / 6, 1 / 6, -1 / 6)),
        Factor((0, -2, -1, 2, 1, 0), (1 / 24, 1 / 12, 1 / 6)),
        Factor((0, 2, -1, -2, 1, 0), (1 / 24, -1 / 12, 1 / 6)),
        Factor((0, 4, 0, -5, 0, 1), (0, 0, 1)),
    ),
}
"""By how many outputs, which lie in as many phases: the two factors of each product."""
ROWS, PIXELS = 2, 256
"""The phases of the rows, and of how many pixels an image is that gains by four of the columns."""

CHANNELS, MACS = 192, 100_000_000
"""The least channels, and multiplications for an image, of convolutions that gain. With fewer channels the sums take
most of what the products save; with short operators a single image, which all threads compute together, waits."""


class WinogradConvs(ir.passes.InPlacePass):
    """Rewrites every Conv of 3x3, stride 1, padding 0 or 1, no groups, with constant float32 weights and at least so
    many `channels`, that makes an even height and width with so many multiplications (`macs`), or any size.

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
        shape, weight = shape_of(conv.inputs[0]), conv_weight(conv)
        if shape is None or weight is None or weight.shape[2:] != (3, 3) or {*conv_pads(conv)} not in ({0}, {1}):
            return False
        if shape[1] != weight.shape[1] or min(weight.shape[:2]) < self.channels:
            return False
        height, width = _sides(conv)
        if height is None or width is None:
            return True
        return min(height, width) > 0 and height % 2 == width % 2 == 0 and weight.size * height * width >= self.macs


def _sides(conv: ir.Node) -> tuple[int | None, int | None]:
    """Height and width of what `conv` makes; None where they are not known."""
    shape, beyond = shape_of(conv.inputs[0]), 2 * conv_pads(conv)[0] - 2
    assert shape is not None
    height, width = (None if side is None else side + beyond for side in shape[2:])
    return height, width


def _written(b: Builder, conv: ir.Node) -> ir.Value:
    """Adds the nodes that make what `conv` makes."""
    x, weight = conv.inputs[:2]
    kernel = constant(weight)
    assert x is not None
    assert weight is not None
    assert kernel is not None
    (out, channels), (height, width), pad = kernel.shape[:2], _sides(conv), conv_pads(conv)[0]
    bias = [value for value in conv.inputs[2:] if value is not None]
    known = height is not None and width is not None
    phases = 2 if height is not None and width is not None and (width % 4 or height * width < PIXELS) else 4
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
        taps, before, behind = list(factor.of_input), pad, pad if known else pad + stride - 1
        while taps[0] == 0 and before:
            taps, before = taps[1:], before - 1
        while taps[-1] == 0 and behind:
            taps, behind = taps[:-1], behind - 1
        apart = 2 if len(taps) % 2 and not any(taps[1::2]) else 1
        pads, strides, dilations = [0] * 4, [1, 1], [1, 1]
        pads[axis], pads[axis + 2], strides[axis], dilations[axis] = before, behind, stride, apart
        given = {"pads": pads, "strides": strides, "dilations": dilations}
        return depthwise(value, channels, axis, tuple(taps[::apart]), **given)

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
    whole = interleaved(b, pixels, (ROWS, phases), out, (height, width))
    if not known:
        sides = b.op("Add", b.op("Slice", b.op("Shape", x), b.ints(2), b.ints(4)), b.ints(2 * pad - 2))
        whole = b.op("Slice", whole, b.ints(0, 0), sides, b.ints(1, 2))
    return b.op("Transpose", whole, perm=TO_NCHW)
