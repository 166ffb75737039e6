"""Before the cast to uint8 only what the cast does not do itself: exact, and only where it is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from export.surgery import Array
from export.test_passes import model_of, run
from gan_export.passes.plain_cast import plain_cast

SCALE = {"Tanh": (-1.0, 127.5), "Sigmoid": (0.0, 255.0)}
"""An activation's black, and what spreads its range over 0 … 255."""


def pixels(
    activation: str, steps: str = "Floor Clip Cast", bounds: tuple[float, float] = (0, 255),
    to: int = onnx.TensorProto.UINT8, scale: float | None = None,
) -> tuple[onnx.ModelProto, Array]:  # fmt: skip
    """A graph from x to uint8 as every export ends, and an input that reaches both ends of the range."""
    black, usual = SCALE.get(activation, SCALE["Tanh"])
    numbers = {"black": black, "scale": scale or usual, "half": 0.5, "low": bounds[0], "high": bounds[1]}
    given: dict[str, list[str]] = {"Clip": ["low", "high"]}
    chain = [(activation, []), ("Reshape", ["shape"]), ("Sub", ["black"]), ("Mul", ["scale"]), ("Add", ["half"])]
    chain += [(step, given.get(step, [])) for step in steps.split()]
    values = ["x", *(f"v{index}" for index in range(len(chain) - 1)), "y"]
    nodes = []
    for index, (op_type, more) in enumerate(chain):
        attributes: dict[str, Any] = {"to": to} if op_type == "Cast" else {}
        nodes.append(helper.make_node(op_type, [values[index], *more], [values[index + 1]], **attributes))
    tensors: dict[str, Any] = {name: np.array(number, np.float32) for name, number in numbers.items()}
    model = model_of(nodes, tensors | {"shape": np.array([-1, 1, 5, 4], np.int64)}, ("n", 20))
    model.graph.output[0].type.tensor_type.elem_type = to
    ends = np.array([-np.inf, np.inf, -100, 100, -1, 1, 0, -0.0], np.float32)
    drawn = np.random.default_rng(0).normal(size=40 * 20 - len(ends)).astype(np.float32) * 3
    return model, np.concatenate([ends, drawn]).reshape(40, 20)


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
