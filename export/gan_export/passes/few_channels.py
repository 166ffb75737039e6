"""Convolutions to the channels of an image, as one along each axis.

onnxruntime computes the channels that a convolution makes in blocks of 8 or 16, so that to RGB computes 8 or 16 where 3
are wanted. With the rows of a 9x9 kernel apart, 27 channels are wanted, which fill blocks. A second convolution, whose
weights are 1 or 0, adds up the nine rows of each pixel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import Builder, constant, conv_pads, conv_weight, drop_unused, nodes_of, replace

BLOCK = 16
"""The rows fill up blocks of so many channels, the largest that onnxruntime has."""
MADE = 4
"""The most channels that gain."""
TAKEN = {3: 32, 5: 16}
"""The least channels that a kernel takes, from a height on; with fewer, or lower kernels, nothing is gained."""


class FewChannels(ir.passes.InPlacePass):
    """Rewrites every Conv to few channels: stride and dilation 1, no groups, constant float32 weights of its own. The
    file has these in another order, and zeros that fill up a block.

    The result draws the same images up to float32 rounding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        convs = [conv for conv in nodes_of(model, "Conv") if _fits(conv)]
        for number, conv in enumerate(convs):
            b = Builder(model, f"rows{number}")
            replace([conv], b.nodes, conv.outputs[0], by=_written(b, conv))
        if convs:
            drop_unused(model)  # the weights as they were
        return ir.passes.PassResult(model, modified=bool(convs))


def _fits(conv: ir.Node) -> bool:
    stored, weight = conv.inputs[1], conv_weight(conv)
    if stored is None or weight is None or len(stored.uses()) > 1 or conv.attributes.get_int("group", 1) > 1:
        return False
    makes, takes, height, width = weight.shape
    least = [channels for from_height, channels in TAKEN.items() if height >= from_height]
    return makes <= MADE and width > 1 and bool(least) and takes >= least[-1]


def _written(b: Builder, conv: ir.Node) -> ir.Value:
    """Adds the nodes that make what `conv` makes."""
    x, stored = conv.inputs[:2]
    weight = constant(stored)
    assert x is not None
    assert stored is not None
    assert weight is not None
    makes, takes, height, width = weight.shape
    above, left, below, right = conv_pads(conv)
    filled = -(-makes * height // BLOCK) * BLOCK
    rows = np.zeros((filled, takes, 1, width), np.float32)
    rows[: makes * height] = weight.transpose(0, 2, 1, 3).reshape(-1, takes, 1, width)
    sums = np.zeros((makes, filled, height, 1), np.float32)
    for channel in range(makes):
        sums[channel, channel * height : (channel + 1) * height, :, 0] = np.eye(height)
    bias = [value for value in conv.inputs[2:] if value is not None]
    apart = b.op("Conv", x, b.constant(rows, stored.name), kernel_shape=[1, width], pads=[0, left, 0, right])
    return b.op("Conv", apart, b.constant(sums), *bias, kernel_shape=[height, 1], pads=[above, 0, below, 0])
