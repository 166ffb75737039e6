"""Each graph pass is exact on random shapes, leaves what it is given untouched, and knows what is not for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.small_graphs import f32, model_of, run
from export.surgery import Array
from gan_export.passes import PASSES, run_passes
from gan_export.passes.fold_constants import fold_constants
from gan_export.passes.fold_norms import fold_norms
from gan_export.passes.tidy import canonical_names, drop_unused, strip_traces

rng = np.random.default_rng(0)
FLOAT = TensorProto.FLOAT


def statistics(features: int) -> dict[str, Array]:
    variance = rng.uniform(0.1, 2, features).astype(np.float32)
    return {"gamma": f32(features), "beta": f32(features), "mean": f32(features), "var": variance}


def norm(before: str = "a", after: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [before, "gamma", "beta", "mean", "var"], [after], **attributes)


def conv(groups: int, bias: bool) -> tuple[onnx.ModelProto, Array]:
    c_in, c_out, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    tensors = {"w": f32(c_out, c_in // groups, k, k)} | ({"b": f32(c_out)} if bias else {}) | statistics(c_out)
    node = helper.make_node("Conv", ["x", "w", *["b"] * bias], ["a"], group=groups)
    return model_of([node, norm(epsilon=0.8)], tensors, ("n", c_in, "h", "w")), f32(2, c_in, 6, 5)


def conv_transpose(groups: int, bias: bool) -> tuple[onnx.ModelProto, Array]:
    c_in, c_out, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    tensors = {"w": f32(c_in, c_out // groups, k, k)} | ({"b": f32(c_out)} if bias else {}) | statistics(c_out)
    node = helper.make_node("ConvTranspose", ["x", "w", *["b"] * bias], ["a"], group=groups, strides=[2, 2])
    return model_of([node, norm()], tensors, ("n", c_in, "h", "w")), f32(3, c_in, 4, 3)


def gemm(transposed: int, bias: bool) -> tuple[onnx.ModelProto, Array]:
    n_in, n_out = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    tensors = {"w": f32(n_out, n_in) if transposed else f32(n_in, n_out)} | ({"b": f32(n_out)} if bias else {})
    node = helper.make_node("Gemm", ["x", "w", *["b"] * bias], ["a"], transB=transposed)
    return model_of([node, norm(epsilon=1e-3)], tensors | statistics(n_out), ("n", n_in)), f32(4, n_in)


def matmul_add(side: int, wide: bool) -> tuple[onnx.ModelProto, Array]:
    n_in, n_out = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    operands = ["m", "b"] if side else ["b", "m"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", operands, ["a"]), norm()]
    tensors = {"w": f32(n_in, n_out), "b": f32(n_out) if wide else f32(1)} | statistics(n_out)
    return model_of(nodes, tensors, ("n", n_in)), f32(5, n_in)


FOLDABLE: dict[str, Callable[[], tuple[onnx.ModelProto, Array]]] = {
    f"{make.__name__} {first} {second}": lambda make=make, first=first, second=second: make(first, second)  # type: ignore[misc]
    for make, firsts in ((conv, (1, 3)), (conv_transpose, (1, 2)), (gemm, (0, 1)), (matmul_add, (0, 1)))
    for first in firsts
    for second in (False, True)
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_folding_is_exact(name: str) -> None:
    for _ in range(5):
        model, x = FOLDABLE[name]()
        before = model.SerializeToString()
        folded = drop_unused(fold_norms(model))
        assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
        assert not {tensor.name for tensor in folded.graph.initializer} & {"gamma", "beta", "mean", "var", "w", "b"}
        np.testing.assert_allclose(run(folded, x)[0], run(model, x)[0], rtol=2e-5, atol=2e-5)
        assert model.SerializeToString() == before


def test_several_norms_fold_one_after_another() -> None:
    first = helper.make_node("Gemm", ["x", "w"], ["a"])
    model = model_of([first, norm("a", "m"), norm("m", "y")], {"w": f32(4, 4)} | statistics(4), ("n", 4))
    folded = fold_norms(model)
    assert [node.op_type for node in folded.graph.node] == ["Gemm"]
    x = f32(3, 4)
    np.testing.assert_allclose(run(folded, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-5)


def test_a_shared_weight_stays_as_it_is_for_the_other() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"]),
        norm("a", "y"),
        helper.make_node("Gemm", ["x", "w"], ["other"]),
    ]
    model = model_of(nodes, {"w": f32(4, 4)} | statistics(4), ("n", 4), ("y", "other"))
    x = f32(2, 4)
    folded = fold_norms(model)
    assert len(folded.graph.initializer) == len(model.graph.initializer)  # no copy of the weight
    for found, expected in zip(run(folded, x), run(model, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def gemm_scaled() -> list[onnx.NodeProto]:
    return [helper.make_node("Gemm", ["x", "w"], ["a"], alpha=0.5), norm()]


def gemm_used_twice() -> list[onnx.NodeProto]:
    return [helper.make_node("Gemm", ["x", "w"], ["a"]), norm("a", "m"), helper.make_node("Add", ["a", "m"], ["y"])]


def gemm_of_varying_weight() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gemm", ["x", "x"], ["v"], transA=1),
        helper.make_node("Gemm", ["x", "v"], ["a"]),
        norm(),
    ]


def activation_between() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gemm", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["a"]),
        norm(),
    ]


def norm_first() -> list[onnx.NodeProto]:
    return [norm("x", "a"), helper.make_node("Gemm", ["a", "w"], ["y"])]


@pytest.mark.parametrize(
    "nodes", [gemm_scaled, gemm_used_twice, gemm_of_varying_weight, activation_between, norm_first]
)
def test_what_cannot_be_folded_is_left_alone(nodes: Callable[[], list[onnx.NodeProto]]) -> None:
    model = model_of(nodes(), {"w": f32(4, 4)} | statistics(4), ("n", 4))
    assert fold_norms(model).SerializeToString() == model.SerializeToString()


def test_a_matmul_of_three_dimensions_is_left_alone() -> None:
    """Its BatchNorm normalises the second axis, its weight makes the third."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["a"]), norm()]
    model = model_of(nodes, {"w": f32(4, 4), "b": f32(4)} | statistics(4), ("n", 4, 4))
    assert fold_norms(model).SerializeToString() == model.SerializeToString()


