"""A value on its way through a chain, in one of four layouts, and the ways between them.

NCHW     (batch, channels, height, width), as the graph around the chain has it
NHWC     (batch, height, width, channels): a convolution's products are then one large matrix product
PARITY   four NHWC values (batch, height / 2, width / 2, channels): even and odd rows, even and odd columns.
         `winograd` reads and writes these; between two such layers nothing is interleaved at all.
PHASES   s x s NCHW values (batch, channels, ceil(height / s), ceil(width / s)), the pixels apart by their place among
         s x s: what small convolutions write (`phases`). For s = 2 they need no more than NHWC to be PARITY.

Pixels are interleaved in NHWC, where whole rows of channels move. DepthToSpace moves single numbers, on one thread of
onnxruntime's CPU provider, which takes longer than the way there and back.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import onnx_ir as ir

from gan_export.passes.graph import Builder

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


class Layout(enum.Enum):
    NCHW = "NCHW"
    NHWC = "NHWC"
    PARITY = "parity"
    PHASES = "phases"


@dataclass(frozen=True)
class Feature:
    """The `values`: one, or for PARITY and PHASES all phases, ordered (row, column) = 00, 01, … 10, 11, ….

    `height` and `width` are those of the whole image, whatever the layout.
    """

    values: tuple[ir.Value, ...]
    layout: Layout
    channels: int
    height: int
    width: int

    @property
    def value(self) -> ir.Value:
        (only,) = self.values
        return only


def nchw(value: ir.Value, channels: int, height: int, width: int) -> Feature:
    return Feature((value,), Layout.NCHW, channels, height, width)


def nhwc(value: ir.Value, channels: int, height: int, width: int) -> Feature:
    return Feature((value,), Layout.NHWC, channels, height, width)


def to_layout(b: Builder, x: Feature, layout: Layout) -> Feature:
    """`x` in `layout`, which is any but PHASES. PARITY needs an even height and width."""
    if x.layout is layout:
        return x
    if x.layout is Layout.PARITY:
        return to_layout(b, _merge(b, x), layout)
    if x.layout is Layout.PHASES:
        if layout is Layout.PARITY and len(x.values) == 4:
            values = tuple(b.op("Transpose", value, perm=TO_NHWC) for value in x.values)
            return Feature(values, layout, x.channels, x.height, x.width)
        return to_layout(b, _interleave(b, x), layout)
    if layout is Layout.PARITY:
        return _split(b, to_layout(b, x, Layout.NHWC))
    perm = TO_NHWC if layout is Layout.NHWC else TO_NCHW
    return Feature((b.op("Transpose", x.value, perm=perm),), layout, x.channels, x.height, x.width)


def map_each(b: Builder, x: Feature, op_type: str, **attributes: object) -> Feature:
    """An elementwise operator of one input on `x`, layout kept."""
    values = tuple(b.op(op_type, value, **attributes) for value in x.values)
    return Feature(values, x.layout, x.channels, x.height, x.width)


def _split(b: Builder, x: Feature) -> Feature:
    half_h, half_w, c = x.height // 2, x.width // 2, x.channels
    values = []
    for row in b.ops("Split", 2, b.reshape(x.value, -1, half_h, 2, x.width * c), b.ints(1, 1), axis=2):
        parts = b.ops("Split", 2, b.reshape(row, -1, half_h, half_w, 2, c), b.ints(1, 1), axis=3)
        values += [b.reshape(part, -1, half_h, half_w, c) for part in parts]
    return Feature(tuple(values), Layout.PARITY, c, x.height, x.width)


def _merge(b: Builder, x: Feature) -> Feature:
    """Columns side by side are interleaved by a reshape alone: channels are the innermost axis."""
    rows = [
        b.reshape(b.op("Concat", even, odd, axis=3), -1, x.height // 2, 1, x.width * x.channels)
        for even, odd in (x.values[:2], x.values[2:])
    ]
    return nhwc(
        b.reshape(b.op("Concat", *rows, axis=2), -1, x.height, x.width, x.channels), x.channels, x.height, x.width
    )


def _interleave(b: Builder, x: Feature) -> Feature:
    """Phases beside each other as channels, so that each row of s pixels is one run of numbers; then rows change places
    with columns. A last row or column that is too many is cropped.
    """
    s, c = math.isqrt(len(x.values)), x.channels
    rows, columns = -(-x.height // s), -(-x.width // s)
    pixels = b.op("Transpose", b.op("Concat", *x.values, axis=1), perm=TO_NHWC)
    in_place = b.op("Transpose", b.reshape(pixels, -1, rows, columns, s, s * c), perm=[0, 1, 3, 2, 4])
    whole = b.reshape(in_place, -1, rows * s, columns * s, c)
    crop = x.height - rows * s, x.width - columns * s
    return nhwc(b.pad(whole, (0, 0, 0, 0), (0, *crop, 0)), c, x.height, x.width)
