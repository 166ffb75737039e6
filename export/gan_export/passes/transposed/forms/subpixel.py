"""One convolution that makes all s x s phases as channels, then DepthToSpace. (Shi et al. 2016, arXiv:1609.07009)

Counted before the padding is cropped, output s i + r of an axis is the sum over m of x[i - m] with tap s m + r: every
phase r looks at the same inputs, so the kernel is ceil(k / s) wide and holds zeros only where s does not divide k. The
price is the windows at the border whose outputs are cropped.
"""

from __future__ import annotations

import numpy as np

from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, nchw, to_layout
from gan_export.passes.transposed.layer import Transposed


def fits(layer: Transposed) -> bool:
    return layer.derived is None and layer.stride > 1


def apply(b: Builder, x: Feature, layer: Transposed) -> Feature:
    x = to_layout(b, x, Layout.NCHW)
    s, groups = layer.stride, layer.groups
    reach = [-(-k // s) for k in layer.kernel]
    wholes = np.zeros((layer.c_in, layer.c_out // groups, reach[0] * s, reach[1] * s), np.float32)
    wholes[:, :, : layer.kernel[0], : layer.kernel[1]] = layer.weight
    # (group, in, out, m, r, m', r') → (group, out, r, r', in, m, m'), the taps m from the farthest input to the nearest
    blocks = wholes.reshape(groups, layer.c_in // groups, -1, reach[0], s, reach[1], s)[:, :, :, ::-1, :, ::-1]
    kernel = blocks.transpose(0, 2, 4, 6, 1, 3, 5).reshape(layer.c_out * s * s, layer.c_in // groups, *reach)
    sizes, wanted = (layer.height, layer.width), (layer.out_height, layer.out_width)
    first = [pad // s for pad in layer.pads[:2]]
    last = [-(-(out + pad) // s) - 1 for out, pad in zip(wanted, layer.pads[:2], strict=True)]
    begin = [m - 1 - i for m, i in zip(reach, first, strict=True)]
    end = [i - (size - 1) for i, size in zip(last, sizes, strict=True)]
    cropped = b.pad(x.name, (0, 0, *(min(v, 0) for v in begin)), (0, 0, *(min(v, 0) for v in end)))
    phases = b.op(
        "Conv",
        cropped,
        b.constant(kernel, layer.weight_name),
        b.constant(np.repeat(layer.bias, s * s)),
        kernel_shape=reach,
        pads=[max(v, 0) for v in (*begin, *end)],
        group=groups,
    )
    whole = b.op("DepthToSpace", phases, blocksize=s, mode="CRD")
    before = [i * s - pad for i, pad in zip(first, layer.pads[:2], strict=True)]
    behind = [out + pad - (i + 1) * s for out, pad, i in zip(wanted, layer.pads[:2], last, strict=True)]
    return nchw(b.pad(whole, (0, 0, *before), (0, 0, *behind)), layer.c_out, *wanted)
