"""New nodes and constants for a graph, under names that nothing else has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


class Builder:
    """Collects `nodes` and `tensors`. `prefix` keeps the names of several builders apart."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: npt.NDArray[Any], name: str | None = None) -> str:
        """The name of an initialiser that holds `value`; equal ones are kept once."""
        value = np.ascontiguousarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._shared:
            unique = f"{name or self.prefix}.c{len(self._shared)}"
            self._shared[key] = unique
            self.tensors.append(numpy_helper.from_array(value, unique))
        return self._shared[key]

    def ints(self, *values: int) -> str:
        """The name of an int64 initialiser (len(values),)."""
        return self.constant(np.array(values, np.int64))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output and returns that."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node of `count` outputs and returns their names."""
        number = len(self.nodes)
        outputs = [f"{self.prefix}.{number}_{index}" for index in range(count)]
        node = helper.make_node(op_type, list(inputs), outputs, f"{self.prefix}.{number}_{op_type}", **attributes)
        self.nodes.append(node)
        return outputs

    def reshape(self, value: str, *shape: int) -> str:
        return self.op("Reshape", value, self.ints(*shape))

    def pad(self, value: str, begin: tuple[int, ...], end: tuple[int, ...]) -> str:
        """Zeros added, or with negative counts values removed, before and behind each axis."""
        if not any(begin) and not any(end):
            return value
        return self.op("Pad", value, self.ints(*begin, *end))
