"""The passes of lower precision on small graphs: what they change, by how much, and what they leave alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.small_graphs import Array, f32, graph, kinds, set_tensor, tensor, text_of
from gan_export.passes.graph import infer_shapes
from gan_export.precision import Range, measure_ranges
from gan_export.precision.float16 import StoreFloat16, to_float16
from gan_export.precision.qdq import WEIGHT_MAX, ActivationFirst, quantisable, quantise
from gan_export.proof.cases import Case

FLOAT, FLOAT16, INT8 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8


def draw(model: ir.Model, z: Array) -> Array:
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    image: Array = session.run(["image"], {"z": z})[0]
    return image


def ranges_of(model: ir.Model, z: Array) -> dict[str, Range]:
    return measure_ranges(model, [Case("ordinary", z, None, ())])


def check(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def types(model: ir.Model) -> dict[str, ir.DataType]:
    return {name: tensor.dtype for name, tensor in model.graph.initializers.tensor_items()}


def chain(channels: int, side: int, kernel: int, groups: int, biased: bool) -> tuple[ir.Model, Array]:
    """z → Reshape → Conv, Relu, DepthToSpace, Pad (crop) → Conv, LeakyRelu → image."""
    width = channels * side * side
    tensors = {
        "shape": np.array([-1, channels, side, side]),
        "w1": f32(channels * 4, channels // groups, kernel, kernel),
        "w2": f32(5, channels, 3, 3),
        "crop": np.array([0, 0, -1, 0, 0, 0, -1, 0]),
    } | ({"b1": f32(channels * 4), "b2": f32(5)} if biased else {})
    body = f"""
        x = Reshape (z, shape)
        c1 = Conv <group = {groups}, pads = {[kernel // 2] * 4}> (x, w1{", b1" * biased})
        d = DepthToSpace <blocksize = 2, mode = "CRD"> (c1)
        p = Pad (d, crop)
        r = Relu (p)
        c2 = Conv <pads = [1, 1, 1, 1]> (r, w2{", b2" * biased})
        image = LeakyRelu <alpha = 0.2> (c2)
    """
    model = graph(f"float[n, {width}] z => float[] image", body, **tensors)
    infer_shapes(model)
    return model, f32(4, width)


SHAPES = [(2, 3, 1, 1, True), (4, 4, 3, 2, False), (6, 5, 3, 3, True), (8, 2, 5, 1, False)]


@pytest.mark.parametrize("shape", SHAPES)
def test_activations_move_before_movers_exactly(shape: tuple[int, int, int, int, bool]) -> None:
    model, z = chain(*shape)
    expected = draw(model, z)
    assert ActivationFirst()(model).modified
    assert kinds(model)[1:5] == ["Conv", "Relu", "DepthToSpace", "Pad"]
    assert (draw(model, z) == expected).all()
    assert not ActivationFirst()(model).modified


def test_an_activation_stays_behind_a_pad_of_ones() -> None:
    body = "p = Pad (z, by, one) image = Relu (p)"
    model = graph("float[n, 3] z => float[n, 5] image", body, by=np.array([0, 1, 0, 1]), one=np.float32(1))
    assert not ActivationFirst()(model).modified
    assert kinds(model) == ["Pad", "Relu"]


def test_an_activation_that_is_the_image_moves_and_keeps_its_name() -> None:
    body = "g = Gemm (z, w) r = Reshape (g, shape) image = Tanh (r)"
    tensors = {"w": f32(3, 4), "shape": np.array([-1, 2, 2])}
    model, z = graph("float[n, 3] z => float[n, 2, 2] image", body, **tensors), f32(5, 3)
    expected = draw(model, z)
    assert ActivationFirst()(model).modified
    assert kinds(model) == ["Gemm", "Tanh", "Reshape"]
    assert (draw(model, z) == expected).all()
    check(model)


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_draw_nearly_the_same(shape: tuple[int, int, int, int, bool]) -> None:
    model, z = chain(*shape)
    ActivationFirst()(model)
    expected = draw(model, z)
    layers = [layer.name for layer in quantisable(model)]
    assert len(layers) == 2
    made = quantise(model, layers, ranges_of(model, z) | {"z": Range(float(z.min()), float(z.max()))})
    check(made)
    noise = float(np.sqrt(np.mean(np.square(draw(made, z) - expected))) / expected.std())
    assert 0 < noise < 0.03
    weights = [t.numpy() for t in made.graph.initializers.tensors() if t.dtype == INT8]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == WEIGHT_MAX
    between = [value for node in made.graph if node.op_type in ("DepthToSpace", "Pad") for value in node.inputs[:1]]
    assert all(str(value.name).endswith(".quantised") for value in between if value), "what moves values moves bytes"


def test_only_the_layers_asked_for_change() -> None:
    model, z = chain(4, 4, 3, 1, True)
    ranges = ranges_of(model, z)
    made = quantise(model, [], ranges)
    assert set(kinds(made)) == set(kinds(model))
    assert (draw(made, z) == draw(model, z)).all()
    one = quantise(model, ["c2"], ranges)
    assert sum(name.startswith("w") and kind == INT8 and "quantised" in name for name, kind in types(one).items()) == 1


def test_the_square_of_a_norm_written_out_stays_in_float32() -> None:
    body = "g = Gemm (z, w) s = Mul (g, g) m = ReduceMean (s) e = Add (m, eps) r = Sqrt (e) image = Div (g, r)"
    model, z = graph("float[n, 4] z => float[n, 4] image", body, w=f32(4, 4), eps=np.float32(1e-5)), f32(5, 4)
    infer_shapes(model)
    made, kept = to_float16(model, ranges_of(model, z))
    check(made)
    types_of = {node.op_type: node.inputs[0].dtype for node in made.graph if node.inputs[0] is not None}
    assert kept == ()
    assert (types_of["Gemm"], types_of["Mul"], types_of["ReduceMean"]) == (FLOAT16, FLOAT, FLOAT)
    np.testing.assert_allclose(draw(made, z), draw(model, z), atol=0.01)


def products(attributes: str = "alpha = 1.0") -> ir.Model:
    body = f"image = Gemm <{attributes}> (z, w, b)"
    return graph("float[n, 4] z => float[n, 4] image", body, w=f32(4, 4), b=f32(4))


@pytest.mark.parametrize("attributes", ["alpha = 0.5", "beta = 2.0", "transA = 1"])
def test_products_that_integers_cannot_write_are_left_alone(attributes: str) -> None:
    assert quantisable(products(attributes)) == []
    assert len(quantisable(products())) == len(quantisable(products("transB = 1"))) == 1


def test_a_channel_of_zeros_and_an_input_of_zeros() -> None:
    model = products()
    weight = f32(4, 4)
    weight[:, 1] = 0
    set_tensor(model, "w", weight)
    z = f32(3, 4)
    made = quantise(model, ["image"], {"z": Range(float(z.min()), float(z.max()))})
    np.testing.assert_allclose(draw(made, z), draw(model, z), atol=0.1)
    flat = quantise(model, ["image"], {"z": Range(0.0, 0.0)})
    assert np.isfinite(draw(flat, z)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_float16_draws_nearly_the_same(shape: tuple[int, int, int, int, bool]) -> None:
    model, z = chain(*shape)
    made, kept = to_float16(model, ranges_of(model, z))
    check(made)
    assert kept == ()
    assert FLOAT not in types(made).values()
    assert kinds(made).count("Cast") == 2
    expected = draw(model, z)
    assert draw(made, z).dtype == np.float32
    assert 0 < float(np.abs(draw(made, z) - expected).max()) < 0.01 * float(np.abs(expected).max())


@pytest.mark.parametrize("what", ["weight", "value", "unknown range"])
def test_what_float16_cannot_hold_stays(what: str) -> None:
    model = products()
    if what == "weight":
        set_tensor(model, "w", f32(4, 4) * 1e5)
    ranges = {} if what == "unknown range" else {"image": Range(-4e4 if what == "value" else -1, 1)}
    made, kept = to_float16(model, ranges)
    assert kept != ()
    assert text_of(made) == text_of(model)


def test_a_tiny_eps_is_not_lost() -> None:
    body = "g = Gemm (z, w) image = Add (g, eps)"
    model = graph("float[n, 4] z => float[n, 4] image", body, w=f32(4, 4), eps=np.float32(1e-8))
    made, _ = to_float16(model, {"g": Range(-9, 9), "image": Range(-9, 9)})
    assert kinds(made) == ["Cast", "Gemm", "Cast", "Add"]


def test_an_inner_graph_takes_the_value_in_float32() -> None:
    body = """g = Gemm (z, w) image = If (yes) <then_branch = a () => (float[n, 4] p) { p = Sin (g) },
                                                else_branch = b () => (float[n, 4] q) { q = Cos (g) }>"""
    model, z = graph("float[n, 4] z => float[n, 4] image", body, w=f32(4, 4), yes=np.array(True)), f32(3, 4)
    made, _ = to_float16(model, {"g": Range(-9, 9), "image": Range(-9, 9)})
    assert kinds(made) == ["Cast", "Gemm", "Cast", "If"]
    np.testing.assert_allclose(draw(made, z), draw(model, z), atol=0.01)


def test_two_ranges_together_hold_both() -> None:
    assert Range(-1, 1) | Range(-3, 0.5) == Range(-3, 0.5) | Range(-1, 1) == Range(-3, 1)


def test_what_is_made_of_the_image_stays_in_float32() -> None:
    """`pixels` is the image that the file gives, rounded, and not the one before it became float32."""
    body = "image = Gemm (z, w) scaled = Mul (image, scale)"
    ports = "float[n, 4] z => float[n, 4] image, float[n, 4] scaled"
    model = graph(ports, body, w=f32(4, 4), scale=np.float32(127.5))
    made, _ = to_float16(model, {"image": Range(-9, 9), "scaled": Range(-999, 999)})
    (scaling,) = [node for node in made.graph if node.op_type == "Mul"]
    assert [value.name for value in scaling.inputs if value] == ["image", "scale"]


def test_storing_halves_matrices_and_nothing_else() -> None:
    model, z = chain(8, 4, 3, 1, True)
    same = model.clone()
    for name in ("w1", "w2"):
        set_tensor(same, name, tensor(same, name).astype(np.float16).astype(np.float32))
    expected = draw(same, z)
    assert StoreFloat16()(model).modified
    check(model)
    assert types(model)["w1.stored"] == types(model)["w2.stored"] == FLOAT16
    assert types(model)["b1"] == FLOAT
    assert (draw(model, z) == expected).all(), "float32 arithmetic on rounded weights"


def test_a_weight_too_large_to_store_stays() -> None:
    model = graph("float[n, 8] z => float[n, 8] image", "image = Gemm (z, w)", w=f32(8, 8) * 1e5)
    before = text_of(model)
    assert not StoreFloat16()(model).modified
    assert text_of(model) == before
