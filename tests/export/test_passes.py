"""Each graph pass is exact on random shapes, says whether it changed the model, and knows what is not for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import Array, Case, f32, graph, kinds, run, text_of
from gan_export.passes import PASSES, CanonicalNames, PlainCast, StripTraces, run_passes
from gan_export.passes.folding import FoldNorms
from gan_export.passes.graph import drop_unused
from gan_export.passes.layer import MergeUpsampling
from gan_export.passes.rewrite import always, rewrite

rng = np.random.default_rng(0)


def statistics(features: int) -> dict[str, Array]:
    variance = rng.uniform(0.1, 2, features).astype(np.float32)
    return {"gamma": f32(features), "beta": f32(features), "mean": f32(features), "var": variance}


NORM = "y = BatchNormalization (a, gamma, beta, mean, var)"


def conv(groups: int, bias: bool) -> Case:
    c_in, c_out, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    tensors = {"w": f32(c_out, c_in // groups, k, k)} | ({"b": f32(c_out)} if bias else {})
    body = f"a = Conv <group = {groups}> ({', '.join(['x', *tensors])}) " + NORM.replace("(", "<epsilon = 0.8> (")
    return graph(f"float[n, {c_in}, h, w] x => float[] y", body, **tensors, **statistics(c_out)), f32(2, c_in, 6, 5)


def conv_transpose(groups: int, bias: bool) -> Case:
    c_in, c_out, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    tensors = {"w": f32(c_in, c_out // groups, k, k)} | ({"b": f32(c_out)} if bias else {})
    body = f"a = ConvTranspose <group = {groups}, strides = [2, 2]> ({', '.join(['x', *tensors])}) {NORM}"
    return graph(f"float[n, {c_in}, h, w] x => float[] y", body, **tensors, **statistics(c_out)), f32(3, c_in, 4, 3)


def gemm(transposed: int, bias: bool) -> Case:
    n_in, n_out = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    tensors = {"w": f32(n_out, n_in) if transposed else f32(n_in, n_out)} | ({"b": f32(n_out)} if bias else {})
    body = f"a = Gemm <transB = {transposed}> ({', '.join(['x', *tensors])}) " + NORM.replace(
        "(", "<epsilon = 0.001> ("
    )
    return graph(f"float[n, {n_in}] x => float[] y", body, **tensors, **statistics(n_out)), f32(4, n_in)


def matmul_add(side: int, wide: bool) -> Case:
    n_in, n_out = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    tensors = {"w": f32(n_in, n_out), "b": f32(n_out) if wide else f32(1)} | statistics(n_out)
    body = f"m = MatMul (x, w) a = Add ({'m, b' if side else 'b, m'}) {NORM}"
    return graph(f"float[n, {n_in}] x => float[] y", body, **tensors), f32(5, n_in)


FOLDABLE: dict[str, Callable[[], Case]] = {
    f"{make.__name__} {first} {second}": lambda make=make, first=first, second=second: make(first, second)  # type: ignore[misc]
    for make, firsts in ((conv, (1, 3)), (conv_transpose, (1, 2)), (gemm, (0, 1)), (matmul_add, (0, 1)))
    for first in firsts
    for second in (False, True)
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_folding_is_exact(name: str) -> None:
    for _ in range(5):
        model, x = FOLDABLE[name]()
        expected = run(model, x)[0]
        assert FoldNorms()(model).modified
        drop_unused(model)
        assert "BatchNormalization" not in kinds(model)
        assert not model.graph.initializers.keys() & {"gamma", "beta", "mean", "var", "w", "b"}
        np.testing.assert_allclose(run(model, x)[0], expected, rtol=2e-5, atol=2e-5)


BEHIND = (
    "m = BatchNormalization <epsilon = 0.01> (x, gamma, beta, mean, var) g4 = Reshape (gains, sizes) "
    "g, o = Split <axis = 1, num_outputs = 2> (g4) p = Mul (m, g) y = Add (p, o)"
)


def behind(how: str, body: str = BEHIND) -> Case:
    tensors = {"sizes": np.array([-1, 6, 1, 1]), **statistics(3)}
    if how == "gemm":
        body = "f = Flatten (x) gains = Gemm <transB = 1> (f, w, b) " + body
        tensors |= {"w": f32(6, 12), "b": f32(6)}
    else:
        body = "r = ReduceMax <keepdims = 0> (x, axes) i = Cast <to = 7> (r) gains = Gather (w, i) " + body
        tensors |= {"w": f32(4, 6), "axes": np.array([1, 2, 3])}
    return graph("float[n, 3, 2, 2] x => float[] y", body, **tensors), np.abs(f32(3, 3, 2, 2)).clip(0, 3)


@pytest.mark.parametrize("how", ["gemm", "gather"])
def test_a_norm_is_folded_into_the_gains_behind_it(how: str) -> None:
    model, x = behind(how)
    expected = run(model, x)[0]
    assert FoldNorms()(model).modified
    drop_unused(model)
    assert "BatchNormalization" not in kinds(model)
    assert not model.graph.initializers.keys() & {"gamma", "beta", "mean", "var", "w", "b"}
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("p = Mul (m, g) y = Add (p, o)", "p = Mul (m, o) y = Add (p, g)"),
        ("y = Add (p, o)", "y = Sub (p, o)"),
        ("y = Add (p, o)", "q = Add (p, o) y = Add (q, g)"),
        ("p = Mul (m, g) y = Add (p, o)", "p = Mul (m, g) q = Add (p, o) y = Add (q, m)"),
        ("axis = 1, num", "axis = 0, num"),
    ],
)
def test_what_only_looks_like_a_conditional_norm_is_left_alone(old: str, new: str) -> None:
    model, _ = behind("gemm", BEHIND.replace(old, new))
    assert not FoldNorms()(model).modified


def test_a_pass_writes_into_no_tensor() -> None:
    """A clone shares them, and so does torch's module."""
    model, x = conv(1, True)
    clone, expected = model.clone(), run(model, x)[0]
    assert FoldNorms()(model).modified
    np.testing.assert_array_equal(run(clone, x)[0], expected)


