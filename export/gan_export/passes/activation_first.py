"""Activations before the nodes that only move values: there they stand behind the layer that takes them in."""

from __future__ import annotations

import onnx

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs

MOVES = frozenset({"Reshape", "Transpose", "DepthToSpace", "Slice", "Pad", "Squeeze", "Unsqueeze", "Flatten"})
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Tanh", "Softsign", "HardSwish", "Mish"})
"""Of one input, on each value alone, and 0 for 0, which is what a Pad puts in."""


def activation_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every activation moved before the movers that lead to it and to nothing else. Exact."""
    model = copy_of(model)
    if has_subgraphs(model.graph):
        return model
    view = GraphView(model)
    position = {node.output[0]: index for index, node in enumerate(view.graph.node)}
    nodes = list(view.graph.node)
    for index, node in enumerate(view.graph.node):
        if node.op_type not in ACTIVATIONS:
            continue
        while (mover := nodes[position.get(node.input[0], index)]) is not node and _movable(view, mover):
            # The two swap places and values: mover(x) → m, act(m) → y becomes act(x) → m, mover(m) → y.
            here, there = position[node.output[0]], position[mover.output[0]]
            node.input[0], mover.input[0] = mover.input[0], mover.output[0]
            node.output[0], mover.output[0] = mover.output[0], node.output[0]
            nodes[here], nodes[there] = mover, node
            position[node.output[0]], position[mover.output[0]] = there, here
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def fills_with_zero(view: GraphView, pad: onnx.NodeProto) -> bool:
    """Whether a Pad node adds zeros, or copies of what is there."""
    mode = next((attribute.s for attribute in pad.attribute if attribute.name == "mode"), b"constant")
    if mode != b"constant" or len(pad.input) < 3 or not pad.input[2]:
        return True
    value = view.constant(pad.input[2])
    return value is not None and not value.any()


def _movable(view: GraphView, mover: onnx.NodeProto) -> bool:
    alone = mover.op_type in MOVES and not mover.domain and view.used_once(mover.output[0])
    return alone and (mover.op_type != "Pad" or fills_with_zero(view, mover))
