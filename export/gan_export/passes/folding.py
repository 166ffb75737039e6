"""What a graph computes of its weights alone, and norms that are linear in what they get, become weights.

Spectral norms of an author's own (BigGAN's), equalised learning rates and other weights that a forward makes of
parameters are the same for every latent. Written out, they are plain weights, which other passes understand.

A BatchNormalization y = w (a x + b - mean) / sqrt(var + eps) + beta is again linear in x: with s = w / sqrt(var + eps)
per channel, the weights become s a and the bias s (b - mean) + beta. Computed in float64, then rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_fields

import numpy as np
import onnx_ir as ir

from gan_core.arrays import F64
from gan_export.passes.graph import (
    Array,
    add_initialiser,
    constant,
    drop_unused,
    infer_shapes,
    maker_of,
    nodes_of,
    open_session,
    replace,
    shape_of,
    used_once,
)

DRAWS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Another value at every run, or one that the mode decides: no constants, whatever they are made of."""


class FoldConstants(ir.passes.FunctionalPass):
    """Makes initialisers of the float32 values that depend on initialisers only, if that makes the file no larger.

    They are computed by onnxruntime, as at every run before, and called after the largest weight that they are made of.
    Left alone: values larger than their weights together, values that are not finite, those that onnxruntime refuses,
    and what graphs inside nodes make of weights. Where folding all makes the file larger, what is made of a weight that
    is needed as it is, too (the squares that demodulate a convolution), is left for the runtime to fold.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        result = self._folded(model, lambda _: True)
        return result if result.modified else self._folded(model, lambda origin: not origin.needed)

    def _folded(self, model: ir.Model, wanted: Callable[[_Origin], bool]) -> ir.passes.PassResult:
        folded, count = model.clone(), 0
        made = _made_of_weights(folded.graph)
        makers = {value.producer() for value in made}
        taken = [
            value
            for value, origin in made.items()
            if origin.size and wanted(origin) and any(use.node not in makers for use in value.uses())
        ]
        for value, array in _computed(folded, taken):
            origin = made[value]
            if array.dtype == np.float32 and array.size <= origin.size and np.isfinite(array).all():
                value.replace_all_uses_with(add_initialiser(folded, f"{origin.largest}.of.{value.name}", array))
                count += 1
        drop_unused(folded)
        if count and _weight_bytes(folded) <= _weight_bytes(model) + count * NODE_BYTES:
            return ir.passes.PassResult(folded, modified=True)
        return ir.passes.PassResult(model.clone(), modified=False)


NODE_BYTES = 64
"""About what a file takes for the node that made a value, and not for the value that is written in its place."""
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class _Origin:
    """What a value is made of: how many numbers in all, the name of the largest weight, and whether something that
    varies with the input takes one of them, too."""

    size: int
    largest: str
    needed: bool = False


def _made_of_weights(graph: ir.Graph) -> dict[ir.Value, _Origin]:
    """The values that follow from initialisers which nothing overrides, in the graph's order."""
    origins = {value: {value} for value in graph.initializers.values() if not value.is_graph_input()}
    made: dict[ir.Value, _Origin] = {}
    for node in graph:
        held = any(attribute.type in _GRAPHS for attribute in node.attributes.values())
        if held or node.op_type in DRAWS or node.domain or any(v is not None and v not in origins for v in node.inputs):
            continue
        origin: set[ir.Value] = set().union(*(origins[value] for value in node.inputs if value is not None))
        sizes = {
            weight.name or "": weight.const_value.size if weight.const_value is not None else 0 for weight in origin
        }
        made_of = _Origin(sum(sizes.values()), max(sorted(sizes), key=sizes.__getitem__, default=""))
        for value in node.outputs:
            origins[value] = origin
            made[value] = made_of
    makers = {value.producer() for value in made}
    for value, made_of in made.items():
        if any(use.node not in makers for weight in origins[value] for use in weight.uses()):
            made[value] = replace_fields(made_of, needed=True)
    return made


