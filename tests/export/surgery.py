"""Edits of exported ONNX files, to plant faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.generic]
Nodes = Callable[[str, str], list[onnx.NodeProto]]
"""(name of what comes in, name of what goes out) → nodes."""


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def change_input(model: onnx.ModelProto, name: str, nodes: Nodes) -> onnx.ModelProto:
    """Everything that took the input `name` takes what `nodes` make of it."""
    model = copy_of(model)
    changed = f"{name}_changed"
    for node in model.graph.node:
        node.input[:] = [changed if value == name else value for value in node.input]
    for position, node in enumerate(nodes(name, changed)):
        model.graph.node.insert(position, node)
    return model


def change_value(model: onnx.ModelProto, name: str, nodes: Nodes) -> onnx.ModelProto:
    """The value `name` (an output, or an inner one) becomes what `nodes` make of it, for all who take it."""
    model = copy_of(model)
    raw = f"{name}_raw"
    index = next(i for i, node in enumerate(model.graph.node) if name in node.output)
    producer = model.graph.node[index]
    producer.output[:] = [raw if value == name else value for value in producer.output]
    for position, node in enumerate(nodes(raw, name), start=index + 1):
        model.graph.node.insert(position, node)
    return model


def change_weight(
    model: onnx.ModelProto, name: str, edit: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> onnx.ModelProto:
    """The initialiser `name` becomes `edit` of it."""
    model = copy_of(model)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(numpy_helper.to_array(tensor).copy())), name))
    return model


def weights(model: onnx.ModelProto, at_least: int = 2) -> list[str]:
    """Names of the initialisers with `at_least` dimensions, in order."""
    return [tensor.name for tensor in model.graph.initializer if len(tensor.dims) >= at_least]


def constant(name: str, value: float | Sequence[float] | Array, dtype: type = np.float32) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, dtype)))


def one(op_type: str, **attributes: Any) -> Nodes:
    """A single node that takes the value and makes the new one."""
    return lambda before, after: [helper.make_node(op_type, [before], [after], **attributes)]


def with_constant(op_type: str, value: float | Sequence[float] | Array, dtype: type = np.float32) -> Nodes:
    """value → op(value, constant)."""

    def nodes(before: str, after: str) -> list[onnx.NodeProto]:
        name = f"{after}_constant"
        return [constant(name, value, dtype), helper.make_node(op_type, [before, name], [after])]

    return nodes
