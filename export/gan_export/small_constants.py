"""Small numbers, such as the 1e-8 that keeps a root from dividing by zero, kept through onnxscript's optimiser.

Its rule `x + 0 → x` compares the constant with an absolute tolerance of 1e-8 (`Constant` in onnxscript/rewriter/
_pattern_ir.py), and so takes `x + 1e-8` for x: latents of zero, which a PixelNorm divides by their root mean square,
then give NaN. While the optimiser runs, small scalars are inputs of the graph: no rule knows an input's value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnxscript import ir

SMALL = 1e-6
"""Scalars below this are kept. The tolerance is 1e-8; the rest is room for other versions."""


def optimise_exactly(program: Any) -> None:
    """Runs `program.optimize()` in place (a `torch.onnx.ONNXProgram`); scalars in 0 < |x| < SMALL stay as they are."""
    graph = program.model.graph
    inputs = len(graph.inputs)
    tensors = [*_hide_initialisers(graph), *_hide_constants(graph)]
    program.optimize()
    graph = program.model.graph
    hidden = list(graph.inputs[inputs:])
    del graph.inputs[inputs:]
    for value, tensor in zip(hidden, tensors, strict=True):
        value.const_value = tensor
        if value.uses():
            graph.register_initializer(value)


def _hide_initialisers(graph: Any) -> Iterator[Any]:
    """Makes every small initialiser an input. Yields their tensors, in the order of the inputs."""
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if _small(tensor) and not value.is_graph_input():
            del graph.initializers[value.name]
            value.const_value = None
            graph.inputs.append(value)
            yield tensor


def _hide_constants(graph: Any) -> Iterator[Any]:
    """Replaces every small Constant, in inner graphs too, by an input: one for all of one type and value."""
    known: dict[tuple[Any, ...], Any] = {}
    for node in ir.traversal.RecursiveGraphIterator(graph):
        tensor = _constant(node)
        if not _small(tensor) or node.outputs[0].is_graph_output():
            continue
        key = (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
        new = key not in known
        if new:
            known[key] = ir.Value(
                name=f"small_constant_{len(known)}", type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape)
            )
            graph.inputs.append(known[key])
        ir.convenience.replace_all_uses_with([node.outputs[0]], [known[key]])
        if new:
            yield tensor


def _constant(node: Any) -> Any:
    """The tensor of a Constant node, None for other nodes and kinds of constants."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    if "value" in node.attributes:
        return node.attributes["value"].as_tensor()
    if "value_float" in node.attributes:
        return ir.tensor(np.float32(node.attributes["value_float"].as_float()))
    return None


def _small(tensor: Any) -> bool:
    if tensor is None or tensor.size != 1 or not tensor.dtype.is_floating_point():
        return False
    return bool(0 < abs(float(tensor.numpy().item())) < SMALL)
