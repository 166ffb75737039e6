"""Writes 8-bit integers into a graph: QuantizeLinear and DequantizeLinear around chosen layers (QDQ).

A layer x → Conv, Gemm or MatMul → y with constant weights becomes Q(x) → DQ → layer with DQ(w), DQ(b) → Q → DQ, which
every runtime recognises and computes in integers:

    activations  uint8, one scale and zero point per tensor, from its measured range
    weights      int8, one scale per output channel, symmetric, |w| <= 64: AVX2's vpmaddubsw adds two products of uint8
                 and int8 in 16 bits, which 2 · 255 · 64 fits and 2 · 255 · 127 does not; with these the sums are
                 exact on every processor, so that a seed is the same image on each
    bias         int32 in units of both scales

Nodes that only move values (Reshape, DepthToSpace, Slice …) on the way into a layer come to lie between Q and DQ, where
they move bytes. (ONNX operators QuantizeLinear and DequantizeLinear; onnxruntime's page on quantisation.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gan_core.arrays import F32
from gan_export.passes.graph import Array, add_initialiser, constant, drop_unused, nodes_of, used_once
from gan_export.precision import Range

I8 = npt.NDArray[np.int8]

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
MOVES = frozenset({"Reshape", "Transpose", "DepthToSpace", "Slice", "Pad", "Squeeze", "Unsqueeze", "Flatten"})
ACTIVATIONS = ("Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Tanh", "Softsign", "HardSwish", "Mish")
"""Of one input, on each value alone, and 0 for 0, which is what a Pad puts in."""
WEIGHT_MAX = 64
_BIAS_MAX = 2.0**30
_LEAST_SCALE = 1e-12
"""For a tensor that is zero throughout."""


class ActivationFirst(ir.passes.InPlacePass):
    """Moves activations before the movers that lead to them alone: there they stand behind the layer. Exact."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, *ACTIVATIONS):
            while (mover := _mover(node.inputs[0])) is not None and node.graph is not None:
                moved, result = mover.outputs[0], node.outputs[0]
                node.graph.remove(node)
                mover.prepend(node)
                result.replace_all_uses_with(moved, replace_graph_outputs=True)
                node.replace_input_with(0, mover.inputs[0])
                mover.replace_input_with(0, result)
                moved.name, result.name = result.name, moved.name
                moved.type, moved.shape = result.type, result.shape  # the graph's, where it is an output
                result.shape = None
                modified = True
        return ir.passes.PassResult(model, modified)


def _mover(value: ir.Value | None) -> ir.Node | None:
    """The node that makes `value` for one other alone, when all it does is to move values and to add zeros."""
    node = value.producer() if value is not None and used_once(value) else None
    if node is None or node.op_type not in MOVES or node.domain:
        return None
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        known = constant(fill)
        return node if fill is None or (known is not None and not known.any()) else None
    return node


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that integers can compute, its weight and bias; `axis` of the weight counts output channels."""

    node: ir.Node
    weight: F32
    bias: F32 | None
    axis: int

    @property
    def name(self) -> str:
        """The name of the value it makes."""
        return str(self.node.outputs[0].name)


def quantisable(model: ir.Model) -> list[Layer]:
    """The layers of `model` that integers can compute, in the graph's order: plain products with constant weights."""
    layers = (_layer(node) for node in model.graph if node.op_type in LAYERS and not node.domain)
    return [layer for layer in layers if layer is not None]


def quantise(model: ir.Model, wanted: Collection[str], ranges: Mapping[str, Range]) -> ir.Model:
    """A clone of `model` with those layers in 8-bit integers that make the values of the names `wanted`.

    `ranges` has to hold every value that enters or leaves them. What `quantisable` does not list is left alone.
    """
    model = model.clone()
    _Writer(model, ranges).write([layer for layer in quantisable(model) if layer.name in wanted])
    drop_unused(model)
    return model


def _layer(node: ir.Node) -> Layer | None:
    values = [*node.inputs[1:3], None][:2]
    weight, bias = (constant(value) for value in values)
    if weight is None or weight.dtype != np.float32 or not np.isfinite(weight).all():
        return None
    if bias is None and values[1] is not None:
        return None
    made = Layer(node, np.asarray(weight, np.float32), None if bias is None else np.asarray(bias, np.float32), axis=0)
    if node.op_type == "Conv":
        return made
    if weight.ndim != 2:
        return None
    if node.op_type == "MatMul":
        return dataclasses.replace(made, axis=1)
    given, axis = node.attributes, 0 if node.attributes.get_int("transB", 0) else 1
    plain = given.get_float("alpha", 1.0) == 1.0 == given.get_float("beta", 1.0) and not given.get_int("transA", False)
    fits = bias is None or bias.shape == (weight.shape[axis],)
    return dataclasses.replace(made, axis=axis) if plain and fits else None


@dataclass(frozen=True)
class _Integers:
    """A value in 8 bits, and what it stands for: scale and zero point, as a number and in the graph."""

    value: ir.Value
    step: np.float32
    scale: ir.Value
    zero_point: ir.Value


