"""The passes of lower precision on small graphs: what they change, by how much, and what they leave alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export import small_graphs
from export.small_graphs import Array, f32, graph, kinds, set_tensor, tensor, text_of
from gan_export.passes.graph import infer_shapes
from gan_export.precision import Range, measure_ranges
from gan_export.precision.float16 import StoreFloat16, to_float16
from gan_export.precision.int8 import Seen
from gan_export.precision.movers import ActivationFirst
from gan_export.precision.qdq import WEIGHT_MAX, quantisable, quantise, store
from gan_export.proof.cases import Case

FLOAT, FLOAT16, INT8 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8


@pytest.fixture(autouse=True)
def same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is measured here: the weights of a test are the same whatever ran before it."""
    monkeypatch.setattr(small_graphs, "rng", np.random.default_rng(1))


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


def phases(behind: str, last: str) -> tuple[ir.Model, Array]:
    """z → two convolutions beside each other, joined and turned as phases are, → another."""
    kernels = {name: f32(8, 8, 2, 2) for name in ("a", "b")} | {"c": f32(3, 4, 3, 3)}
    body = f"""
        x = Reshape (z, first)
        ca = Conv <pads = [1, 1, 0, 0]> (x, a) cb = Conv <pads = [0, 0, 1, 1]> (x, b)
        ra = {behind} (ca) rb = {behind} (cb)
        both = Concat <axis = 1> (ra, rb)
        large = Reshape (both, shape)
        image = {last} (large, c)
    """
    shapes = {"first": np.array([0, 8, 6, 6]), "shape": np.array([0, 4, 12, 12])}
    return graph("float[n, 288] z => float[n, 3, 12, 12] image", body, **shapes, **kernels), f32(4, 288)


@pytest.mark.parametrize("behind", ["Relu", "LeakyRelu <alpha = 0.2>"])
@pytest.mark.parametrize("wanted", [("ca", "cb", "image"), ("ca", "cb")])
def test_what_is_joined_is_joined_as_bytes_of_one_scale(behind: str, wanted: tuple[str, ...]) -> None:
    model, z = phases(behind, "Conv <pads = [1, 1, 1, 1]>")
    ranges = ranges_of(model, z) | {"z": Range(float(z.min()), float(z.max()))}
    made = quantise(model, wanted, ranges)
    check(made)
    (concat,) = (node for node in made.graph if node.op_type == "Concat")
    makers = [value.producer() for value in concat.inputs if value is not None]
    assert [maker.op_type for maker in makers if maker is not None] == ["QuantizeLinear"] * 2
    scales = [tensor(made, str(maker.inputs[1].name)) for maker in makers if maker is not None and maker.inputs[1]]
    assert scales[0] == scales[1]
    assert {node.op_type for node in concat.outputs[0].consumers()} == {"Reshape"}, "bytes move"
    expected = draw(model, z)
    assert 0 < float(np.sqrt(np.mean(np.square(draw(made, z) - expected))) / expected.std()) < 0.03


def test_what_one_layer_of_two_makes_is_joined_in_float32() -> None:
    model, z = phases("Relu", "Conv <pads = [1, 1, 1, 1]>")
    made = quantise(model, ["ca"], ranges_of(model, z) | {"z": Range(float(z.min()), float(z.max()))})
    check(made)
    (concat,) = (node for node in made.graph if node.op_type == "Concat")
    assert all(value is not None and not str(value.name).endswith(".quantised") for value in concat.inputs)
    np.testing.assert_allclose(draw(made, z), draw(model, z), atol=0.05 * float(np.abs(draw(model, z)).max()))


def test_biases_take_off_what_rounded_weights_add_on_average() -> None:
    body = "x = Reshape (z, shape) image = Conv <group = 2> (x, w, b)"
    tensors = {"shape": np.array([0, 6, 5, 5]), "w": f32(4, 3, 3, 3), "b": f32(4)}
    model = graph("float[n, 150] z => float[n, 4, 3, 3] image", body, **tensors)
    z = f32(64, 150) + np.repeat(np.arange(1, 7, dtype=np.float32), 25)
    ranges = ranges_of(model, z) | {"z": Range(float(z.min()), float(z.max()))}
    means = {"x": z.reshape(64, 6, 25).mean((0, 2), dtype=np.float64)}
    off = [
        np.abs((draw(quantise(model, ["image"], ranges, given), z) - draw(model, z)).mean((0, 2, 3))).max()
        for given in ({}, means)
    ]
    assert off[1] < off[0] / 4


@pytest.mark.parametrize(("op", "axis"), [("MatMul", 1), ("Gemm <transB = 1>", 0)])
def test_weights_in_float32_are_saved_in_8_bits(op: str, axis: int) -> None:
    weight = f32(128, 256) * np.geomspace(0.01, 10, 256 if axis else 128).reshape((1, -1) if axis else (-1, 1))
    taken, out = (128, 256) if axis else (256, 128)
    ports, body = f"float[n, {taken}] z => float[n, {out}] image", f"image = {op} (z, w)"
    model, z = graph(ports, body, w=weight.astype(np.float32)), f32(40, taken)
    layers = quantisable(model)
    made = store(model, layers)
    check(made)
    assert kinds(made) == ["Cast", "Mul", op.split()[0]]
    assert types(made) == {"w.stored": INT8, "w.scale": FLOAT}
    expected = draw(model, z)
    noise = (draw(made, z) - expected).std(0) / expected.std(0)
    assert 0 < noise.max() < 0.02, "each output channel has a scale of its own"
    assert store(model, []) is model


def test_weights_of_a_mapping_network_are_saved_as_they_are() -> None:
    ports = "float[n, 128] z => float[n, 128] image, float[n, 128] styles"
    model = graph(ports, "styles = MatMul (z, m) image = MatMul (styles, w)", m=f32(128, 128), w=f32(128, 128))
    made = store(model, quantisable(model))
    check(made)
    assert types(made) == {"m": FLOAT, "w.stored": INT8, "w.scale": FLOAT}


def test_a_few_weights_are_saved_as_they_are() -> None:
    assert store(products(), quantisable(products())) is not None
    assert kinds(store(products(), quantisable(products()))) == ["Gemm"]


def test_a_range_leaves_out_what_costs_more_than_it_brings() -> None:
    values = np.random.default_rng(0).normal(size=(1, 200_000)).astype(np.float32)
    values[0, :2] = -40, 40

    def error(low: float, high: float, slope: float = 1.0) -> float:
        step = (high - low) / 255
        found = np.square(np.clip(np.rint(values / step) * step, low, high) - values.astype(np.float64))
        return float((found * np.where(values < 0, slope**2, 1)).mean())

    ends = np.linspace(1, 40, 40)
    for slope in (1.0, 0.2):
        fitted = Seen.of(values).fitted(slope)
        least = min(error(-low, high, slope) for low in ends for high in ends)
        assert error(fitted.low, fitted.high, slope) < 1.05 * least < error(-40, 40, slope) / 1.3
    joined = (Seen.of(values[:, ::2]) | Seen.of(values[:, 1::2])).fitted()
    assert (joined.low, joined.high) == (Seen.of(values).fitted().low, Seen.of(values).fitted().high)
    assert Seen.of(values * np.float32(np.inf)).fitted().largest == np.inf


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
