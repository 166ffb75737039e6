"""The cast to uint8 at the end, without the steps that it makes itself or that nothing reaches.

`pixels` is floor, clip to 0 … 255, cast. A cast of what is not negative rounds down by itself, and what comes from a
tanh or a sigmoid needs no clip. For a small network the two are a few hundredths of the time.
"""

from __future__ import annotations

import onnx_ir as ir

from gan_export.passes.graph import maker_of, nodes_of, scalar

RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}
"""What an activation gives, up to rounding."""
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "Identity"})
ROUNDING = 0.25
"""How far rounding may move a value on the scale of pixels; the real amount is a thousandth of that."""

Range = tuple[float, float]


class PlainCast(ir.passes.InPlacePass):
    """Drops Floor and Clip before a Cast to uint8 that does without. Exact."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for cast in nodes_of(model, "Cast"):
            clip = maker_of(cast.inputs[0], "Clip")
            if clip is None or cast.attributes.get_int("to") != ir.DataType.UINT8 or not _within_uint8(clip):
                continue
            floor = maker_of(clip.inputs[0], "Floor")
            if floor is not None:
                clip.replace_input_with(0, floor.inputs[0])
                modified |= _removed(floor)
            reached = _range(clip.inputs[0])
            if reached is not None and reached[0] >= ROUNDING and reached[1] <= 256 - ROUNDING:
                cast.replace_input_with(0, clip.inputs[0])
                modified |= _removed(clip)
        return ir.passes.PassResult(model, modified)


def _removed(node: ir.Node) -> bool:
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def _within_uint8(clip: ir.Node) -> bool:
    bounds = [scalar(value) for value in clip.inputs[1:]]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return False
    return 0 <= bounds[0] <= bounds[1] <= 255


def _range(value: ir.Value | None) -> Range | None:
    """What `value` reaches, where a bounded activation and sums and products with one number make it."""
    factor, offset = 1.0, 0.0  # the value is factor · what this has come back to + offset
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in RANGES:
            low, high = sorted(factor * end + offset for end in RANGES[node.op_type])
            return low, high
        if node.op_type not in MOVES:
            number = scalar(node.inputs[1]) if node.op_type in ("Add", "Sub", "Mul") else None
            if number is None:
                return None
            if node.op_type == "Mul":
                factor *= number
            else:
                offset += factor * (number if node.op_type == "Add" else -number)
        value = node.inputs[0]
    return None
