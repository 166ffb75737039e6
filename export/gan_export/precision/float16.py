"""Weights and arithmetic in float16, with casts where a graph enters and leaves it.

In float16: convolutions and products, what moves values and what works on them one by one. In float32, between casts:

- everything else, known or not: norms, sums, powers and roots, whose inner values leave what float16 holds;
- what is made of the output `image`, so that `pixels` is that image rounded, to the bit;
- nodes with a constant or (measured on the proof's latents, the far ones too) a value too large for float16, with some
  room, and scalars too small for it, such as an eps.

Inputs and outputs keep their types. A provider without float16 kernels, such as onnxruntime's CPU provider, computes
the same nodes in float32 and rounds in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs, set_initialiser
from gan_export.passes.tidy import drop_unused
from gan_export.precision.ranges import Range, float_tensors, layer_name

FLOAT16_MAX = 65504.0
ROOM = 2.0
"""A value has to stay this far below the largest float16: other seeds draw a little more."""
LEAST_NORMAL = 2.0**-14
"""The smallest float16 with all its digits; scalars below it lose them, or become 0."""

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


def to_float16(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """`model` in float16, and the names of the products that stay in float32.

    `ranges` are those of every float value (`measure_ranges`). A graph with graphs inside its nodes (If, Loop) works,
    its inner graphs in float32.
    """
    model = copy_of(model)
    chosen = _choose(model, ranges)
    kept = tuple(layer_name(n) for n in model.graph.node if n.op_type in PRODUCTS and n.output[0] not in chosen)
    _Rewriting(model, chosen).run()
    return drop_unused(model), kept


HALF = ".fp16"
"""Ends the name of a value's float16 form."""


def _choose(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> set[str]:
    """The nodes to compute in float16, by the name of their first output."""
    view = GraphView(model)
    floats = float_tensors(model) | {v.name for v in model.graph.input if v.type.tensor_type.elem_type == 1}
    after_image = {"image"}
    able: dict[str, onnx.NodeProto] = {}
    for node in view.graph.node:
        if after_image.intersection(node.input):
            after_image.update(node.output)
        elif _able(view, node, floats, ranges):
            able[node.output[0]] = node
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in view.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    chosen = {name for name, node in able.items() if node.op_type in PRODUCTS}
    # Forwards: what follows a float16 value stays there. Backwards: what only leads to one goes there, too.
    for name, node in able.items():
        follows = any(_made_by(view, i) in chosen for i in node.input)
        if follows and not _feeds_statistics(node, users):
            chosen.add(name)
    for name, node in reversed(able.items()):
        led = [user.output[0] in chosen for output in node.output for user in users.get(output, ())]
        if led and all(led):
            chosen.add(name)
    return chosen


def _made_by(view: GraphView, name: str) -> str:
    node = view.producer.get(name)
    return "" if node is None else str(node.output[0])


def _feeds_statistics(node: onnx.NodeProto, users: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """A square before a mean, an eps before a root: part of a norm written out."""
    return any(
        user.op_type.startswith("Reduce") or user.op_type in ("Sqrt", "Reciprocal", "Pow", "Exp", "Log")
        for output in node.output
        for user in users.get(output, ())
        if node.op_type in POINTWISE
    )


def _able(view: GraphView, node: onnx.NodeProto, floats: set[str], ranges: Mapping[str, Range]) -> bool:
    """Whether float16 holds all that goes into a node and comes out, and the operator exists for it."""
    if node.op_type not in TYPED or node.domain not in ("", "ai.onnx"):
        return False
    for name in node.output:
        if name not in floats or not ranges.get(name, Range(-np.inf, np.inf)).largest < FLOAT16_MAX / ROOM:
            return False
    return all(_holds(view, name, floats) for name in _typed_inputs(node))


def _holds(view: GraphView, name: str, floats: set[str]) -> bool:
    value = view.constant(name)
    if value is None:
        return name in floats
    if value.dtype != np.float32:
        return False
    sizes = np.abs(value.astype(np.float64))
    tiny = value.size == 1 and 0 < sizes.max() < LEAST_NORMAL
    return bool(sizes.max(initial=0) < FLOAT16_MAX) and not tiny


def _typed_inputs(node: onnx.NodeProto) -> list[str]:
    return [node.input[i] for i in _typed_positions(node) if node.input[i]]


def _typed_positions(node: onnx.NodeProto) -> Iterable[int]:
    positions = TYPED[node.op_type]
    return range(len(node.input)) if positions is None else [i for i in positions if i < len(node.input)]


class _Rewriting:
    """Value `v` of a float16 node is called `v.fp16`; `v` itself is its cast, made where something needs it."""

    def __init__(self, model: onnx.ModelProto, chosen: set[str]) -> None:
        self.graph = model.graph
        self.view = GraphView(model)
        self.chosen = chosen
        self.subgraphs = has_subgraphs(model.graph)
        self.nodes: list[onnx.NodeProto] = []
        self.half: set[str] = set()

    def run(self) -> None:
        for node in self.graph.node:
            if node.output[0] not in self.chosen:
                self.nodes.append(node)
                continue
            for position in _typed_positions(node):
                if node.input[position]:
                    node.input[position] = self._half(node.input[position])
            made = list(node.output)
            node.output[:] = [f"{name}{HALF}" for name in made]
            self.half.update(made)
            self.nodes.append(node)
            for name in made:
                if self._needed(name):
                    self._cast(f"{name}{HALF}", name, TensorProto.FLOAT)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _half(self, name: str) -> str:
        """The name of `name` in float16, made where it does not exist."""
        half = f"{name}{HALF}"
        if name not in self.half:
            value = self.view.constant(name)
            if value is None:
                self._cast(name, half, TensorProto.FLOAT16)
            else:
                set_initialiser(self.graph, half, value.astype(np.float16))
            self.half.add(name)
        return half

    def _needed(self, name: str) -> bool:
        """Whether something takes the value in float32: an output, a graph inside a node, a node that stays."""
        users = [node for node in self.view.graph.node if name in node.input and node.output[0] not in self.chosen]
        return bool(users) or self.subgraphs or any(output.name == name for output in self.graph.output)

    def _cast(self, value: str, name: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [value], [name], to=to))
