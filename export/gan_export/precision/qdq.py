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
import functools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gan_core.arrays import F32, F64
from gan_export.passes.graph import Array, add_initialiser, constant, drop_unused, used_once
from gan_export.precision import Range, before_styles
from gan_export.precision.movers import moved_by, moves

I8 = npt.NDArray[np.int8]

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
WEIGHT_MAX = 64
STORED_MAX = 127
LEAST_STORED = 1 << 14
"""Weights of a layer in float32: fewer save nothing that shows."""
_BIAS_MAX = 2.0**30
NO_MEANS: Mapping[str, F64] = MappingProxyType({})
_LEAST_SCALE = 1e-12
"""For a tensor that is zero throughout."""


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


def quantise(
    model: ir.Model, wanted: Collection[str], ranges: Mapping[str, Range], means: Mapping[str, F64] = NO_MEANS
) -> ir.Model:
    """A clone of `model` with those layers in 8-bit integers that make the values of the names `wanted`.

    `ranges` has to hold every value that enters or leaves them. `means` are the means of the channels of what layers
    take, by its name: by what rounded weights add on average, biases are less. What `quantisable` does not list is left
    alone.
    """
    model = model.clone()
    _Writer(model, ranges, means).write([layer for layer in quantisable(model) if layer.name in wanted])
    drop_unused(model)
    return model