def test_several_norms_fold_one_after_another() -> None:
    body = f"a0 = Gemm (x, w) a = BatchNormalization (a0, gamma, beta, mean, var) {NORM}"
    model, x = graph("float[n, 4] x => float[] y", body, w=f32(4, 4), **statistics(4)), f32(3, 4)
    expected = run(model, x)[0]
    FoldNorms()(model)
    assert kinds(model) == ["Gemm"]
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_shared_weight_stays_as_it_is_for_the_other() -> None:
    body = f"a = Gemm (x, w) {NORM} other = Gemm (x, w)"
    model = graph("float[n, 4] x => float[] y, float[] other", body, w=f32(4, 4), **statistics(4))
    before = text_of(model)
    assert not FoldNorms()(model).modified  # no copy of the weight
    StripTraces()(model)
    assert len(model.graph.initializers) == before.count("initializer {")


NOT_FOLDABLE = {
    "scaled": f"a = Gemm <alpha = 0.5> (x, w) {NORM}",
    "used twice": "a = Gemm (x, w) m = BatchNormalization (a, gamma, beta, mean, var) y = Add (a, m)",
    "a weight that varies": f"v = Gemm <transA = 1> (x, x) a = Gemm (x, v) {NORM}",
    "an activation between": f"m = Gemm (x, w) a = Relu (m) {NORM}",
    "the norm first": "a = BatchNormalization (x, gamma, beta, mean, var) y = Gemm (a, w)",
    "training": "a = Gemm (x, w) y, m1, v1 = BatchNormalization <training_mode = 1> (a, gamma, beta, mean, var)",
}


@pytest.mark.parametrize("name", NOT_FOLDABLE)
def test_what_cannot_be_folded_is_left_alone(name: str) -> None:
    model = graph("float[n, 4] x => float[] y", NOT_FOLDABLE[name], w=f32(4, 4), **statistics(4))
    before = kinds(model)
    assert not FoldNorms()(model).modified
    assert kinds(model) == before


def test_a_matmul_of_three_dimensions_is_left_alone() -> None:
    """Its BatchNorm normalises the second axis, its weight makes the third."""
    body = f"m = MatMul (x, w) a = Add (m, b) {NORM}"
    model = graph("float[n, 4, 4] x => float[] y", body, w=f32(4, 4), b=f32(4), **statistics(4))
    assert not FoldNorms()(model).modified


def test_a_weight_that_a_caller_may_override_is_no_constant() -> None:
    model = graph("float[n, 4] x, float[4, 4] w => float[] y", f"a = Gemm (x, w) {NORM}", w=f32(4, 4), **statistics(4))
    assert not FoldNorms()(model).modified


def test_a_name_that_is_taken_is_not_taken_over() -> None:
    model = graph(
        "float[n, 4] x => float[] y", f"a = Gemm (x, w) {NORM.replace('y =', 'n =')} y = Add (n, \"n.weight\")",
        w=f32(4, 4), **statistics(4), **{"n.weight": f32(4)},
    )  # fmt: skip
    x = f32(2, 4)
    expected = run(model, x)[0]
    assert FoldNorms()(model).modified
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_dropping_what_no_output_needs() -> None:
    body = "y = Relu (x) gone = Mul (x, dead) gone_too = Neg (gone)"
    model, x = graph("float[n, 4] x => float[] y", body, dead=f32(4), deader=f32(4)), f32(2, 4)
    expected = run(model, x)[0]
    assert drop_unused(model).modified
    assert kinds(model) == ["Relu"]
    assert not model.graph.initializers
    assert (run(model, x)[0] == expected).all()


