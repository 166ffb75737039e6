"""The passes of lower precision on small graphs: what they change, by how much, and what they leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.surgery import Array
from gan_export.passes.activation_first import activation_first
from gan_export.precision.float16 import to_float16
from gan_export.precision.qdq import WEIGHT_MAX, quantisable, quantise
from gan_export.precision.ranges import Range, measure_ranges
from gan_export.precision.storage import store_float16
from gan_export.proof.cases import Case

rng = np.random.default_rng(3)


def f32(*shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def model_of(nodes: list[onnx.NodeProto], tensors: dict[str, Array], width: int) -> onnx.ModelProto:
    """From `z` (n, width) to `image`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ("n", width))],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.graph.output[0].CopyFrom(onnx.shape_inference.infer_shapes(model).graph.output[0])
    return model


def draw(model: onnx.ModelProto, z: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image: Array = session.run(["image"], {"z": z})[0]
    return image


def ranges_of(model: onnx.ModelProto, z: Array) -> dict[str, Range]:
    return measure_ranges(model, [Case("ordinary", z, None, ())])


def chain(channels: int, side: int, kernel: int, groups: int, biased: bool) -> tuple[onnx.ModelProto, Array]:
    """z → Reshape → Conv, Relu, DepthToSpace, Pad (crop) → Conv, LeakyRelu → image."""
    node = helper.make_node
    width = channels * side * side
    tensors = {
        "shape": np.array([-1, channels, side, side]),
        "w1": f32(channels * 4, channels // groups, kernel, kernel),
        "w2": f32(5, channels, 3, 3),
        "crop": np.array([0, 0, -1, 0, 0, 0, -1, 0]),
    } | ({"b1": f32(channels * 4), "b2": f32(5)} if biased else {})
    nodes = [
        node("Reshape", ["z", "shape"], ["x"]),
        node("Conv", ["x", "w1", *["b1"] * biased], ["c1"], group=groups, pads=[kernel // 2] * 4),
        node("DepthToSpace", ["c1"], ["d"], blocksize=2, mode="CRD"),
        node("Pad", ["d", "crop"], ["p"]),
        node("Relu", ["p"], ["r"]),
        node("Conv", ["r", "w2", *["b2"] * biased], ["c2"], pads=[1] * 4),
        node("LeakyRelu", ["c2"], ["image"], alpha=0.2),
    ]
    return model_of(nodes, tensors, width), f32(4, width)


SHAPES = [(2, 3, 1, 1, True), (4, 4, 3, 2, False), (6, 5, 3, 3, True), (8, 2, 5, 1, False)]


@pytest.mark.parametrize("shape", SHAPES)
def test_activations_move_before_movers_exactly(shape: tuple[int, int, int, int, bool]) -> None:
    model, z = chain(*shape)
    before = model.SerializeToString()
    moved = activation_first(model)
    kinds = [node.op_type for node in moved.graph.node]
    assert kinds[1:5] == ["Conv", "Relu", "DepthToSpace", "Pad"]
    assert (draw(moved, z) == draw(model, z)).all()
    assert model.SerializeToString() == before
    assert activation_first(moved).SerializeToString() == moved.SerializeToString()


def test_an_activation_stays_behind_a_pad_of_ones() -> None:
    nodes = [
        helper.make_node("Pad", ["z", "by", "one"], ["p"]),
        helper.make_node("Relu", ["p"], ["image"]),
    ]
    model = model_of(nodes, {"by": np.array([0, 1, 0, 1]), "one": np.float32(1).reshape(())}, 3)
    assert [node.op_type for node in activation_first(model).graph.node] == ["Pad", "Relu"]


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_draw_nearly_the_same(shape: tuple[int, int, int, int, bool]) -> None:
    plain, z = chain(*shape)
    model = activation_first(plain)
    expected = draw(model, z)
    layers = [layer.name for layer in quantisable(model)]
    assert len(layers) == 2
    made = quantise(model, layers, ranges_of(model, z) | {"z": Range(float(z.min()), float(z.max()))})
    onnx.checker.check_model(made, full_check=True)
    noise = float(np.sqrt(np.mean(np.square(draw(made, z) - expected))) / expected.std())
    assert 0 < noise < 0.03
    weights = [numpy_helper.to_array(t) for t in made.graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == WEIGHT_MAX
    between = [node for node in made.graph.node if node.op_type in ("DepthToSpace", "Pad")]
    assert all(node.input[0].endswith(".quantised") for node in between), "what moves values moves bytes"


def test_only_the_layers_asked_for_change() -> None:
    model, z = chain(4, 4, 3, 1, True)
    ranges = ranges_of(model, z)
    made = quantise(model, [], ranges)
    assert {node.op_type for node in made.graph.node} == {node.op_type for node in model.graph.node}
    assert (draw(made, z) == draw(model, z)).all()
    one = quantise(model, ["c2"], ranges)
    assert sum(node.op_type == "DequantizeLinear" and node.input[0].startswith("w") for node in one.graph.node) == 1


def products(**attributes: Any) -> onnx.ModelProto:
    return model_of(
        [helper.make_node("Gemm", ["z", "w", "b"], ["image"], **attributes)], {"w": f32(4, 4), "b": f32(4)}, 4
    )


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}])
def test_products_that_integers_cannot_write_are_left_alone(attributes: dict[str, float]) -> None:
    assert quantisable(products(**attributes)) == []
    assert len(quantisable(products())) == len(quantisable(products(transB=1))) == 1


def test_a_channel_of_zeros_and_an_input_of_zeros() -> None:
    model = products()
    weight = f32(4, 4)
    weight[:, 1] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    z = f32(3, 4)
    made = quantise(model, ["image"], {"z": Range(float(z.min()), float(z.max()))})
    np.testing.assert_allclose(draw(made, z), draw(model, z), atol=0.1)
    flat = quantise(model, ["image"], {"z": Range(0.0, 0.0)})
    assert np.isfinite(draw(flat, z)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_float16_draws_nearly_the_same(shape: tuple[int, int, int, int, bool]) -> None:
    model, z = chain(*shape)
    made, kept = to_float16(model, ranges_of(model, z))
    onnx.checker.check_model(made, full_check=True)
    assert kept == ()
    assert all(t.data_type != TensorProto.FLOAT for t in made.graph.initializer)
    assert [node.op_type for node in made.graph.node].count("Cast") == 2
    expected = draw(model, z)
    assert draw(made, z).dtype == np.float32
    assert 0 < float(np.abs(draw(made, z) - expected).max()) < 0.01 * float(np.abs(expected).max())


@pytest.mark.parametrize("what", ["weight", "value", "unknown range"])
def test_what_float16_cannot_hold_stays(what: str) -> None:
    model = products()
    if what == "weight":
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(f32(4, 4) * 1e5, "w"))
    ranges = {} if what == "unknown range" else {"image": Range(-4e4 if what == "value" else -1, 1)}
    made, kept = to_float16(model, ranges)
    assert kept != ()
    assert made.SerializeToString() == model.SerializeToString()


def test_a_tiny_eps_is_not_lost() -> None:
    nodes = [
        helper.make_node("Gemm", ["z", "w"], ["g"]),
        helper.make_node("Add", ["g", "eps"], ["image"]),
    ]
    model = model_of(nodes, {"w": f32(4, 4), "eps": np.float32(1e-8).reshape(())}, 4)
    made, _ = to_float16(model, {"g": Range(-9, 9), "image": Range(-9, 9)})
    assert [node.op_type for node in made.graph.node] == ["Cast", "Gemm", "Cast", "Add"]


def test_two_ranges_together_hold_both() -> None:
    assert Range(-1, 1) | Range(-3, 0.5) == Range(-3, 0.5) | Range(-1, 1) == Range(-3, 1)


def test_what_is_made_of_the_image_stays_in_float32() -> None:
    """`pixels` is the image that the file gives, rounded, and not the one before it became float32."""
    nodes = [
        helper.make_node("Gemm", ["z", "w"], ["image"]),
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
    ]
    model = model_of(nodes, {"w": f32(4, 4), "scale": np.float32(127.5).reshape(())}, 4)
    model.graph.output.append(helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ("n", 4)))
    made, _ = to_float16(model, {"image": Range(-9, 9), "scaled": Range(-999, 999)})
    (scaling,) = [node for node in made.graph.node if node.op_type == "Mul"]
    assert list(scaling.input) == ["image", "scale"]


def test_storing_halves_matrices_and_nothing_else() -> None:
    model, z = chain(8, 4, 3, 1, True)
    made = store_float16(model)
    onnx.checker.check_model(made, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert types["w1.stored"] == types["w2.stored"] == TensorProto.FLOAT16
    assert types["b1"] == TensorProto.FLOAT
    rounded = {"w1": None, "w2": None}
    same = onnx.ModelProto()
    same.CopyFrom(model)
    for tensor in same.graph.initializer:
        if tensor.name in rounded:
            value = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    assert (draw(made, z) == draw(same, z)).all(), "float32 arithmetic on rounded weights"


def test_a_weight_too_large_to_store_stays() -> None:
    model = model_of([helper.make_node("Gemm", ["z", "w"], ["image"])], {"w": f32(8, 8) * 1e5}, 8)
    assert store_float16(model).SerializeToString() == model.SerializeToString()
