"""Nodes that only move values, and add zeros: bytes serve them as well as numbers.

`ActivationFirst` brings activations before them, behind the layer whose values they move: there integers take both.
"""

from __future__ import annotations

import onnx_ir as ir

from gan_export.passes.graph import constant, nodes_of, used_once

MOVES = frozenset({"Concat", "DepthToSpace", "Flatten", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
ACTIVATIONS = ("Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Tanh", "Softsign", "HardSwish", "Mish")
"""Of one input, on each value alone, and 0 for 0, which is what a Pad puts in."""


class ActivationFirst(ir.passes.InPlacePass):
    """Moves activations before the movers that lead to them alone: there they stand behind the layer. Exact."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, *ACTIVATIONS):
            while (mover := _mover(node.inputs[0])) is not None and node.graph is not None:
                moved, result = mover.outputs[0], node.outputs[0]
                node.graph.remove(node)
                mover.prepend(node)
                result.replace_all_uses_with(moved, replace_graph_outputs=True)
                node.replace_input_with(0, mover.inputs[0])
                mover.replace_input_with(0, result)
                moved.name, result.name = result.name, moved.name
                moved.type, moved.shape = result.type, result.shape  # the graph's, where it is an output
                result.shape = None
                modified = True
        return ir.passes.PassResult(model, modified)


def _mover(value: ir.Value | None) -> ir.Node | None:
    """The node of one input that makes `value` for one other alone, when all it does is to move values."""
    node = value.producer() if value is not None and used_once(value) else None
    return node if node is not None and moves(node) and node.op_type != "Concat" else None


def moves(node: ir.Node) -> bool:
    """Whether all that a node does is to move values and to add zeros."""
    if node.op_type not in MOVES or node.domain:
        return False
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        known = constant(fill)
        return fill is None or (known is not None and not known.any())
    return True


def moved_by(node: ir.Node) -> list[ir.Value]:
    """What a moving node moves."""
    return [value for value in node.inputs[: None if node.op_type == "Concat" else 1] if value is not None]
