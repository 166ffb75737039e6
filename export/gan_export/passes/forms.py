"""Transposed convolutions in other words: each form computes the same numbers with other operators, bias included.

    keep       ConvTranspose as it is
    gemm       on a 1x1 input: one matrix product
    phases     s x s small convolutions
    subpixel   one convolution with s x s times the channels, then DepthToSpace
    winograd   nine multiplications where kernel 4, stride 2, padding 1 has sixteen

Which is fast depends on the layer, the batch and the machine (`gan_export.passes.rewrite`).

Winograd: each of the 2 x 2 phases is a correlation with 2 x 2 taps, and two neighbouring outputs of a 2-tap correlation
need three products instead of four: Winograd's F(2, 2), as Lavin and Gray 2015 (arXiv:1509.09308) use it. Along one
axis, with x the input, E[t] = x[2t], O[t] = x[2t + 1], zero outside:

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
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gan_core.arrays import F32
from gan_export.passes.graph import Builder, Feature, Layout, nchw, nhwc, to_layout
from gan_export.passes.layer import Derived, Transposed

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
        taps = b.reshape(_of_conv(b, layer.derived), layer.c_out * shape[1], -1)
        return b.reshape(b.op("MatMul", taps, b.constant(layer.derived.mixing[:, places])), *shape)
    taken = layer.weight.numpy()[:, :, [k for k, _ in rows]][:, :, :, [k for k, _ in columns]]
    grouped = taken.reshape(groups, layer.c_in // groups, layer.c_out // groups, *size)
    return b.constant(grouped.transpose(0, 2, 1, 3, 4).reshape(shape), layer.weight_name)


def _of_conv(b: Builder, derived: Derived) -> ir.Value:
    """What the taps are sums of, (out, in / groups, kh, kw)."""
    return b.op("Transpose", derived.weight, perm=[1, 0, 2, 3]) if derived.shared else derived.weight


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


Classes = dict[str, ir.Value]
Key = tuple[int, int, int, int]

TERMS = {0: ("O-E'", "E", "E-O"), 1: ("E-O", "O", "E'-O")}
"""The classes of (y[2t]'s own, the shared one, y[2t + 1]'s own) product, by phase; the prime is the neighbour."""
KEYS: tuple[Key, ...] = tuple(itertools.product((0, 1), range(3), (0, 1), range(3)))
"""(row phase, row term, column phase, column term) of each product."""


def winograd_fits(layer: Transposed) -> bool:
    return (
        layer.kernel == (4, 4)
        and layer.stride == 2
        and layer.pads == (1, 1, 1, 1)
        and layer.extra == (0, 0)
        and layer.groups == 1
        and layer.height % 2 == layer.width % 2 == 0
    )


def winograd(b: Builder, x: Feature, layer: Transposed) -> Feature:
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
        _winograd_phase(b, classes, matrices, bias, phase, h, w, layer.c_out)
        for phase in ((0, 0), (0, 1), (1, 0), (1, 1))
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


def _winograd_phase(
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
        weight = _of_conv(b, layer.derived)
        taps = b.op("Transpose", b.reshape(weight, layer.c_out, layer.c_in, -1), perm=[2, 1, 0])
        from_taps = winograd_mixing() @ layer.derived.mixing.T
        mixed = b.op("MatMul", b.constant(from_taps), b.reshape(taps, from_taps.shape[1], -1))
    else:
        kernel = layer.weight.numpy().transpose(2, 3, 0, 1).reshape(16, -1)
        mixed = b.op("MatMul", b.constant(winograd_mixing()), b.constant(kernel, layer.weight_name))
    stacked = b.reshape(mixed, -1, layer.c_out)
    return dict(zip(KEYS, b.ops("Split", len(KEYS), stacked, b.ints(*[layer.c_in] * len(KEYS)), axis=0), strict=True))


def winograd_mixing() -> F32:
    """(36, 16), of -1, 0 and 1: row `KEYS[n]` times the kernel (16, c_in c_out) is matrix n."""
    factors = {0: _terms(3, 1, sign=-1), 1: _terms(2, 0, sign=1)}
    return np.stack([np.kron(factors[a][i], factors[c][j]) for a, i, c, j in KEYS]).astype(np.float32)


def _terms(g: int, g_next: int, sign: int) -> list[F32]:
    """What the three products of a phase take of the kernel's four taps along one axis."""
    first, second = np.eye(4, dtype=np.float32)[[g, g_next]]
    return [first, first + second, sign * second]


FORMS: dict[str, Form] = {
    "keep": Form(lambda _layer: True, keep),
    "gemm": Form(lambda layer: layer.derived is None and layer.height == layer.width == 1 and layer.groups == 1, gemm),
    "phases": Form(lambda layer: layer.stride > 1 and all(k >= layer.stride for k in layer.kernel), phases),
    "subpixel": Form(lambda layer: layer.derived is None and layer.stride > 1, subpixel),
    "winograd": Form(winograd_fits, winograd),
}
