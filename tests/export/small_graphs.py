"""Small graphs for the tests of graph passes, and what onnxruntime makes of them, unoptimised."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.surgery import Array

Case = tuple[onnx.ModelProto, Array]
"""A graph, and an input for it."""

TRANSPOSED = "ConvTranspose"
SCALE = {"Tanh": (-1.0, 127.5), "Sigmoid": (0.0, 255.0)}
"""An activation's black, and what spreads its range over 0 … 255."""

rng = np.random.default_rng(1)


def model_of(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, Array],
    input_shape: tuple[int | str, ...],
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, x: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {"x": x})
    return results


def f32(*shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def counts(model: onnx.ModelProto) -> dict[str, int]:
    kinds = [node.op_type for node in model.graph.node]
    return {kind: kinds.count(kind) for kind in kinds}


def transposed(
    c_in: int,
    c_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    extra: tuple[int, int] = (0, 0),
    groups: int = 1,
    bias: bool = True,
    batch: int = 3,
) -> Case:
    """A graph of one ConvTranspose, x → y, and an input for it."""
    tensors = {"w": f32(c_in, c_out // groups, *kernel)} | ({"b": f32(c_out)} if bias else {})
    node = helper.make_node(
        TRANSPOSED, ["x", "w", *["b"] * bias], ["y"],
        kernel_shape=kernel, strides=[stride, stride], pads=pads, output_padding=extra, group=groups,
    )  # fmt: skip
    return model_of([node], tensors, ("n", c_in, *size)), f32(batch, c_in, *size)


def chain(activation: str) -> Case:
    """1x1 → 4x4 → 8x8 → 16x16 with activations between: a small DCGAN."""
    tensors, nodes, name = {}, [], "x"
    for index, (c_in, c_out, stride, pad) in enumerate([(5, 8, 1, 0), (8, 6, 2, 1), (6, 3, 2, 1)]):
        tensors |= {f"w{index}": f32(c_in, c_out, 4, 4), f"b{index}": f32(c_out)}
        out = f"a{index}"
        nodes.append(
            helper.make_node(
                TRANSPOSED,
                [name, f"w{index}", f"b{index}"],
                [out],
                kernel_shape=[4, 4],
                strides=[stride, stride],
                pads=[pad] * 4,
            )
        )
        name = out
        if index < 2:
            name = f"r{index}"
            nodes.append(helper.make_node(activation, [out], [name]))
    nodes[-1].output[0] = "y"
    return model_of(nodes, tensors, ("n", 5, 1, 1)), f32(2, 5, 1, 1)


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
