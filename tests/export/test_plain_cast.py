"""Before the cast to uint8 only what the cast does not do itself: exact, and only where it is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import as_output, graph, kinds, pixels, run
from gan_export.passes import PlainCast


def steps_of(model: ir.Model) -> list[str]:
    return kinds(model)[5:]


@pytest.mark.parametrize(
    ("activation", "left"), [("Tanh", ["Cast"]), ("Sigmoid", ["Cast"]), ("Softsign", ["Clip", "Cast"])]
)
def test_what_the_cast_does_itself_is_dropped_and_no_pixel_changes(activation: str, left: list[str]) -> None:
    model, x = pixels(activation)
    if activation == "Softsign":  # infinity over infinity
        x = np.where(np.isfinite(x), x, 7).astype(np.float32)
    (expected,) = run(model, x)
    assert PlainCast()(model).modified
    assert steps_of(model) == left
    (drawn,) = run(model, x)
    np.testing.assert_array_equal(drawn, expected)
    assert activation == "Softsign" or (drawn.min(), drawn.max()) == (0, 255)


@pytest.mark.parametrize("given", [{"scale": 140.0}, {"half": np.full((5, 4), 0.5)}])
def test_what_may_reach_beyond_is_still_clipped(given: dict[str, Any]) -> None:
    """A wider range, and a sum with as many numbers as there are pixels."""
    model, x = pixels("Tanh", **given)
    (expected,) = run(model, x)
    assert PlainCast()(model).modified
    assert steps_of(model) == ["Clip", "Cast"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


@pytest.mark.parametrize(
    "given",
    [
        {"bounds": (-5, 255)},
        {"bounds": (0, 300)},
        {"to": "int32"},
        {"steps": "Floor Cast"},
        {"steps": "Clip Floor Cast"},
        {"steps": "Ceil Cast"},
    ],
)
def test_any_other_ending_is_left_alone(given: dict[str, Any]) -> None:
    model, _ = pixels("Tanh", **given)
    before = kinds(model)
    assert not PlainCast()(model).modified
    assert kinds(model) == before


def test_a_step_that_somebody_else_sees_stays() -> None:
    model, _ = pixels("Tanh")
    as_output(model, "v5")
    assert not PlainCast()(model).modified


def test_a_bound_from_outside_the_graph_is_no_bound() -> None:
    body = "t = Tanh (x) f = Floor (t) c = Clip (f, low, high) y = Cast <to = 2> (c)"
    model = graph("float[n, 20] x, float low => uint8[] y", body, high=np.float32(255))
    assert not PlainCast()(model).modified
