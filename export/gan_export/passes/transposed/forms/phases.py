"""Each of the s x s phases as a small convolution of its own: nothing is multiplied by zero.

Output s i + phase needs only the taps of that phase (`Transposed.taps`), on inputs next to i. Of a derived kernel each
phase takes its own sums of the taps that the file holds (`passes.transposed.derived`).
"""

from __future__ import annotations

from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, to_layout
from gan_export.passes.transposed.layer import Transposed

Taps = tuple[tuple[int, int], ...]


def fits(layer: Transposed) -> bool:
    return layer.stride > 1 and all(k >= layer.stride for k in layer.kernel)


def apply(b: Builder, x: Feature, layer: Transposed) -> Feature:
    """The result is in PHASES layout: activations then ride on the convolutions."""
    x = to_layout(b, x, Layout.NCHW)
    s = layer.stride
    rows, columns = -(-layer.out_height // s), -(-layer.out_width // s)
    names = tuple(
        _phase(b, x.name, layer, row, column, rows, columns) for row in layer.taps(0) for column in layer.taps(1)
    )
    return Feature(names, Layout.PHASES, layer.c_out, layer.out_height, layer.out_width)


def _phase(b: Builder, x: str, layer: Transposed, rows: Taps, columns: Taps, height: int, width: int) -> str:
    begin = -rows[0][1], -columns[0][1]
    end = height - 1 + rows[-1][1] - (layer.height - 1), width - 1 + columns[-1][1] - (layer.width - 1)
    cropped = b.pad(x, (0, 0, *(min(v, 0) for v in begin)), (0, 0, *(min(v, 0) for v in end)))
    return b.op(
        "Conv",
        cropped,
        _kernel(b, layer, rows, columns),
        b.constant(layer.bias),
        kernel_shape=[len(rows), len(columns)],
        pads=[max(v, 0) for v in (*begin, *end)],
        group=layer.groups,
    )


def _kernel(b: Builder, layer: Transposed, rows: Taps, columns: Taps) -> str:
    """The taps of one phase, as Conv wants them: (c_out, c_in / groups, rows, columns)."""
    groups, size = layer.groups, (len(rows), len(columns))
    shape = (layer.c_out, layer.c_in // groups, *size)
    if layer.derived is not None:
        places = [row * layer.kernel[1] + column for row, _ in rows for column, _ in columns]
        taps = b.reshape(layer.derived.name, layer.c_out * shape[1], -1)
        return b.reshape(b.op("MatMul", taps, b.constant(layer.derived.mixing[:, places])), *shape)
    taken = layer.weight[:, :, [k for k, _ in rows]][:, :, :, [k for k, _ in columns]]
    grouped = taken.reshape(groups, layer.c_in // groups, layer.c_out // groups, *size)
    return b.constant(grouped.transpose(0, 2, 1, 3, 4).reshape(shape), layer.weight_name)
