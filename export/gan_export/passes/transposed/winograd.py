"""Nine multiplications where a transposed convolution of kernel 4, stride 2, padding 1 has sixteen.

Each of its 2 x 2 phases is a correlation with 2 x 2 taps, and two neighbouring outputs of a 2-tap correlation need
three products instead of four: Winograd's F(2, 2), as Lavin and Gray 2015 (arXiv:1509.09308) use it for other sizes.
Along one axis, with x the input, E[t] = x[2t], O[t] = x[2t + 1], zero outside:

    phase 0, taps (g, g') on x[i-1], x[i]              phase 1, taps (g, g') on x[i], x[i+1]
      y[2t]     = (O[t-1] - E[t]) g  + E[t] (g + g')     y[2t]     = (E[t] - O[t]) g    + O[t] (g + g')
      y[2t + 1] = -(E[t] - O[t]) g'  + E[t] (g + g')     y[2t + 1] = (E[t+1] - O[t]) g' + O[t] (g + g')

so both phases together use five classes of inputs: E, O and three differences. Over both axes: 25 classes, each a
quarter of the input, and 36 products. In NHWC a class is a matrix (batch h w / 4, c_in): the products are Gemm, and
most sums of products ride on Gemm's third input. Reading and writing even and odd rows and columns apart
(`Layout.PARITY`) spares two such layers in a row every interleaving between them.

The 36 matrices are sums of the kernel's, so the graph keeps the kernel (its axes in another order) and derives them
from it by one product with a constant (36, 16) matrix; a runtime that folds constants does it once, when it loads the
file, which stays as small as it was.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import F32, Builder
from gan_export.passes.transposed.feature import Feature, Layout, to_layout
from gan_export.passes.transposed.layer import Transposed

Classes = dict[str, ir.Value]
Key = tuple[int, int, int, int]

TERMS = {0: ("O-E'", "E", "E-O"), 1: ("E-O", "O", "E'-O")}
"""The classes of (y[2t]'s own, the shared one, y[2t + 1]'s own) product, by phase; the prime is the neighbour."""
KEYS: tuple[Key, ...] = tuple(itertools.product((0, 1), range(3), (0, 1), range(3)))
"""(row phase, row term, column phase, column term) of each product."""


def fits(layer: Transposed) -> bool:
    return (
        layer.kernel == (4, 4)
        and layer.stride == 2
        and layer.pads == (1, 1, 1, 1)
        and layer.extra == (0, 0)
        and layer.groups == 1
        and layer.height % 2 == layer.width % 2 == 0
    )


def apply(b: Builder, x: Feature, layer: Transposed) -> Feature:
    """The result is in PARITY layout."""
    c_in, h, w = layer.c_in, layer.height // 2, layer.width // 2
    x = to_layout(b, x, Layout.PARITY)
    matrices = _matrices(b, layer)
    rows = [_classes(b, x.values[column], x.values[2 + column], axis=1) for column in (0, 1)]
    classes: dict[tuple[str, str], ir.Value] = {}
    for row in rows[0]:
        for column, value in _classes(b, rows[0][row], rows[1][row], axis=2).items():
            classes[row, column] = b.reshape(value, -1, c_in)
    bias = b.constant(layer.bias)
    values = [
        _phase(b, classes, matrices, bias, phase, h, w, layer.c_out) for phase in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    return Feature(tuple(values), Layout.PARITY, layer.c_out, layer.out_height, layer.out_width)


def _classes(b: Builder, even: ir.Value, odd: ir.Value, axis: int) -> Classes:
    """The five classes along `axis` of NHWC values, by the names that `TERMS` uses."""
    step = tuple(int(index == axis) for index in range(4))
    back = tuple(-value for value in step)
    before = b.pad(odd, step, back)
    after = b.pad(even, back, step)
    return {
        "O-E'": b.op("Sub", before, even),
        "E": even,
        "E-O": b.op("Sub", even, odd),
        "O": odd,
        "E'-O": b.op("Sub", after, odd),
    }


def _phase(
    b: Builder,
    classes: dict[tuple[str, str], ir.Value],
    matrices: dict[Key, ir.Value],
    bias: ir.Value,
    phase: tuple[int, int],
    h: int,
    w: int,
    c_out: int,
) -> ir.Value:
    """One phase of the output, (batch, 2h, 2w, c_out): its rows and columns 2t and 2t + 1 interleaved."""
    rows, columns = TERMS[phase[0]], TERMS[phase[1]]

    def product(i: int, j: int, *added: ir.Value) -> ir.Value:
        matrix = matrices[phase[0], i, phase[1], j]
        return b.op("Gemm" if added else "MatMul", classes[rows[i], columns[j]], matrix, *added)

    shared = product(1, 1, bias)
    shared_rows = {j: product(1, j) for j in (0, 2)}
    halves = []
    for i in (0, 2):
        shared_columns = product(i, 1, shared)
        pair = [b.op("Add", product(i, j, shared_columns), shared_rows[j]) for j in (0, 2)]
        halves.append(b.reshape(b.op("Concat", *pair, axis=1), -1, h, 1, 2 * w * c_out))
    return b.reshape(b.op("Concat", *halves, axis=2), -1, 2 * h, 2 * w, c_out)


def _matrices(b: Builder, layer: Transposed) -> dict[Key, ir.Value]:
    """The 36 matrices (c_in, c_out), derived in the graph from the kernel's 16, or from what those are derived from."""
    if layer.derived is not None:
        taps = b.op("Transpose", b.reshape(layer.derived.weight, layer.c_out, layer.c_in, -1), perm=[2, 1, 0])
        from_taps = mixing() @ layer.derived.mixing.T
        mixed = b.op("MatMul", b.constant(from_taps), b.reshape(taps, from_taps.shape[1], -1))
    else:
        kernel = layer.weight.numpy().transpose(2, 3, 0, 1).reshape(16, -1)
        mixed = b.op("MatMul", b.constant(mixing()), b.constant(kernel, layer.weight_name))
    stacked = b.reshape(mixed, -1, layer.c_out)
    return dict(zip(KEYS, b.ops("Split", len(KEYS), stacked, b.ints(*[layer.c_in] * len(KEYS)), axis=0), strict=True))


def mixing() -> F32:
    """(36, 16), of -1, 0 and 1: row `KEYS[n]` times the kernel (16, c_in c_out) is matrix n."""
    factors = {0: _terms(3, 1, sign=-1), 1: _terms(2, 0, sign=1)}
    return np.stack([np.kron(factors[a][i], factors[c][j]) for a, i, c, j in KEYS]).astype(np.float32)


def _terms(g: int, g_next: int, sign: int) -> list[F32]:
    """What the three products of a phase take of the kernel's four taps along one axis."""
    first, second = np.eye(4, dtype=np.float32)[[g, g_next]]
    return [first, first + second, sign * second]