def test_a_norm_in_training_mode_is_left_alone() -> None:
    gemm_node = helper.make_node("Gemm", ["x", "w"], ["a"])
    training = helper.make_node(
        "BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["y", "m1", "v1"], training_mode=1
    )
    model = model_of([gemm_node, training], {"w": f32(4, 4)} | statistics(4), ("n", 4))
    assert fold_norms(model).SerializeToString() == model.SerializeToString()


def made_weight(*operators: str) -> onnx.ModelProto:
    """x times what the operators, one behind another, make of a weight."""
    nodes, name = [], "layer.weight"
    for index, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, [name] + ["scale"] * (operator == "Mul"), [f"made{index}"]))
        name = f"made{index}"
    nodes.append(helper.make_node("MatMul", ["x", name], ["y"]))
    return model_of(nodes, {"layer.weight": f32(4, 4), "scale": np.array(0.5, np.float32)}, ("n", 4))


def test_what_is_made_of_weights_alone_becomes_a_weight() -> None:
    model = made_weight("Mul", "Tanh")
    folded = fold_constants(model)
    assert [node.op_type for node in folded.graph.node] == ["MatMul"]
    (weight,) = folded.graph.initializer
    assert weight.name.startswith("layer.weight.")
    x = f32(3, 4)
    np.testing.assert_allclose(run(folded, x)[0], run(model, x)[0], rtol=1e-6)


@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike", "Bernoulli", "Dropout"])
def test_what_is_drawn_at_each_run_is_no_weight(operator: str) -> None:
    model = made_weight(operator, "Mul")
    assert fold_constants(model) == model


@pytest.mark.parametrize("operator", ["Log", "Reciprocal"])
def test_a_weight_that_would_not_be_finite_stays_computed(operator: str) -> None:
    model = made_weight(operator)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "layer.weight"))
    assert fold_constants(model) == model


