"""Folds BatchNormalization into the linear operation before it.

y = w (a x + b - mean) / sqrt(var + eps) + beta is again linear in x: with s = w / sqrt(var + eps) per channel,
the weights become s a and the bias s (b - mean) + beta. Computed in float64, then rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from gan_export.passes.graph import Array, GraphView, attribute, copy_of, set_initialiser

F64 = npt.NDArray[np.float64]
ONNX_DEFAULT_EPS = 1e-5


@dataclass(frozen=True)
class _Linear:
    """What a BatchNormalization can be folded into: the weight's name and value, and where channels lie in it."""

    node: onnx.NodeProto
    weight_name: str
    weight: F64
    channel_axis: int
    bias: F64
    bias_owner: onnx.NodeProto
    bias_index: int
    groups: int = 1


def fold_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every BatchNormalization that follows a Conv, ConvTranspose, Gemm or MatMul (+ Add) folded into it.

    Left alone: one in training mode, one whose input has another consumer, one with weights that are not constant, or
    that another node takes too (a copy would make the file larger), and one after anything else. The result draws the
    same images up to float32 rounding.
    """
    model = copy_of(model)
    while True:
        view = GraphView(model)
        for norm in view.graph.node:
            if norm.op_type == "BatchNormalization" and _fold(view, norm):
                break
        else:
            return model


def _fold(view: GraphView, norm: onnx.NodeProto) -> bool:
    statistics = [view.constant(name) for name in norm.input[1:5]]
    if attribute(norm, "training_mode", 0) or any(value is None for value in statistics):
        return False
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in statistics)
    linear = _linear_before(view, norm.input[0])
    if linear is None or linear.bias.shape not in ((), gamma.shape):
        return False
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", ONNX_DEFAULT_EPS))
    dtype = np.asarray(view.constant(linear.weight_name)).dtype
    weight_name, bias_name = f"{norm.output[0]}.weight", f"{norm.output[0]}.bias"
    set_initialiser(view.graph, weight_name, _scale_channels(linear, scale).astype(dtype))
    set_initialiser(view.graph, bias_name, (scale * (linear.bias - mean) + beta).astype(dtype))
    linear.node.input[1] = weight_name
    _set_input(linear.bias_owner, linear.bias_index, bias_name)
    linear.bias_owner.output[0] = norm.output[0]
    view.graph.node.remove(norm)
    return True


def _scale_channels(linear: _Linear, scale: F64) -> F64:
    """The weight with output channel c times scale[c]. A grouped transposed weight is (in, out / groups, k, k)."""
    weight = linear.weight
    if linear.node.op_type == "ConvTranspose" and linear.groups > 1:
        groups = linear.groups
        grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        per_group = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        return (grouped * per_group).reshape(weight.shape)
    shape = [1] * weight.ndim
    shape[linear.channel_axis] = -1
    return weight * scale.reshape(shape)


def _linear_before(view: GraphView, name: str) -> _Linear | None:
    """The linear operation that makes `name` for nobody else, None when there is none."""
    node = view.producer.get(name)
    if node is None or not view.used_once(name):
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        axis = 0 if node.op_type == "Conv" else 1
        return _described(view, node, axis, node, groups=int(attribute(node, "group", 1)))
    if node.op_type == "Gemm" and attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0:
        return _described(view, node, 0 if attribute(node, "transB", 0) else 1, node)
    if node.op_type == "Add":
        for side in (0, 1):
            product = view.producer.get(node.input[side])
            if product is not None and product.op_type == "MatMul" and view.used_once(node.input[side]):
                return _described(view, product, 1, node, bias_index=1 - side)
    return None


def _described(
    view: GraphView,
    node: onnx.NodeProto,
    axis: int,
    bias_owner: onnx.NodeProto,
    *,
    groups: int = 1,
    bias_index: int = 2,
) -> _Linear | None:
    weight = view.constant(node.input[1])
    if (
        weight is None
        or view.uses[node.input[1]] > 1
        or (node.op_type == "MatMul" and not (weight.ndim == 2 == view.rank(node.output[0])))
    ):
        return None
    bias: Array | None = np.zeros(())
    if len(bias_owner.input) > bias_index and bias_owner.input[bias_index]:
        bias = view.constant(bias_owner.input[bias_index])
    if bias is None:
        return None
    values = np.asarray(bias, np.float64).reshape(() if bias.size == 1 else -1)
    return _Linear(
        node=node,
        weight_name=node.input[1],
        weight=np.asarray(weight, np.float64),
        channel_axis=axis,
        bias=values,
        bias_owner=bias_owner,
        bias_index=bias_index,
        groups=groups,
    )


def _set_input(node: onnx.NodeProto, index: int, name: str) -> None:
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name
