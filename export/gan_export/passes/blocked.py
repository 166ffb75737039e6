"""Values that stay in the layout of onnxruntime's convolutions on CPUs: channels in blocks of 8 or 16.

Between two convolutions onnxruntime keeps that layout for a few operators only: Add, Concat, Relu, Tanh, Sigmoid and
Resize, and LeakyRelu where it is part of the convolution before it. For any other, values are converted to NCHW and
back, each a pass over memory. Here such operators become 1x1 depthwise convolutions. Pixel shuffles move rows of
channels in NHWC, where DepthToSpace moves single numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from gan_core.arrays import F32
from gan_export.passes.graph import (
    TO_NCHW,
    TO_NHWC,
    Array,
    Builder,
    constant,
    drop_unused,
    infer_shapes,
    interleaved,
    maker_of,
    nodes_of,
    replace,
    shape_of,
    used_once,
)

BLOCK = 16
"""Channels are a multiple of this in the layout of AVX-512, of half as many in that of AVX2."""
ELEMENTWISE = frozenset({"Add", "Concat", "Relu", "Resize", "Sigmoid", "Sum", "Tanh"})
"""Give blocked values of blocked values."""
ACTIVATIONS = frozenset({"Elu", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh"})
"""Work on each value alone, with one input."""
RUN = 16
"""The least channels behind a pixel shuffle for which moving rows of them pays."""


class PlainPRelu(ir.passes.InPlacePass):
    """Makes every PRelu whose slopes are one number a LeakyRelu, which onnxruntime computes with the convolution before
    it. Exact.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, "PRelu"):
            slope = constant(node.inputs[1])
            if slope is not None and slope.dtype == np.float32 and slope.size and np.all(slope == slope.flat[0]):
                b = Builder(model, f"{node.outputs[0].name}.leaky")
                assert node.inputs[0] is not None
                replace([node], b.nodes, node.outputs[0], b.op("LeakyRelu", node.inputs[0], alpha=float(slope.flat[0])))
                modified = True
        return ir.passes.PassResult(model, modified)


class KeepBlocks(ir.passes.InPlacePass):
    """Writes PRelu, and Mul by constants, as depthwise convolutions where blocked values become blocked ones.

    Slope s: prelu(x) = s x + relu((1 - s) x), and s x + (1 - s) relu(x) where a slope is above 1. Left alone: slopes
    and factors that are not one number for each channel, channels that fill no blocks, and a factor that onnxruntime
    makes part of the convolution before it. The result draws the same images up to float32 rounding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        infer_shapes(model)
        blocked: set[ir.Value] = set()
        modified = False
        for node in list(model.graph.all_nodes()):
            if node.domain:
                continue
            x = _varying(node)
            if node.op_type == "Conv":
                weight = constant(node.inputs[1])
                if weight is not None and weight.ndim == 4 and weight.shape[0] % BLOCK == 0:
                    blocked.add(node.outputs[0])
            elif node.op_type == "LeakyRelu":
                if x in blocked and maker_of(x, "Conv") is not None:
                    blocked.add(node.outputs[0])
            elif node.op_type in ELEMENTWISE:
                across = node.op_type == "Concat" and node.attributes.get_int("axis", 1) != 1
                if not across and all(v in blocked for v in node.inputs[: 1 if node.op_type == "Resize" else None]):
                    blocked.add(node.outputs[0])
            elif x in blocked and (made := _as_convs(model, node)) is not None:
                blocked.add(made)
                modified = True
        return ir.passes.PassResult(model, modified)


def _varying(node: ir.Node) -> ir.Value | None:
    """The first input that is not constant."""
    return next((value for value in node.inputs if value is not None and constant(value) is None), None)


def _as_convs(model: ir.Model, node: ir.Node) -> ir.Value | None:
    """The value that stands in the place of the node's, made by convolutions; None where the node stays."""
    x, shape = _varying(node), shape_of(_varying(node))
    known = [values for value in node.inputs if (values := constant(value)) is not None]
    if node.op_type not in ("PRelu", "Mul") or x is None or shape is None or len(shape) != 4 or len(known) != 1:
        return None
    channels, wanted = shape[1], any(use.node.op_type in {"Conv", *ELEMENTWISE} for use in node.outputs[0].uses())
    factors = _for_each_channel(known[0], channels or 0)
    if factors is None or not wanted or (node.op_type == "Mul" and maker_of(x, "Conv") is not None):
        return None
    b = Builder(model, f"{node.outputs[0].name}.blocked")

    def times(value: ir.Value, by: F32) -> ir.Value:
        return b.op("Conv", value, b.constant(by.reshape(-1, 1, 1, 1)), kernel_shape=[1, 1], group=by.size)

    if node.op_type == "Mul":
        value = times(x, factors)
    else:
        convex = factors.max() <= 1
        bent = b.op("Relu", times(x, 1 - factors)) if convex else times(b.op("Relu", x), 1 - factors)
        value = b.op("Add", times(x, factors), bent)
    replace([node], b.nodes, node.outputs[0], by=value)
    return value