def test_what_would_make_the_file_larger_stays_computed() -> None:
    shape = np.array([64, 64], np.int64)
    nodes = [helper.make_node("Expand", ["row", "shape"], ["wide"]), helper.make_node("MatMul", ["x", "wide"], ["y"])]
    model = model_of(nodes, {"row": f32(1, 64), "shape": shape}, ("n", 64))
    assert fold_constants(model) == model


def test_what_would_grow_stays_beside_what_does_not() -> None:
    nodes = [
        helper.make_node("Expand", ["row", "shape"], ["wide"]),
        helper.make_node("Tanh", ["layer.weight"], ["bent"]),
        helper.make_node("MatMul", ["x", "wide"], ["first"]),
        helper.make_node("MatMul", ["first", "bent"], ["y"]),
    ]
    tensors = {"row": f32(1, 64), "shape": np.array([64, 64], np.int64), "layer.weight": f32(64, 64)}
    folded = fold_constants(model_of(nodes, tensors, ("n", 64)))
    assert [node.op_type for node in folded.graph.node] == ["Expand", "MatMul", "MatMul"]


def test_dropping_what_no_output_needs() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Mul", ["x", "dead"], ["gone"]),
        helper.make_node("Neg", ["gone"], ["gone too"]),
    ]
    model = model_of(nodes, {"dead": f32(4), "deader": f32(4)}, ("n", 4))
    dropped = drop_unused(model)
    assert [node.op_type for node in dropped.graph.node] == ["Relu"]
    assert not dropped.graph.initializer
    x = f32(2, 4)
    assert (run(dropped, x)[0] == run(model, x)[0]).all()


def branching() -> onnx.ModelProto:
    """An If whose branches take outer values by name."""
    branch = helper.make_graph(
        [helper.make_node("Mul", ["x", "outer"], ["inner"])],
        "b",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, None)],
    )
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    return model_of([node], {"outer": f32(4), "condition": np.array(True)}, ("n", 4))


@pytest.mark.parametrize("apply", [drop_unused, canonical_names])
def test_graphs_inside_nodes_keep_what_they_take(apply: Callable[[onnx.ModelProto], onnx.ModelProto]) -> None:
    model = branching()
    x = f32(2, 4)
    assert (run(apply(model), x)[0] == run(model, x)[0]).all()


def test_stripping_traces() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"], doc_string="/home/someone/net.py")], {}, ("n", 4))
    model.doc_string = model.graph.doc_string = "made by"
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone"
    model.graph.value_info.append(helper.make_tensor_value_info("y", FLOAT, None))
    stripped = strip_traces(model)
    assert b"home" not in stripped.SerializeToString()
    assert not stripped.graph.value_info
    assert not stripped.graph.doc_string


def test_names_do_not_depend_on_the_exporter_s_counters() -> None:
    def made(counter: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Mul", ["x", f"generator.layers.{3}.weight"], [f"mul_{counter}"], name=f"node_{counter}"),
            helper.make_node("Add", [f"mul_{counter}", f"val_{counter}"], ["y"], name=f"node_{counter + 1}"),
        ]
        tensors = {"generator.layers.3.weight": np.ones(4, np.float32), f"val_{counter}": np.ones(4, np.float32)}
        return model_of(nodes, tensors, ("n", 4))

    first, second = canonical_names(made(3)), canonical_names(made(17))
    assert first.SerializeToString() == second.SerializeToString()
    assert [tensor.name for tensor in first.graph.initializer] == ["layers.3.weight", "constant_1"]
    assert first.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = f32(2, 4)
    assert (run(first, x)[0] == run(made(3), x)[0]).all()


def test_a_fixed_batch_is_not_called_symbolic() -> None:
    named = canonical_names(model_of([helper.make_node("Relu", ["x"], ["y"])], {}, (3, 4)))
    assert named.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3


def test_only_passes_that_changed_something_are_named() -> None:
    model, _ = run_passes(conv(1, True)[0])
    again, applied = run_passes(model)
    assert applied == ()
    assert again.SerializeToString() == model.SerializeToString()
    _, applied = run_passes(conv(1, True)[0])
    assert set(applied) <= set(PASSES)
    assert {"fold_norms", "drop_unused", "canonical_names"} <= set(applied)