def _computed(model: ir.Model, wanted: list[ir.Value]) -> list[tuple[ir.Value, Array]]:
    """What those values are; nothing where onnxruntime lacks an operator or a type, and the graph stays as it is."""
    if not wanted:
        return []
    part = ir.Model(ir.convenience.extract(model.graph, [], wanted), ir_version=model.ir_version)
    try:
        return list(zip(wanted, open_session(part, threads=1).run(None, {}), strict=True))
    except Exception:  # onnxruntime's errors have no class of their own
        return []


def _weight_bytes(model: ir.Model) -> int:
    return sum(tensor.nbytes for tensor in model.graph.initializers.tensors())


ONNX_DEFAULT_EPS = 1e-5


@dataclass(frozen=True)
class _Linear:
    """What a norm can be folded into: the node, and the axis of its weight (input 1) that counts output channels.

    The bias is input `bias_index` of `owner`, which makes the norm's input.
    """

    node: ir.Node
    axis: int
    owner: ir.Node
    bias_index: int = 2

    @property
    def bias(self) -> Array | None:
        """Of any shape, a single zero where there is none; None where it is not constant."""
        given = self.owner.inputs[self.bias_index] if len(self.owner.inputs) > self.bias_index else None
        return np.zeros(()) if given is None else constant(given)


