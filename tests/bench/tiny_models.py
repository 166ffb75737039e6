"""Tiny ONNX generators, written node by node: no torch, some microseconds a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gan_core.contract import Contract
from gan_core.interface import Interface

Z_DIM, SIDE = 4, 8


def tiny_model(
    *, name: str = "tiny", n_classes: int = 0, mixes_batch: bool = False, max_batch: int | None = None,
    precision: str = "fp32",
) -> onnx.ModelProto:  # fmt: skip
    """z → matrix product → tanh → image (batch, 1, 8, 8) and its pixels.

    mixes_batch  subtracts the batch's mean, so that an image depends on its neighbours
    max_batch    fails at run time for larger batches, by looking the batch size up in a table of this length
    """
    weight = np.random.default_rng(0).normal(size=(Z_DIM, SIDE * SIDE)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["z", "weight"], ["product"])]
    last = "product"
    if n_classes:
        nodes.append(helper.make_node("Gather", ["classes", "label"], ["class_rows"]))
        nodes.append(helper.make_node("Add", [last, "class_rows"], ["labelled"]))
        last = "labelled"
    if mixes_batch:
        nodes.append(helper.make_node("ReduceMean", [last, "axis_0"], ["batch_mean"], keepdims=1))
        nodes.append(helper.make_node("Sub", [last, "batch_mean"], ["mixed"]))
        last = "mixed"
    if max_batch is not None:
        nodes.append(helper.make_node("Shape", ["z"], ["batch_size"], start=0, end=1))
        nodes.append(helper.make_node("Gather", ["table", "batch_size"], ["zero"]))
        nodes.append(helper.make_node("Add", [last, "zero"], ["limited"]))
        last = "limited"
    nodes += [
        helper.make_node("Tanh", [last], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
        helper.make_node("Mul", ["image", "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
        helper.make_node("Floor", ["shifted"], ["floored"]),
        helper.make_node("Clip", ["floored", "low", "high"], ["clamped"]),
        helper.make_node("Cast", ["clamped"], ["bytes_NCHW"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes_NCHW"], ["pixels"], perm=[0, 2, 3, 1]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "weight": weight,
        "classes": np.random.default_rng(1).normal(size=(max(1, n_classes), SIDE * SIDE)).astype(np.float32),
        "table": np.zeros((max_batch or 0) + 1, np.float32),
        "axis_0": np.array([0], np.int64),
        "shape": np.array([-1, 1, SIDE, SIDE], np.int64),
        "half": np.array(127.5, np.float32),
        "offset": np.array(128.0, np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(255, np.float32),
    }
    used = {tensor for node in nodes for tensor in node.input}
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", Z_DIM])]
    if n_classes:
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE]),
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 1]),
        ],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    contract = Contract(Interface(Z_DIM, (1, SIDE, SIDE), n_classes=n_classes), name=name, precision=precision)
    helper.set_model_props(model, contract.to_metadata())
    return model
