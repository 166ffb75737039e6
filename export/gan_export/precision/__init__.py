"""Lower precision: graph passes that trade exactness for speed or size, each held to limits of its own by the proof.

    float16   weights and arithmetic in float16, what float16 cannot hold in float32; or weights saved as float16 alone
    int8      static QDQ: layers between the first and the last in 8-bit integers

Unlike `gan_export.passes` they change what is drawn, a little, and look at what the generator really computes: the
ranges of its activations on latents of its own law, which are measured here. (docs/precision.md)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import onnx_ir as ir

from gan_core.arrays import F32
from gan_export.passes.graph import infer_shapes, open_session
from gan_export.proof.cases import Case
from gan_serve.runtime.onnx_generator import STYLES

BATCH_SIZE = 8
BATCH_BYTES = 1 << 29
"""Samples at a time: every activation of a batch is in memory at once, so of large ones there are fewer."""


@dataclass(frozen=True)
class Range:
    """The least and the largest value of a tensor, and how many a sample has; NaN and infinity count as infinitely
    far."""

    low: float
    high: float
    size: int = 0

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high), max(self.size, other.size))

    @property
    def largest(self) -> float:
        """max |value|."""
        return max(-self.low, self.high)


def float_values(model: ir.Model) -> list[ir.Value]:
    """The float32 values that the nodes of the main graph make, by ONNX's type inference, which is written to them."""
    infer_shapes(model)
    return [value for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT and value.name]


def before_styles(model: ir.Model) -> set[ir.Node]:
    """The nodes that make the output `styles`; none in a network without.

    They stay in float32 at every precision: a mapping network costs nothing beside the images, and w is the same in
    all files of a checkpoint.
    """
    waiting: list[ir.Value | None] = [value for value in model.graph.outputs if value.name == STYLES]
    found: set[ir.Node] = set()
    while waiting:
        value = waiting.pop()
        node = None if value is None else value.producer()
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return found


def layer_name(node: ir.Node) -> str:
    """What people call a layer: its weight, where that has the checkpoint's name, else the node itself."""
    weight = node.inputs[1].name or "" if len(node.inputs) > 1 and node.inputs[1] is not None else ""
    return re.sub(r"\.c\d+$", "", weight) if "." in weight else node.name or str(node.outputs[0].name)


class Joined(Protocol):
    """What was found of a tensor in some images, to be joined with what was found in others."""

    def __or__(self, other: Self, /) -> Self: ...


Found = TypeVar("Found", bound=Joined)


def measure_ranges(model: ir.Model, cases: Iterable[Case]) -> dict[str, Range]:
    """The range of every value in `float_values(model)` over all `cases`, by name, on onnxruntime's CPU provider."""
    return measure(model, cases, range_of)


def measure(model: ir.Model, cases: Iterable[Case], look: Callable[[F32], Found]) -> dict[str, Found]:
    """What `look` finds of every value in `float_values(model)`, (batch, …), joined over all `cases`, by name."""
    watched = model.clone()
    values = float_values(watched)
    if not values:
        return {}
    watched.graph.outputs.extend(value for value in values if not value.is_graph_output())
    names = sorted(value.name or "" for value in values)
    weights = _as_inputs(watched)
    session = open_session(watched, optimised=False)
    found: dict[str, Found] = {}
    most = 1
    for case in cases:
        if case.kind in ("styles", "seeded") or case.options:  # what z makes is between zero and the far latents
            continue
        start = 0
        while start < len(case.z):
            rows = slice(start, start + most)
            feeds: dict[str, object] = {case.input: case.z[rows]}
            if case.label is not None:
                feeds["label"] = case.label[rows]
            values = session.run(names, feeds | weights)
            for name, value in zip(names, values, strict=True):
                if value.size:
                    seen = look(value)
                    found[name] = found[name] | seen if name in found else seen
            start += most
            taken = sum(value.nbytes for value in values) // len(case.z[rows])
            most = max(1, min(BATCH_SIZE, BATCH_BYTES // max(taken, 1)))
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


def range_of(value: F32) -> Range:
    """The range of (batch, …)."""
    low, high = float(value.min()), float(value.max())
    size = value[0].size if value.ndim else 1
    return Range(low, high, size) if math.isfinite(low + high) else Range(-math.inf, math.inf, size)
