"""What the values inside a graph are: run on given latents, the least and the largest of every float tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from gan_export.passes.graph import copy_of
from gan_export.proof.cases import Case
from gan_serve.runtime.providers import import_onnxruntime

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


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """The names of the float32 values that the nodes of `model` make, by ONNX's type inference."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    made = {name for node in graph.node for name in node.output if name}
    values = (*graph.value_info, *graph.output)
    return {v.name for v in values if v.name in made and v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}


def layer_name(node: onnx.NodeProto) -> str:
    """What people call a layer: its weight, where that has the checkpoint's name, else the node itself."""
    weight = node.input[1] if len(node.input) > 1 else ""
    return re.sub(r"\.c\d+$", "", weight) if "." in weight else node.name or str(node.output[0])


def measure_ranges(model: onnx.ModelProto, cases: Iterable[Case]) -> dict[str, Range]:
    """The range of every value in `float_tensors(model)` over all `cases`, on onnxruntime's CPU provider."""
    names = sorted(float_tensors(model))
    if not names:
        return {}
    watched = copy_of(model)
    outputs = {output.name for output in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    found: dict[str, Range] = {}
    for feeds in _batches(cases):
        for name, value in zip(names, session.run(names, feeds), strict=True):
            if value.size:
                seen = _range(value)
                found[name] = found[name] | seen if name in found else seen
    return found


def _range(value: npt.NDArray[np.float32]) -> Range:
    low, high = float(value.min()), float(value.max())
    return Range(low, high) if math.isfinite(low + high) else Range(-math.inf, math.inf)


def _batches(cases: Iterable[Case]) -> Iterator[dict[str, object]]:
    for case in cases:
        for start in range(0, len(case.z), BATCH_SIZE):
            feeds: dict[str, object] = {"z": case.z[start : start + BATCH_SIZE]}
            if case.label is not None:
                feeds["label"] = case.label[start : start + BATCH_SIZE]
            yield feeds