class FoldNorms(ir.passes.InPlacePass):
    """Folds every BatchNormalization that follows a Conv, ConvTranspose, Gemm or MatMul (+ Add) into it, and that of a
    conditional batch norm into the Gemm or Gather that makes the gains and offsets behind it.

    Left alone: one in training mode, one whose input has another consumer, one with weights that are not constant, or
    that another node takes too (a copy would make the file larger), and one after anything else. The result draws the
    same images up to float32 rounding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        norms = nodes_of(model, "BatchNormalization")
        if norms:
            infer_shapes(model)
        folded = [_fold(model, norm) or _fold_behind(model, norm) for norm in norms]
        return ir.passes.PassResult(model, any(folded))


def _fold(model: ir.Model, norm: ir.Node) -> bool:
    statistics = [constant(value) for value in norm.inputs[1:5]]
    linear = _linear_before(norm.inputs[0])
    if linear is None or norm.attributes.get_int("training_mode", False) or any(value is None for value in statistics):
        return False
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in statistics)
    old, bias = linear.node.inputs[1], linear.bias
    weight = constant(old)
    if old is None or weight is None or bias is None or (bias.size != 1 and bias.size != gamma.size):
        return False
    values = np.asarray(bias, np.float64).reshape(() if bias.size == 1 else -1)
    scale = gamma / np.sqrt(variance + np.float32(norm.attributes.get_float("epsilon", ONNX_DEFAULT_EPS)))
    made = norm.outputs[0].name
    new_weight = add_initialiser(model, f"{made}.weight", _scale_channels(weight, linear, scale))
    new_bias = add_initialiser(model, f"{made}.bias", (scale * (values - mean) + beta).astype(weight.dtype))
    linear.node.replace_input_with(1, new_weight)
    if old.is_initializer() and old.graph is not None and not old.is_graph_output():
        del old.graph.initializers[old.name or ""]  # what else is left over is small, and for `drop_unused`
    linear.owner.resize_inputs(max(linear.bias_index + 1, len(linear.owner.inputs)))
    linear.owner.replace_input_with(linear.bias_index, new_bias)
    replace([norm], [], norm.outputs[0], by=linear.owner.outputs[0])
    return True


def _fold_behind(model: ir.Model, norm: ir.Node) -> bool:
    """Folds a norm k x + c into the gains and offsets behind it: g (k x + c) + b = (k g) x + (b + c g)."""
    statistics, maker = [constant(value) for value in norm.inputs[1:5]], _maker_of_gains(norm)
    if maker is None or norm.attributes.get_int("training_mode", False) or any(value is None for value in statistics):
        return False
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in statistics)
    k = gamma / np.sqrt(variance + np.float32(norm.attributes.get_float("epsilon", ONNX_DEFAULT_EPS)))
    axis, places = (1, (0,)) if maker.op_type == "Gather" else (0, (1, 2))
    made = []
    for value in (maker.inputs[place] for place in places):
        array = constant(value)
        if value is None or array is None or array.shape[axis] != 2 * k.size:
            return False
        if len(value.uses()) > 1 and array.ndim > 1:
            return False  # no copy of a weight
        gains, offsets = np.split(np.asarray(array, np.float64), 2, axis)
        along = (-1, *[1] * (array.ndim - axis - 1))
        halves = k.reshape(along) * gains, offsets + (beta - mean * k).reshape(along) * gains
        made.append((value.name, np.concatenate(halves, axis).astype(array.dtype)))
    for place, (name, array) in zip(places, made, strict=True):
        maker.replace_input_with(place, add_initialiser(model, f"{name}.normed", array))
    assert norm.inputs[0] is not None
    norm.outputs[0].replace_all_uses_with(norm.inputs[0])  # and `drop_unused` takes it out
    return True


def _maker_of_gains(norm: ir.Node) -> ir.Node | None:
    """What makes the gains, then the offsets, of a norm alone: a Gemm with a bias, or a Gather of rows, whose output is
    reshaped to (N, 2 C, 1, 1) and split."""
    product = _next(norm, "Mul")
    total = _next(product, "Add")
    if product is None or total is None:
        return None
    gain, offset = _beside(product, norm), _beside(total, product)
    split = gain.producer() if gain is not None else None
    if split is None or split.op_type != "Split" or list(split.outputs) != [gain, offset]:
        return None
    shaped = maker_of(split.inputs[0], "Reshape")
    maker = maker_of(shaped.inputs[0], "Gemm", "Gather") if shaped is not None else None
    shape = shape_of(split.inputs[0])
    if maker is None or not all(map(used_once, split.outputs)) or shape is None or shape[2:] != (1, 1):
        return None
    rows = maker.op_type == "Gather" and maker.attributes.get_int("axis", 0) == 0
    alone = maker.op_type == "Gemm" and len(maker.inputs) == 3 and maker.attributes.get_int("transB", 0) == 1
    scaled = maker.attributes.get_float("alpha", 1.0) != 1.0 or maker.attributes.get_float("beta", 1.0) != 1.0
    halved = split.attributes.get_int("axis", 0) == 1 and shape[1] is not None
    return maker if halved and (rows or (alone and not scaled)) else None


def _next(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """The only node that takes what `node` makes, where it is of that operator."""
    if node is None or not used_once(node.outputs[0]):
        return None
    user = next(iter(node.outputs[0].uses())).node
    return user if user.op_type == op_type and not user.domain else None


def _beside(node: ir.Node, maker: ir.Node) -> ir.Value | None:
    """The other input of a node of two, one of which `maker` makes."""
    return node.inputs[1] if node.inputs[0] is maker.outputs[0] else node.inputs[0]


def _scale_channels(weight: Array, linear: _Linear, scale: F64) -> Array:
    """The weight with output channel c times scale[c]. A grouped transposed weight is (in, out / groups, k, k)."""
    groups = linear.node.attributes.get_int("group", 1) if linear.node.op_type == "ConvTranspose" else 1
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    shape = [groups, *[1] * weight.ndim]
    shape[linear.axis + 1] = -1
    product = np.empty_like(grouped, order="C")
    np.multiply(grouped, scale.reshape(shape), out=product, dtype=np.float64, casting="same_kind")
    return product.reshape(weight.shape)


def _linear_before(value: ir.Value | None) -> _Linear | None:
    """The linear operation that makes `value` for nobody else, of a weight of its own; None when there is none."""
    node = maker_of(value, "Conv", "ConvTranspose", "Gemm", "Add")
    linear = None
    if node is None:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        linear = _Linear(node, 0 if node.op_type == "Conv" else 1, node)
    elif node.op_type == "Gemm":
        if node.attributes.get_float("alpha", 1.0) == 1.0 == node.attributes.get_float("beta", 1.0):
            linear = _Linear(node, 0 if node.attributes.get_int("transB", 0) else 1, node)
    else:
        for side in (0, 1):
            product = maker_of(node.inputs[side], "MatMul")
            if product is not None and _is_matrix(product.inputs[1]) and _is_matrix(product.outputs[0]):
                linear = _Linear(product, 1, node, bias_index=1 - side)
                break
    weight = linear.node.inputs[1] if linear is not None else None
    return linear if weight is not None and len(weight.uses()) == 1 else None


def _is_matrix(value: ir.Value | None) -> bool:
    shape = shape_of(value)
    return shape is not None and len(shape) == 2
