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
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from gan_export.passes.activation_first import MOVES, fills_with_zero
from gan_export.passes.graph import Array, GraphView, attribute, copy_of
from gan_export.passes.tidy import drop_unused
from gan_export.precision.ranges import Range

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
WEIGHT_MAX = 64
_BIAS_MAX = 2.0**30
_LEAST_SCALE = 1e-12
"""For a tensor that is zero throughout."""


@dataclass(frozen=True)
class Layer:
    """A node that integers can compute, its weight and bias; `axis` of the weight counts output channels."""

    node: onnx.NodeProto
    weight: F32
    bias: F32 | None
    axis: int

    @property
    def name(self) -> str:
        """The value it makes."""
        return str(self.node.output[0])


def quantisable(model: onnx.ModelProto) -> list[Layer]:
    """The layers of `model` that integers can compute, in the graph's order: plain products with constant weights."""
    view = GraphView(model)
    layers = (_layer(view, node) for node in model.graph.node if node.op_type in LAYERS and node.domain == "")
    return [layer for layer in layers if layer is not None]


def quantise(model: onnx.ModelProto, wanted: Collection[str], ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """`model` with those layers in 8-bit integers that make the values `wanted`.

    `ranges` has to hold every value that enters or leaves them. What `quantisable` does not list is left alone.
    """
    model = copy_of(model)
    _Writer(model, ranges).write([layer for layer in quantisable(model) if layer.name in wanted])
    return drop_unused(model)


def _layer(view: GraphView, node: onnx.NodeProto) -> Layer | None:
    constants = [view.constant(name) if name else None for name in node.input[1:3]]
    if any(value is None for value, name in zip(constants, node.input[1:3], strict=True) if name):
        return None
    weight, bias = (*constants, None)[:2]
    if weight is None or weight.dtype != np.float32 or not np.isfinite(weight).all():
        return None
    made = Layer(node, np.asarray(weight, np.float32), None if bias is None else np.asarray(bias, np.float32), 0)
    if node.op_type == "Conv":
        return made
    if weight.ndim != 2:
        return None
    if node.op_type == "MatMul":
        return dataclasses.replace(made, axis=1)
    axis = 0 if attribute(node, "transB", 0) else 1
    plain = attribute(node, "alpha", 1.0) == 1.0 == attribute(node, "beta", 1.0) and not attribute(node, "transA", 0)
    fits = bias is None or bias.shape == (weight.shape[axis],)
    return dataclasses.replace(made, axis=axis) if plain and fits else None


class _Writer:
    """One rewriting. What is made beside the value `v` is called `v.quantised`, `v.scale`, `v.zero_point`."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, Range]) -> None:
        self.graph = model.graph
        self.view = GraphView(model)
        self.ranges = ranges
        self.nodes: list[onnx.NodeProto] = []
        self.roots: dict[str, str] = {}
        """Value in 8 bits → the value whose scale and zero point it has."""

    def write(self, layers: list[Layer]) -> None:
        chosen = {layer.name: layer for layer in layers}
        leaving = {self._leaving(layer) for layer in layers if layer.node.op_type == "Conv"}
        entering = set()
        for layer in layers:
            path = self._path(layer.node.input[0], leaving)
            root = path[-1].input[0] if path else layer.node.input[0]
            entering.add(root)
            self.roots.update({node.output[0]: root for node in path}, **{root: root})
        self.roots.update({value: value for value in leaving})
        for value in self.graph.input:
            if value.name in entering:
                self._quantise(value.name, value.name)
        for node in list(self.graph.node):
            name = node.output[0]
            if name in chosen:
                self._to_integers(chosen[name])
            if name in self.roots and self.roots[name] != name:
                node.input[0], node.output[0] = f"{node.input[0]}.quantised", f"{name}.quantised"
                if node.op_type == "Pad":
                    node.input[2:] = [f"{self.roots[name]}.zero_point", *node.input[3:]]
                self.nodes.append(node)
            elif name in leaving:
                node.output[0] = f"{name}.float"
                self.nodes.append(node)
                self._quantise(node.output[0], name)
                self._dequantise(f"{name}.quantised", name, name)
            else:
                self.nodes.append(node)
                for output in entering.intersection(node.output):
                    self._quantise(output, output)
        rewritten = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(rewritten)

    def _leaving(self, layer: Layer) -> str:
        """The value of a layer that is quantised: that behind its Relu, which the integers' range clips."""
        (user, *others) = [node for node in self.graph.node if layer.name in node.input] or [None]
        alone = self.view.used_once(layer.name) and user is not None and not others
        return str(user.output[0]) if alone and user is not None and user.op_type == "Relu" else layer.name

    def _path(self, name: str, leaving: Collection[str]) -> list[onnx.NodeProto]:
        """The moving nodes that lead to `name` and to nothing else, the last first."""
        path: list[onnx.NodeProto] = []
        while (node := self.view.producer.get(name)) is not None and node.op_type in MOVES:
            if name in leaving or not self.view.used_once(name) or node.input[0] not in self.ranges:
                break
            if node.op_type == "Pad" and not fills_with_zero(self.view, node):
                break
            path.append(node)
            name = node.input[0]
        return path

    def _to_integers(self, layer: Layer) -> None:
        """The layer's input, weight and bias replaced by what is dequantised from integers."""
        node = layer.node
        entering: str = node.input[0]
        scale, _ = self._affine(self.roots[entering])
        per_channel = _channel_scales(layer, scale)
        shape = [1] * layer.weight.ndim
        shape[layer.axis] = -1
        weight: I8 = np.rint(layer.weight / per_channel.reshape(shape)).clip(-WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        node.input[1] = self._constant(f"{node.input[1]}.for.{layer.name}", weight, per_channel, layer.axis)
        if layer.bias is not None:
            both = (per_channel * scale).astype(np.float32)
            bias = np.rint(layer.bias.astype(np.float64) / both).astype(np.int32)
            node.input[2] = self._constant(f"{node.input[2]}.for.{layer.name}", bias, both, 0)
        node.input[0] = f"{entering}.for.{layer.name}"
        self._dequantise(f"{entering}.quantised", node.input[0], self.roots[entering])

    def _affine(self, root: str) -> tuple[np.float32, int]:
        """Scale and zero point of a tensor; zero is exact, so that padding and Relu are."""
        low, high = min(0.0, self.ranges[root].low), max(0.0, self.ranges[root].high)
        scale = np.float32(max((high - low) / 255, _LEAST_SCALE))
        return scale, int(np.clip(np.rint(-low / float(scale)), 0, 255))

    def _quantise(self, value: str, name: str) -> None:
        scale, zero_point = self._affine(name)
        self._initialiser(f"{name}.scale", np.asarray(scale))
        self._initialiser(f"{name}.zero_point", np.asarray(zero_point, np.uint8))
        self._add("QuantizeLinear", [value, f"{name}.scale", f"{name}.zero_point"], f"{name}.quantised")

    def _dequantise(self, value: str, name: str, root: str) -> None:
        self._add("DequantizeLinear", [value, f"{root}.scale", f"{root}.zero_point"], name)

    def _constant(self, name: str, integers: Array, scales: Array, axis: int) -> str:
        self._initialiser(f"{name}.quantised", integers)
        self._initialiser(f"{name}.scale", scales)
        self._initialiser(f"{name}.zero_point", np.zeros(scales.shape, integers.dtype))
        self._add(
            "DequantizeLinear", [f"{name}.quantised", f"{name}.scale", f"{name}.zero_point"], f"{name}.float", axis=axis
        )
        return f"{name}.float"

    def _initialiser(self, name: str, value: Array) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], None, None, None, None, **attributes))


def _channel_scales(layer: Layer, input_scale: np.float32) -> F32:
    """One scale per output channel, float32: the largest |weight| becomes 64, and the bias fits into int32."""
    others = tuple(axis for axis in range(layer.weight.ndim) if axis != layer.axis)
    scales = np.abs(layer.weight).max(axis=others).astype(np.float64) / WEIGHT_MAX
    if layer.bias is not None:
        scales = np.maximum(scales, np.abs(layer.bias.astype(np.float64)) / (_BIAS_MAX * float(input_scale)))
    found: F32 = np.maximum(scales, _LEAST_SCALE).astype(np.float32)
    return found
