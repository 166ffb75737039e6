"""Weights and arithmetic in float16, with casts where a graph enters and leaves it; or weights alone.

In float16: convolutions and products, what moves values and what works on them one by one. In float32, between casts:

- everything else, known or not: norms, sums, powers and roots, whose inner values leave what float16 holds;
- what is made of the output `image`, so that `pixels` is that image rounded, to the bit;
- what makes the output `styles`;
- graphs inside nodes (If, Loop);
- nodes with a constant or (measured on the proof's latents, the far ones too) a value too large for float16, with some
  room, and scalars too small for it, such as an eps.

Inputs and outputs keep their types. A provider without float16 kernels, such as onnxruntime's CPU provider, computes
the same nodes in float32 and rounds in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import add_initialiser, constant, drop_unused
from gan_export.precision import Range, before_styles, float_values, layer_name

FLOAT16_MAX = 65504.0
ROOM = 2.0
"""A value has to stay this far below the largest float16: other seeds draw a little more."""
LEAST_NORMAL = 2.0**-14
"""The smallest float16 with all its digits; scalars below it lose them, or become 0."""
LEAST_ELEMENTS = 64
"""A smaller tensor, saved as float16, would save less than its Cast takes."""

PRODUCTS = {"Conv": (0, 1, 2), "ConvTranspose": (0, 1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1)}
MOVES = {
    **dict.fromkeys(("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile"), (0,)),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "Gather", "Split", "Resize", "Identity"), (0,)),
    "Pad": (0, 2),
    "Where": (1, 2),
    "Concat": None,
}
POINTWISE = {
    **dict.fromkeys(("Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Gelu", "Erf", "Neg"), (0,)),
    **dict.fromkeys(("HardSigmoid", "HardSwish", "Mish", "Softsign", "Abs", "MaxPool", "AveragePool"), (0,)),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "PRelu"), (0, 1)),
    "Clip": (0, 1, 2),
    **dict.fromkeys(("Max", "Min"), None),
}
"""Operator → the positions of the inputs that are float16 with it; None: all. (onnx/docs/Operators.md)"""
TYPED: dict[str, tuple[int, ...] | None] = {**PRODUCTS, **MOVES, **POINTWISE}

FULL, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def to_float16(model: ir.Model, ranges: Mapping[str, Range]) -> tuple[ir.Model, tuple[str, ...]]:
    """A clone of `model` in float16, and the names of the products that stay in float32.

    `ranges` are those of every float value, by name (`measure_ranges`).
    """
    model = model.clone()
    chosen = _choose(model, ranges)
    kept = tuple(layer_name(node) for node in model.graph if node.op_type in PRODUCTS and node not in chosen)
    halves: dict[ir.Value, ir.Value] = {}
    for node in list(model.graph):
        if node in chosen:
            for position in _typed_positions(node):
                value = node.inputs[position]
                if value is not None and value.dtype != HALF:
                    if value not in halves:
                        halves[value] = _half(model, node, value)
                    node.replace_input_with(position, halves[value])
            for value in node.outputs:
                _becomes_half(node, value, chosen)
    drop_unused(model)
    return model, kept


def _half(model: ir.Model, node: ir.Node, value: ir.Value) -> ir.Value:
    """`value` in float16, made before `node`."""
    known = constant(value)
    if known is not None:
        return add_initialiser(model, f"{value.name}.fp16", known.astype(np.float16))
    half = ir.Value(name=f"{value.name}.fp16", type=ir.TensorType(HALF))
    node.prepend(_cast(value, half, HALF))
    return half


def _becomes_half(node: ir.Node, value: ir.Value, chosen: Collection[ir.Node]) -> None:
    """An output of a node in float16, cast back for an output of the graph and for whoever stays in float32."""
    name, staying = value.name, [use for use in value.uses() if use.node not in chosen]
    if staying or value.is_graph_output():
        full = ir.Value(name=name, type=value.type, shape=value.shape)
        graph = node.graph
        assert graph is not None
        node.append(_cast(value, full, FULL))
        for user, position in staying:
            user.replace_input_with(position, full)
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = full
    value.name, value.type = f"{name}.fp16", ir.TensorType(HALF)


def _cast(value: ir.Value, output: ir.Value, to: ir.DataType) -> ir.Node:
    return ir.node("Cast", [value], {"to": int(to)}, outputs=[output])


def _choose(model: ir.Model, ranges: Mapping[str, Range]) -> set[ir.Node]:
    """The nodes of the main graph to compute in float16."""
    floats = {*float_values(model), *(value for value in model.graph.inputs if value.dtype == ir.DataType.FLOAT)}
    after_image = {value for value in model.graph.outputs if value.name == "image"}
    mapping, able = before_styles(model), list[ir.Node]()
    for node in model.graph:
        if after_image.intersection(node.inputs):
            after_image.update(node.outputs)
        elif node not in mapping and _able(node, floats, ranges):
            able.append(node)
    chosen = {node for node in able if node.op_type in PRODUCTS}
    # Forwards: what follows a float16 value stays there. Backwards: what only leads to one goes there, too.
    for node in able:
        if chosen.intersection(node.predecessors()) and not _feeds_statistics(node):
            chosen.add(node)
    for node in reversed(able):
        led = node.successors()
        if led and chosen.issuperset(led):
            chosen.add(node)
    return chosen


def _feeds_statistics(node: ir.Node) -> bool:
    """A square before a mean, an eps before a root: part of a norm written out."""
    roots = ("Sqrt", "Reciprocal", "Pow", "Exp", "Log")
    users = node.successors() if node.op_type in POINTWISE else ()
    return any(user.op_type.startswith("Reduce") or user.op_type in roots for user in users)


def _able(node: ir.Node, floats: set[ir.Value], ranges: Mapping[str, Range]) -> bool:
    """Whether float16 holds all that goes into a node and comes out, and the operator exists for it."""
    if node.op_type not in TYPED or node.domain:
        return False
    for value in node.outputs:
        if value not in floats or not ranges.get(value.name or "", _UNKNOWN).largest < FLOAT16_MAX / ROOM:
            return False
    return all(_holds(node.inputs[position], floats) for position in _typed_positions(node))


_UNKNOWN = Range(-np.inf, np.inf)


def _holds(value: ir.Value | None, floats: set[ir.Value]) -> bool:
    known = constant(value)
    if value is None or known is None:
        return value is None or value in floats
    if known.dtype != np.float32:
        return False
    sizes = np.abs(known)
    tiny = known.size == 1 and 0 < sizes.max() < LEAST_NORMAL
    return bool(sizes.max(initial=0) < FLOAT16_MAX) and not tiny


def _typed_positions(node: ir.Node) -> Iterable[int]:
    positions = TYPED[node.op_type]
    return range(len(node.inputs)) if positions is None else [i for i in positions if i < len(node.inputs)]


class StoreFloat16(ir.passes.InPlacePass):
    """Saves float32 matrices and kernels as float16, a Cast behind each: half the file, float32 arithmetic.

    Runtimes compute the Cast once, when they load the file: images are drawn as fast as before, from weights that are
    rounded to 11 bits. Vectors (biases, norms, scales) stay: they weigh nothing. So do what makes the output `styles`,
    and tensors with a value that float16 cannot hold.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, casts, mapping = model.graph, [], before_styles(model)
        for value in list(graph.initializers.values()):
            known = constant(value)
            if known is None or known.dtype != np.float32 or known.ndim < 2 or known.size < LEAST_ELEMENTS:
                continue
            if mapping.issuperset(use.node for use in value.uses()) or value.is_graph_input():
                continue
            if value.is_graph_output() or not np.abs(known).max() < FLOAT16_MAX:  # NaN is for the proof to find
                continue
            full, uses = ir.Value(name=value.name, type=value.type, shape=value.shape), value.uses()
            ir.convenience.rename_values(value, f"{value.name}.stored")
            value.const_value, value.type = ir.tensor(known.astype(np.float16)), ir.TensorType(HALF)
            casts.append(_cast(value, full, FULL))
            for user, position in uses:
                user.replace_input_with(position, full)
        if casts:
            graph.insert_before(graph[0], casts)
        return ir.passes.PassResult(model, bool(casts))