def branching() -> Case:
    """An If whose branches take outer values by name, and hold what passes look for."""
    branch = """() => (float[] {0}) {{
        {0}_s = Constant <value = float[4] {{1, 1, 2, 2}}> ()
        {0}_u = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
            (x, , {0}_s)
        {0}_c = Conv <pads = [1, 1, 1, 1]> ({0}_u, {0}_w)
        {0}_n = BatchNormalization ({0}_c, gamma, beta, mean, var)
        {0}_d = Neg ({0}_n)
        {0} = Relu ({0}_n)
    }}"""
    body = f"y = If (condition) <then_branch = b {branch.format('p')}, else_branch = e {branch.format('q')}>"
    tensors = {"p_w": f32(3, 2, 3, 3), "q_w": f32(3, 2, 3, 3), "condition": np.array(True), **statistics(3)}
    return graph("float[n, 2, 4, 4] x => float[] y", body, **tensors), f32(2, 2, 4, 4)


def test_graphs_inside_nodes_are_rewritten_too() -> None:
    model, x = branching()
    expected = run(model, x)[0]
    model, applied = run_passes(model, dict(PASSES))
    assert {"fold_norms", "drop_unused", "canonical_names"} <= set(applied)
    assert [node.op_type for node in model.graph.all_nodes()] == ["If", *["Constant", "Resize", "Conv", "Relu"] * 2]
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)
    assert MergeUpsampling()(model).modified
    assert [node.op_type for node in model.graph.all_nodes()].count("ConvTranspose") == 2
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)
    model = rewrite(model, always("phases"))
    assert [node.op_type for node in model.graph.all_nodes()].count("Conv") == 8
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)
    CanonicalNames()(model)
    names = [value.name for node in model.graph.all_nodes() for value in node.outputs]
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_value_that_an_inner_graph_takes_is_not_the_norm_s_alone() -> None:
    body = f"""a = Gemm (x, w) {NORM.replace("y =", "n =")}
        other = If (condition) <then_branch = b () => (float[] p) {{ p = Neg (a) }},
                                else_branch = e () => (float[] q) {{ q = Neg (x) }}>
        y = Add (n, other)"""
    model = graph("float[n, 4] x => float[] y", body, w=f32(4, 4), condition=np.array(True), **statistics(4))
    x = f32(2, 4)
    expected = run(model, x)[0]
    model, _ = run_passes(model, {**PASSES, "plain_cast": PlainCast()})
    assert "BatchNormalization" in kinds(model)
    np.testing.assert_array_equal(run(model, x)[0], expected)


def test_stripping_traces() -> None:
    model = graph("float[n, 4] x => float[] y", "a = Relu (x) y = Neg (a)")
    model.doc_string = model.graph.doc_string = model.graph[0].doc_string = "made by /home/someone/net.py"
    model.graph[0].metadata_props["pkg.torch.onnx.stack_trace"] = "/home/someone"
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.inputs[0].metadata_props["from"] = "/home/someone"
    assert StripTraces()(model).modified
    stripped = ir.to_proto(model)
    assert b"home" not in stripped.SerializeToString()
    assert not stripped.graph.value_info
    assert not StripTraces()(model).modified


def test_names_do_not_depend_on_the_exporter_s_counters() -> None:
    def made(counter: int) -> ir.Model:
        body = f'mul_{counter} = Mul (x, "generator.layers.3.weight") y = Add (mul_{counter}, val_{counter})'
        weight, ones = np.ones(4, np.float32), np.ones(4, np.float32)
        return graph(
            "float[n, 4] x => float[] y", body, **{"generator.layers.3.weight": weight, f"val_{counter}": ones}
        )

    first, second = made(3), made(17)
    assert CanonicalNames()(first).modified
    assert CanonicalNames()(second).modified
    assert not CanonicalNames()(first).modified
    assert text_of(first) == text_of(second)
    assert list(first.graph.initializers) == ["layers.3.weight", "constant_1"]
    assert str(first.graph.inputs[0].shape) == "[batch,4]"
    x = f32(2, 4)
    assert (run(first, x)[0] == run(made(3), x)[0]).all()


def test_a_fixed_batch_is_not_called_symbolic() -> None:
    model = graph("float[3, 4] x => float[] y", "y = Relu (x)")
    CanonicalNames()(model)
    assert str(model.graph.inputs[0].shape) == "[3,4]"


def test_only_passes_that_changed_something_are_named() -> None:
    model, applied = run_passes(conv(1, True)[0])
    assert set(applied) <= set(PASSES)
    assert {"fold_norms", "drop_unused", "canonical_names"} <= set(applied)
    before = text_of(model)
    again, applied = run_passes(model)
    assert applied == ()
    assert text_of(again) == before


def test_a_constant_node_is_as_good_as_an_initialiser() -> None:
    body = f"w = Constant <value = float[1, 1] {{2.0}}> () a = Gemm (x, w) {NORM}"
    model, x = graph("float[n, 1] x => float[] y", body, **statistics(1)), f32(3, 1)
    expected = run(model, x)[0]
    assert FoldNorms()(model).modified
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-5, atol=1e-6)
