"""Before the cast to uint8 only what the cast does not do itself: exact, and only where it is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from export.small_graphs import pixels, run
from gan_export.passes.plain_cast import plain_cast


def steps_of(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node[5:]]


@pytest.mark.parametrize(
    ("activation", "left"), [("Tanh", ["Cast"]), ("Sigmoid", ["Cast"]), ("Softsign", ["Clip", "Cast"])]
)
def test_what_the_cast_does_itself_is_dropped_and_no_pixel_changes(activation: str, left: list[str]) -> None:
    model, x = pixels(activation)
    if activation == "Softsign":  # infinity over infinity
        x = np.where(np.isfinite(x), x, 7).astype(np.float32)
    before = model.SerializeToString()
    changed = plain_cast(model)
    assert steps_of(changed) == left
    np.testing.assert_array_equal(run(changed, x)[0], run(model, x)[0])
    assert model.SerializeToString() == before
    drawn = run(changed, x)[0]
    assert activation == "Softsign" or (drawn.min(), drawn.max()) == (0, 255)


def test_a_range_that_reaches_beyond_is_still_clipped() -> None:
    model, x = pixels("Tanh", scale=140.0)
    changed = plain_cast(model)
    assert steps_of(changed) == ["Clip", "Cast"]
    np.testing.assert_array_equal(run(changed, x)[0], run(model, x)[0])


@pytest.mark.parametrize(
    "given",
    [
        {"bounds": (-5, 255)},
        {"bounds": (0, 300)},
        {"to": onnx.TensorProto.INT32},
        {"steps": "Floor Cast"},
        {"steps": "Clip Floor Cast"},
        {"steps": "Ceil Cast"},
    ],
)
def test_any_other_ending_is_left_alone(given: dict[str, Any]) -> None:
    model, _ = pixels("Tanh", **given)
    assert plain_cast(model) == model


def test_a_step_that_somebody_else_sees_stays() -> None:
    model, _ = pixels("Tanh")
    floor = next(node for node in model.graph.node if node.op_type == "Floor")
    model.graph.output.append(helper.make_tensor_value_info(floor.output[0], onnx.TensorProto.FLOAT, None))
    assert plain_cast(model) == model


def test_a_range_that_is_not_known_to_the_last_number_is_clipped() -> None:
    """A sum with as many numbers as there are pixels, and a bound that comes from outside the graph."""
    model, _ = pixels("Tanh")
    half = next(tensor for tensor in model.graph.initializer if tensor.name == "half")
    half.CopyFrom(onnx.numpy_helper.from_array(np.full((5, 4), 0.5, np.float32), "half"))
    assert steps_of(plain_cast(model)) == ["Clip", "Cast"]
    model, _ = pixels("Tanh")
    model.graph.node[6].input[1] = "x"
    assert plain_cast(model) == model
