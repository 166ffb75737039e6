"""A small view of an ONNX graph for passes: who makes a value, who takes it, and which values are constant."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.generic]
Shape = tuple[int | None, ...]


class GraphView:
    """Look-ups into `model.graph`, as it was when the view was made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.producer = {output: node for node in self.graph.node for output in node.output if output}
        self.uses = Counter(name for node in self.graph.node for name in node.input if name)
        self.uses.update(output.name for output in self.graph.output)
        self._initialisers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._shapes: dict[str, Shape] | None = None
        self._model = model

    def constant(self, name: str) -> Array | None:
        """The value of an initialiser or Constant node, None when `name` is neither."""
        if name in self._initialisers:
            return numpy_helper.to_array(self._initialisers[name])
        node = self.producer.get(name)
        if node is not None and node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    return numpy_helper.to_array(attribute.t)
        return None

    def used_once(self, name: str) -> bool:
        """Whether a node makes `name` and exactly one other node, and no output, takes it."""
        return self.uses[name] == 1 and name in self.producer

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The node that takes `name`, when it is the only one and `name` is no output of the graph."""
        if not self.used_once(name):
            return None
        return next((node for node in self.graph.node if name in node.input), None)

    def rank(self, name: str) -> int | None:
        """The number of dimensions of a value, by ONNX's shape inference; None when that cannot tell."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def shape(self, name: str) -> Shape | None:
        """The sizes of a value, None for one that is not fixed; None when shape inference cannot tell the rank."""
        if self._shapes is None:
            graph = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
            shaped = [
                v for v in (*graph.input, *graph.value_info, *graph.output) if v.type.tensor_type.HasField("shape")
            ]
            self._shapes = {
                value.name: tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
                )
                for value in shaped
            }
        return self._shapes.get(name)


def has_subgraphs(graph: onnx.GraphProto) -> bool:
    """Whether a node (If, Loop, Scan) holds a graph of its own, which may use any outer value by name."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(a.type in kinds for node in graph.node for a in node.attribute)


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """A numeric attribute (int or float) of `node`, or ONNX's `default`."""
    for candidate in node.attribute:
        if candidate.name == name:
            value = onnx.helper.get_attribute_value(candidate)
            return float(value)
    return default


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to change: a pass never touches what it was given."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def set_initialiser(graph: onnx.GraphProto, name: str, value: Array) -> None:
    """Adds `value` as the initialiser `name`, in place of any of that name."""
    for index, tensor in enumerate(graph.initializer):
        if tensor.name == name:
            del graph.initializer[index]
            break
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
