"""What the values inside a graph are: run on given latents, the least and the largest of every float tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from gan_core.arrays import F32
from gan_export.passes.graph import infer_shapes, open_session
from gan_export.proof.cases import Case

BATCH_SIZE = 8
"""Latents at a time: every activation of a batch is in memory at once."""


@dataclass(frozen=True)
class Range:
    """The least and the largest value of a tensor; NaN and infinity count as infinitely far."""

    low: float
    high: float

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))

    @property
    def largest(self) -> float:
        """max |value|."""
        return max(-self.low, self.high)


def float_values(model: ir.Model) -> list[ir.Value]:
    """The float32 values that the nodes of the main graph make, by ONNX's type inference, which is written to them."""
    infer_shapes(model)
    return [value for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT and value.name]


def layer_name(node: ir.Node) -> str:
    """What people call a layer: its weight, where that has the checkpoint's name, else the node itself."""
    weight = node.inputs[1].name or "" if len(node.inputs) > 1 and node.inputs[1] is not None else ""
    return re.sub(r"\.c\d+$", "", weight) if "." in weight else node.name or str(node.outputs[0].name)


def measure_ranges(model: ir.Model, cases: Iterable[Case]) -> dict[str, Range]:
    """The range of every value in `float_values(model)` over all `cases`, by name, on onnxruntime's CPU provider."""
    watched = model.clone()
    values = float_values(watched)
    if not values:
        return {}
    watched.graph.outputs.extend(value for value in values if not value.is_graph_output())
    names = sorted(value.name or "" for value in values)
    weights = _as_inputs(watched)
    session = open_session(watched, optimised=False)
    found: dict[str, Range] = {}
    for feeds in _batches(cases):
        for name, value in zip(names, session.run(names, feeds | weights), strict=True):
            if value.size:
                seen = _range(value)
                found[name] = found[name] | seen if name in found else seen
    return found


def _as_inputs(model: ir.Model) -> dict[str, object]:
    """Makes inputs of the float32 matrices and kernels, which a session would copy; their values, by name."""
    taken: dict[str, object] = {}
    for name, value in list(model.graph.initializers.items()):
        known = value.const_value
        if known is None or known.dtype != ir.DataType.FLOAT or len(known.shape) < 2 or value.is_graph_input():
            continue
        taken[name] = known.numpy()
        del model.graph.initializers[name]
        value.const_value, value.type, value.shape = None, ir.TensorType(known.dtype), ir.Shape(known.shape.numpy())
        model.graph.inputs.append(value)
    return taken


def _range(value: F32) -> Range:
    low, high = float(value.min()), float(value.max())
    return Range(low, high) if math.isfinite(low + high) else Range(-math.inf, math.inf)


def _batches(cases: Iterable[Case]) -> Iterator[dict[str, object]]:
    for case in cases:
        if case.kind in ("styles", "seeded") or case.options:  # what z makes is between zero and the far latents
            continue
        for start in range(0, len(case.z), BATCH_SIZE):
            feeds: dict[str, object] = {case.input: case.z[start : start + BATCH_SIZE]}
            if case.label is not None:
                feeds["label"] = case.label[start : start + BATCH_SIZE]
            yield feeds