def store(model: ir.Model, layers: Iterable[Layer]) -> ir.Model:
    """A clone of `model`, or `model` itself, in which large weights of those `layers` are saved in 8 bits.

    Runtimes multiply them by the scale of each output channel once, when they load the file; the layer computes in
    float32. With nothing to add up the integers reach to 127. What makes the output `styles` stays.
    """
    mapping = before_styles(model)
    names = {layer.name for layer in layers if layer.weight.size >= LEAST_STORED and layer.node not in mapping}
    changed = model.clone()
    for layer in quantisable(changed):
        old = layer.node.inputs[1]
        if layer.name not in names or old is None:
            continue
        scales, shape = _channel_scales(layer, None, STORED_MAX), _beside(layer)
        integers = np.rint(layer.weight / scales.reshape(shape)).astype(np.int8)
        stored = add_initialiser(changed, f"{old.name}.stored", integers)
        scale = add_initialiser(changed, f"{old.name}.scale", scales.reshape(shape))
        whole = ir.node("Cast", [stored], {"to": int(ir.DataType.FLOAT)})
        product = ir.node("Mul", [whole.outputs[0], scale], outputs=[ir.Value(name=f"{old.name}.float")])
        layer.node.prepend([whole, product])
        layer.node.replace_input_with(1, product.outputs[0])
    drop_unused(changed)
    return changed if names else model


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
    """One rewriting. What is made beside the value `v` is called `v.quantised`, `v.scale`, `v.zero_point`.

    wanting  the layers, and the nodes that move values for these alone
    backs    what others take in the place of a value that a layer makes: its integers, dequantised
    """

    def __init__(self, model: ir.Model, ranges: Mapping[str, Range], means: Mapping[str, F64]) -> None:
        self.model = model
        self.ranges = dict(ranges)
        self.means = means
        self.integers: dict[ir.Value, _Integers] = {}
        self.wanting: set[ir.Node] = set()
        self.backs: set[ir.Value] = set()

    def write(self, layers: list[Layer]) -> None:
        self.wanting.update(layer.node for layer in layers)
        leaving = dict.fromkeys(value for layer in layers if layer.node.op_type == "Conv" for value in _leaving(layer))
        entering = dict.fromkeys(root for layer in layers for root in self._roots(_first(layer.node), leaving))
        means = [self.means.get(str(_first(layer.node).name)) for layer in layers]
        nodes = list(self.model.graph)
        for node in nodes:
            if node.op_type == "Concat" and (node in self.wanting or _all_leave(node, leaving)):
                self._share_range([root for value in moved_by(node) for root in self._roots(value, leaving)])
        for value in dict.fromkeys((*entering, *leaving)):
            self._quantise(value, leaves=value in leaving)
        for node in nodes:
            if moves(node):
                self._move_integers(node)
        for layer, mean in zip(layers, means, strict=True):
            self._to_integers(layer, mean)

    def _roots(self, value: ir.Value, leaving: Collection[ir.Value]) -> list[ir.Value]:
        """The values that moving nodes bring to `value` for `wanting` alone, which those nodes join."""
        maker = value.producer()
        if maker is None or value in leaving or value.is_graph_output() or not moves(maker):
            return [value]
        moved = moved_by(maker)
        if not all(v.name in self.ranges for v in moved) or not all(use.node in self.wanting for use in value.uses()):
            return [value]
        if len(moved) > 1 and not all(map(used_once, moved)):
            return [value]
        self.wanting.add(maker)
        return [root for v in moved for root in self._roots(v, leaving)]

    def _share_range(self, values: list[ir.Value]) -> None:
        names = [str(value.name) for value in values]
        self.ranges.update(dict.fromkeys(names, functools.reduce(operator.or_, map(self.ranges.__getitem__, names))))

    def _quantise(self, value: ir.Value, leaves: bool) -> None:
        """Adds the 8-bit form of `value`; where it `leaves` a layer, others take what that form dequantises to."""
        name, seen = value.name, self.ranges[str(value.name)]
        low, high = min(0.0, seen.low), max(0.0, seen.high)
        step = np.float32(max((high - low) / 255, _LEAST_SCALE))
        zero = int(np.clip(np.rint(-low / float(step)), 0, 255))  # zero is exact, so that padding and Relu are
        scale = add_initialiser(self.model, f"{name}.scale", np.asarray(step))
        zero_point = add_initialiser(self.model, f"{name}.zero_point", np.asarray(zero, np.uint8))
        integers = ir.Value(name=f"{name}.quantised")
        node = ir.node("QuantizeLinear", [value, scale, zero_point], outputs=[integers])
        maker = value.producer()
        if maker is None:
            self.model.graph.insert_before(self.model.graph[0], node)
        else:
            maker.append(node)
        made = self.integers[value] = _Integers(integers, step, scale, zero_point)
        if leaves:
            value.name = f"{name}.float"
            self._dequantise_behind(node, value, made, name)

    def _dequantise_behind(self, node: ir.Node, value: ir.Value, made: _Integers, name: str | None) -> None:
        """What `made` dequantises to, behind `node`, which makes it, for everybody else who takes `value`."""
        known = None if value.shape is None else ir.TensorType(ir.DataType.FLOAT)
        back = ir.Value(name=name, type=known, shape=value.shape)
        for user, position in value.uses():
            if user is not node:
                user.replace_input_with(position, back)
        outputs = self.model.graph.outputs
        outputs[:] = [back if output is value else output for output in outputs]
        node.append(ir.node("DequantizeLinear", [made.value, made.scale, made.zero_point], outputs=[back]))
        self.integers[back] = made
        self.backs.add(back)

    def _move_integers(self, node: ir.Node) -> None:
        """A moving node from its inputs' 8-bit form to its output's, where that changes no value."""
        values, moved = moved_by(node), node.outputs[0]
        entering = [self.integers[value] for value in values if value in self.integers]
        if len(entering) < len(values) or len({float(one.step) for one in entering}) > 1:
            return
        if node not in self.wanting and not self.backs.issuperset(values):
            return
        first, name = entering[0], moved.name
        for position, one in enumerate(entering):
            node.replace_input_with(position, one.value)
        if node.op_type == "Pad":
            node.resize_inputs(max(3, len(node.inputs)))
            node.replace_input_with(2, first.zero_point)
        moved.name = f"{name}.quantised"
        moved.type = None if moved.shape is None else ir.TensorType(ir.DataType.UINT8)
        made = self.integers[moved] = dataclasses.replace(first, value=moved)
        if node not in self.wanting:
            self._dequantise_behind(node, moved, made, name)

    def _to_integers(self, layer: Layer, mean: F64 | None) -> None:
        """The layer's input, weight and bias replaced by what is dequantised from integers."""
        node, entering = layer.node, self.integers[_first(layer.node)]
        per_channel, shape = _channel_scales(layer, entering.step), _beside(layer)
        weight: I8 = np.rint(layer.weight / per_channel.reshape(shape)).clip(-WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        self._dequantised(layer, 1, weight, per_channel, layer.axis)
        if layer.bias is not None:
            both = (per_channel * entering.step).astype(np.float32)
            error = weight * per_channel.astype(np.float64).reshape(shape) - layer.weight
            added = 0.0 if mean is None else _on_average(error, mean, layer)
            bias = np.rint((layer.bias - added) / both).clip(-_BIAS_MAX, _BIAS_MAX).astype(np.int32)
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


def _leaving(layer: Layer) -> Sequence[ir.Value]:
    """The values of a layer that are quantised: that behind its Relu, which the integers' range clips, and that behind
    a LeakyRelu which a moving node takes."""
    made = layer.node.outputs[0]
    user = _only_user(made)
    if user is not None and user.op_type == "Relu":
        return user.outputs[:1]
    if user is not None and user.op_type == "LeakyRelu":
        mover = _only_user(user.outputs[0])
        return [made, *(user.outputs[:1] if mover is not None and moves(mover) else ())]
    return [made]


def _only_user(value: ir.Value) -> ir.Node | None:
    return next(iter(value.uses())).node if used_once(value) else None


def _all_leave(concat: ir.Node, leaving: Collection[ir.Value]) -> bool:
    return all(value in leaving and used_once(value) for value in moved_by(concat))


def _on_average(error: F64, mean: F64, layer: Layer) -> F64:
    """What errors of the weight add to each output channel, for inputs of these means; zeros around images count as
    such."""
    if layer.node.op_type != "Conv":
        return np.asarray(mean @ (error if layer.axis else error.T))
    of_inputs = error.sum((2, 3)) if error.ndim == 4 else error.sum(2)
    groups = layer.node.attributes.get_int("group", 1)
    per_group = of_inputs.reshape(groups, -1, of_inputs.shape[1]) @ mean.reshape(groups, -1, 1)
    return np.asarray(per_group.ravel())


def _beside(layer: Layer) -> list[int]:
    """The shape of one number for each output channel, beside the weight."""
    return [-1 if axis == layer.axis else 1 for axis in range(layer.weight.ndim)]


def _channel_scales(layer: Layer, input_scale: np.float32 | None, largest: int = WEIGHT_MAX) -> F32:
    """One scale per output channel, float32: |weight| becomes `largest` at most, and the bias, of what enters with
    `input_scale`, fits into int32."""
    others = tuple(axis for axis in range(layer.weight.ndim) if axis != layer.axis)
    scales = np.abs(layer.weight).max(axis=others).astype(np.float64) / largest
    if layer.bias is not None and input_scale is not None:
        scales = np.maximum(scales, np.abs(layer.bias.astype(np.float64)) / (_BIAS_MAX * float(input_scale)))
    found: F32 = np.maximum(scales, _LEAST_SCALE).astype(np.float32)
    return found