class _Writer:
    """One rewriting. What is made beside the value `v` is called `v.quantised`, `v.scale`, `v.zero_point`."""

    def __init__(self, model: ir.Model, ranges: Mapping[str, Range]) -> None:
        self.model = model
        self.ranges = ranges
        self.integers: dict[ir.Value, _Integers] = {}

    def write(self, layers: list[Layer]) -> None:
        leaving = dict.fromkeys(_leaving(layer) for layer in layers if layer.node.op_type == "Conv")
        paths = [(layer, self._path(layer.node.inputs[0], leaving)) for layer in layers]
        entering = dict.fromkeys(path[-1].inputs[0] if path else layer.node.inputs[0] for layer, path in paths)
        for value in dict.fromkeys((*entering, *leaving)):
            assert value is not None
            self._quantise(value, leaves=value in leaving)
        for layer, path in paths:
            for node in reversed(path):
                self._move_integers(node)
            self._to_integers(layer)

    def _path(self, value: ir.Value | None, leaving: Collection[ir.Value]) -> list[ir.Node]:
        """The moving nodes that lead to `value` and to nothing else, the last first."""
        path: list[ir.Node] = []
        while value not in leaving and (node := _mover(value)) is not None:
            value = node.inputs[0]
            if value is None or value.name not in self.ranges:
                break
            path.append(node)
        return path

    def _quantise(self, value: ir.Value, leaves: bool) -> None:
        """Adds the 8-bit form of `value`; where it `leaves` a layer, others take what that form dequantises to."""
        name, users = value.name, value.uses()
        low, high = min(0.0, self.ranges[str(name)].low), max(0.0, self.ranges[str(name)].high)
        step = np.float32(max((high - low) / 255, _LEAST_SCALE))
        zero = int(np.clip(np.rint(-low / float(step)), 0, 255))  # zero is exact, so that padding and Relu are
        scale = add_initialiser(self.model, f"{name}.scale", np.asarray(step))
        zero_point = add_initialiser(self.model, f"{name}.zero_point", np.asarray(zero, np.uint8))
        integers = ir.Value(name=f"{name}.quantised")
        nodes = [ir.node("QuantizeLinear", [value, scale, zero_point], outputs=[integers])]
        self.integers[value] = _Integers(integers, step, scale, zero_point)
        if leaves:
            value.name = f"{name}.float"
            back = ir.Value(name=name, type=value.type, shape=value.shape)
            nodes.append(ir.node("DequantizeLinear", [integers, scale, zero_point], outputs=[back]))
            self.integers[back] = self.integers[value]
            for user, position in users:
                user.replace_input_with(position, back)
            outputs = self.model.graph.outputs
            outputs[:] = [back if output is value else output for output in outputs]
        maker = value.producer()
        if maker is None:
            self.model.graph.insert_before(self.model.graph[0], nodes)
        else:
            maker.append(nodes)

    def _move_integers(self, node: ir.Node) -> None:
        """A moving node from its input's 8-bit form to its output's."""
        entering, moved = self.integers[_first(node)], node.outputs[0]
        node.replace_input_with(0, entering.value)
        if node.op_type == "Pad":
            node.resize_inputs(max(3, len(node.inputs)))
            node.replace_input_with(2, entering.zero_point)
        moved.name, moved.type = f"{moved.name}.quantised", ir.TensorType(ir.DataType.UINT8)
        self.integers[moved] = _Integers(moved, entering.step, entering.scale, entering.zero_point)

    def _to_integers(self, layer: Layer) -> None:
        """The layer's input, weight and bias replaced by what is dequantised from integers."""
        node, entering = layer.node, self.integers[_first(layer.node)]
        per_channel = _channel_scales(layer, entering.step)
        shape = [1] * layer.weight.ndim
        shape[layer.axis] = -1
        weight: I8 = np.rint(layer.weight / per_channel.reshape(shape)).clip(-WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        self._dequantised(layer, 1, weight, per_channel, layer.axis)
        if layer.bias is not None:
            both = (per_channel * entering.step).astype(np.float32)
            bias = np.rint(layer.bias.astype(np.float64) / both).astype(np.int32)
            self._dequantised(layer, 2, bias, both, 0)
        parts = [entering.value, entering.scale, entering.zero_point]
        self._dequantise(layer, 0, parts, {}, f"{_first(node).name}.for.{layer.name}")

    def _dequantised(self, layer: Layer, position: int, integers: Array, scales: F32, axis: int) -> None:
        """Input `position` of the layer from constant integers."""
        old = layer.node.inputs[position]
        name = f"{old.name if old is not None else position}.for.{layer.name}"
        arrays = {"quantised": integers, "scale": scales, "zero_point": np.zeros(scales.shape, integers.dtype)}
        parts = [add_initialiser(self.model, f"{name}.{part}", array) for part, array in arrays.items()]
        self._dequantise(layer, position, parts, {"axis": axis}, f"{name}.float")

    def _dequantise(
        self, layer: Layer, position: int, parts: Iterable[ir.Value], attributes: dict[str, Any], name: str
    ) -> None:
        output = ir.Value(name=name)
        layer.node.prepend(ir.node("DequantizeLinear", list(parts), attributes, outputs=[output]))
        layer.node.replace_input_with(position, output)


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _leaving(layer: Layer) -> ir.Value:
    """The value of a layer that is quantised: that behind its Relu, which the integers' range clips."""
    made = layer.node.outputs[0]
    user = made.consumers()[0] if used_once(made) else None
    return user.outputs[0] if user is not None and user.op_type == "Relu" else made


def _channel_scales(layer: Layer, input_scale: np.float32) -> F32:
    """One scale per output channel, float32: the largest |weight| becomes 64, and the bias fits into int32."""
    others = tuple(axis for axis in range(layer.weight.ndim) if axis != layer.axis)
    scales = np.abs(layer.weight).max(axis=others).astype(np.float64) / WEIGHT_MAX
    if layer.bias is not None:
        scales = np.maximum(scales, np.abs(layer.bias.astype(np.float64)) / (_BIAS_MAX * float(input_scale)))
    found: F32 = np.maximum(scales, _LEAST_SCALE).astype(np.float32)
    return found