def _for_each_channel(values: Array, channels: int) -> F32 | None:
    """One number for each channel, as (channels,); None where `values` is another shape or type."""
    if values.dtype != np.float32 or values.ndim > 4 or not channels or channels % BLOCK:
        return None
    numbers = np.asarray(values, np.float32)
    if numbers.size == 1:
        return np.full(channels, numbers.reshape(()), np.float32)
    return numbers.reshape(-1) if (1, *numbers.shape)[-4:] == (1, channels, 1, 1) else None


class ShuffleRuns(ir.passes.InPlacePass):
    """Writes a convolution and the DepthToSpace behind it as one whose channels lie as NHWC has them, and moves of
    whole rows of channels. Activations on either side of the DepthToSpace become the convolution's. Exact.

    Left alone: fewer than 16 channels behind the DepthToSpace, groups, weights that are not constant float32 or that
    another node takes too, and values between that somebody else takes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        infer_shapes(model)
        shuffled = [_shuffle(model, node) for node in nodes_of(model, "DepthToSpace")]
        if any(shuffled):
            drop_unused(model)  # the weights as they were
        return ir.passes.PassResult(model, any(shuffled))


def _shuffle(model: ir.Model, node: ir.Node) -> bool:
    conv, before = _conv_before(node)
    if conv is None:
        return False
    given, tensors = [value for value in conv.inputs[1:] if value is not None], []
    for value in given:
        held = constant(value)
        if held is None or held.dtype != np.float32 or len(value.uses()) > 1:
            return False
        tensors.append(held)
    s, known, out = node.attributes.get_int("blocksize", 1), shape_of(node.outputs[0]), len(tensors[0])
    c = out // s**2
    if known is None or len(known) != 4 or c < RUN or conv.attributes.get_int("group", 1) != 1:
        return False
    places = np.arange(out)
    if node.attributes.get_string("mode", "DCR") == "CRD":
        places = places.reshape(c, s, s).transpose(1, 2, 0).ravel()
    behind = list(_activations_behind(node))
    b = Builder(model, f"{node.outputs[0].name}.runs")
    x, last = conv.inputs[0], (behind or [node])[-1].outputs[0]
    assert x is not None
    weights = [b.constant(part[places], value.name) for part, value in zip(tensors, given, strict=True)]
    value = b.op("Conv", x, *weights, **conv.attributes)
    for activation in (*before, *behind):
        value = b.op(activation.op_type, value, **activation.attributes)
    whole = interleaved(b, b.op("Transpose", value, perm=TO_NHWC), (s, s), c, (known[2], known[3]))
    result = b.op("Transpose", whole, perm=TO_NCHW)
    replace([conv, *before, node, *behind], b.nodes, last, by=result)
    return True


def _conv_before(node: ir.Node) -> tuple[ir.Node | None, list[ir.Node]]:
    """The convolution whose values reach `node` alone, and the activations on the way."""
    on_the_way: list[ir.Node] = []
    while (maker := maker_of(node.inputs[0], "Conv", *ACTIVATIONS)) is not None and maker.op_type != "Conv":
        on_the_way.insert(0, maker)
        node = maker
    return maker, on_the_way


def _activations_behind(node: ir.Node) -> Iterator[ir.Node]:
    while used_once(node.outputs[0]):
        (use,) = node.outputs[0].uses()
        if use.node.op_type not in ACTIVATIONS or use.node.domain:
            return
        node = use.node
        yield node
