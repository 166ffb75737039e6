"""What is made of weights alone is computed once, when a file is exported."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import Array, f32, graph, kinds, run, text_of
from gan_export.passes.folding import FoldConstants


def made_weight(*operators: str, weight: Array | None = None) -> ir.Model:
    """x times what the operators, one behind another, make of a weight."""
    body, name = "", '"layer.weight"'
    for index, operator in enumerate(operators):
        body += f"made{index} = {operator} ({name}{', scale' * (operator == 'Mul')}) "
        name = f"made{index}"
    tensors = {"layer.weight": f32(4, 4) if weight is None else weight, "scale": np.float32(0.5)}
    return graph("float[n, 4] x => float[] y", f"{body} y = MatMul (x, {name})", **tensors)


def test_what_is_made_of_weights_alone_becomes_a_weight() -> None:
    model = made_weight("Mul", "Tanh")
    result = FoldConstants()(model)
    assert result.modified
    assert kinds(result.model) == ["MatMul"]
    (name,) = result.model.graph.initializers
    assert name.startswith("layer.weight.")
    x = f32(3, 4)
    np.testing.assert_allclose(run(result.model, x)[0], run(model, x)[0], rtol=1e-6)


@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike", "Bernoulli", "Dropout"])
def test_what_is_drawn_at_each_run_is_no_weight(operator: str) -> None:
    assert not FoldConstants()(made_weight(operator, "Mul")).modified


@pytest.mark.parametrize("operator", ["Log", "Reciprocal"])
def test_a_weight_that_would_not_be_finite_stays_computed(operator: str) -> None:
    model = made_weight(operator, weight=np.zeros((4, 4), np.float32))
    result = FoldConstants()(model)
    assert not result.modified
    assert text_of(result.model) == text_of(model)


def test_what_would_make_the_file_larger_stays_computed() -> None:
    body = "wide = Expand (row, shape) y = MatMul (x, wide)"
    model = graph("float[n, 64] x => float[] y", body, row=f32(1, 64), shape=np.array([64, 64]))
    assert not FoldConstants()(model).modified


def test_two_values_of_one_weight_are_not_written_twice() -> None:
    body = "one = Tanh (w) two = Sin (w) m = MatMul (x, one) y = MatMul (m, two)"
    assert not FoldConstants()(graph("float[n, 64] x => float[] y", body, w=f32(64, 64))).modified


def test_what_would_grow_stays_beside_what_does_not() -> None:
    body = "wide = Expand (row, shape) bent = Tanh (w) first = MatMul (x, wide) y = MatMul (first, bent)"
    tensors = {"row": f32(1, 64), "shape": np.array([64, 64]), "w": f32(64, 64)}
    folded = FoldConstants()(graph("float[n, 64] x => float[] y", body, **tensors)).model
    assert kinds(folded) == ["Expand", "MatMul", "MatMul"]


def test_an_operator_that_onnxruntime_lacks_stays() -> None:
    assert not FoldConstants()(made_weight("Unheard")).modified
