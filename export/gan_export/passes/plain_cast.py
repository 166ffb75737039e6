"""The cast to uint8 at the end, without the steps that it makes itself or that nothing reaches.

`pixels` is floor, clip to 0 … 255, cast. A cast of what is not negative rounds down by itself, and what comes from a
tanh or a sigmoid needs no clip. For a small network the two are a few hundredths of the time.
"""

from __future__ import annotations

import onnx

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs

RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}
"""What an activation gives, up to rounding."""
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "Identity"})
ROUNDING = 0.25
"""How far rounding may move a value on the scale of pixels; the real amount is a thousandth of that."""

Range = tuple[float, float]


def plain_cast(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with Floor and Clip dropped before a Cast to uint8 that does without. Exact."""
    model = copy_of(model)
    if has_subgraphs(model.graph):
        return model
    view = GraphView(model)
    dead = set()
    for cast in view.graph.node:
        if cast.op_type != "Cast" or onnx.helper.get_attribute_value(cast.attribute[0]) != onnx.TensorProto.UINT8:
            continue
        clip = _only(view, cast.input[0], "Clip")
        if clip is None or not _within_uint8(view, clip):
            continue
        floor = _only(view, clip.input[0], "Floor")
        if floor is not None:
            clip.input[0] = floor.input[0]
            dead.add(floor.output[0])
        reached = _range(view, clip.input[0])
        if reached is not None and reached[0] >= ROUNDING and reached[1] <= 256 - ROUNDING:
            cast.input[0] = clip.input[0]
            dead.add(clip.output[0])
    nodes = [node for node in model.graph.node if not dead.intersection(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _only(view: GraphView, name: str, op_type: str) -> onnx.NodeProto | None:
    """The node that makes `name`, when it is an `op_type` and nobody else takes that."""
    node = view.producer.get(name)
    return node if node is not None and node.op_type == op_type and view.used_once(name) else None


def _within_uint8(view: GraphView, clip: onnx.NodeProto) -> bool:
    bounds = [_scalar(view, name) for name in clip.input[1:]]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return False
    return 0 <= bounds[0] <= bounds[1] <= 255


def _range(view: GraphView, name: str) -> Range | None:
    """What values of `name` reach, where a bounded activation and sums and products with one number make them."""
    factor, offset = 1.0, 0.0  # `name` is factor · what this has come back to + offset
    while (node := view.producer.get(name)) is not None and node.op_type not in RANGES:
        if node.op_type not in MOVES:
            number = _scalar(view, node.input[1]) if node.op_type in ("Add", "Sub", "Mul") else None
            if number is None:
                return None
            if node.op_type == "Mul":
                factor *= number
            else:
                offset += factor * (number if node.op_type == "Add" else -number)
        name = node.input[0]
    if node is None:
        return None
    low, high = sorted(factor * end + offset for end in RANGES[node.op_type])
    return low, high


def _scalar(view: GraphView, name: str) -> float | None:
    value = view.constant(name)
    return float(value.reshape(())) if value is not None and value.size == 1 else None
