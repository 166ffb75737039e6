"""ONNX generators as other people export them, built node by node: no metadata, and inputs and outputs of every kind.

image = act(z W + E[label]) · scale + offset, in float32, then in the layout and the type that are asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gan_core.arrays import F32, I64
from gan_serve.runtime import probe

Z_DIM, CLASSES = 5, 3
_TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE,
          "uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "int32": TensorProto.INT32}  # fmt: skip
_ACTIVATIONS: dict[str, Callable[[F32], npt.NDArray[Any]]] = {
    "Tanh": np.tanh,
    "Sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "Identity": lambda y: y,
}


def weights(image: tuple[int, int, int]) -> tuple[F32, F32]:
    """W (z_dim, CHW) and E (classes, CHW)."""
    rng, size = np.random.default_rng(3), math.prod(image)
    w, e = (rng.standard_normal((rows, size)).astype(np.float32) for rows in (Z_DIM, CLASSES))
    return w, e


def expected(
    z: F32,
    label: I64 | None = None,
    *,
    image: tuple[int, int, int] = (3, 8, 9),
    activation: str = "Tanh",
    scale: float = 1.0,
    offset: float = 0.0,
) -> F32:
    """What the graph computes, float32 (n, C, H, W)."""
    w, e = weights(image)
    flat = z @ w + (0 if label is None else e[label])
    found: F32 = (_ACTIVATIONS[activation](flat) * scale + offset).astype(np.float32).reshape(-1, *image)
    return found


def stranger(
    *,
    image: tuple[int, int, int] = (3, 8, 9),
    activation: str = "Tanh",
    scale: float = 1.0,
    offset: float = 0.0,
    z: tuple[Any, ...] = ("N", Z_DIM),
    z_type: str = "float",
    z_name: str = "noise",
    label: str = "",
    label_shape: tuple[Any, ...] = ("N",),
    label_name: str = "y",
    one_hot_by: str = "Gather",
    layout: str = "NCHW",
    out_type: str = "float",
    out_shape: tuple[Any, ...] | None = None,
    baked: int | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """The graph: input `noise`, output `out`.

    label       the type of the class input: "int64", "int32", "float" (one-hot), or "" for none
    one_hot_by  how an integer class finds its row of E: "Gather", "OneHot", "Equal", or "Compare", which nobody reads
    layout      "NCHW", "NHWC", "flat" (N, CHW), "HW" (N, H, W), "HWC" (one image without a batch)
    out_shape   what the file says of the output, where that is not what it is
    baked       the batch that a Reshape inside makes of any other
    """
    c, h, w = image
    table, rows = weights(image)
    constants: dict[str, npt.NDArray[Any]] = {
        "W": table, "E": rows, "scale": np.array(scale, np.float32), "offset": np.array(offset, np.float32),
        "flat_z": np.array([baked or -1, Z_DIM], np.int64), "flat_label": np.array([-1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", [z_name], ["z32"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["z32", "flat_z"], ["z2"]),
        helper.make_node("MatMul", ["z2", "W"], ["zw"]),
    ]
    inputs = [helper.make_tensor_value_info(z_name, _TYPES[z_type], z)]
    if label:
        nodes += _label_nodes(label, label_name, one_hot_by, constants)
        nodes.append(helper.make_node("Add", ["zw", "e"], ["sum"]))
        inputs.append(helper.make_tensor_value_info(label_name, _TYPES[label], label_shape))
    nodes += [
        helper.make_node(activation, ["sum" if label else "zw"], ["active"]),
        helper.make_node("Mul", ["active", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
    ]
    batch = z[0]
    shapes: dict[str, tuple[list[int], tuple[Any, ...]]] = {
        "NCHW": ([-1, c, h, w], (batch, c, h, w)),
        "NHWC": ([-1, c, h, w], (batch, h, w, c)),
        "flat": ([-1, c * h * w], (batch, c * h * w)),
        "HW": ([-1, h, w], (batch, h, w)),
        "HWC": ([c, h, w], (h, w, c)),
    }
    to, said = shapes[layout]
    constants["shape"] = np.array(to, np.int64)
    nodes.append(helper.make_node("Reshape", ["shifted", "shape"], ["placed"]))
    perm = {"NHWC": [0, 2, 3, 1], "HWC": [1, 2, 0]}.get(layout, list(range(len(to))))
    nodes.append(helper.make_node("Transpose", ["placed"], ["turned"], perm=perm))
    nodes.append(helper.make_node("Cast", ["turned"], ["out"], to=_TYPES[out_type]))
    output = helper.make_tensor_value_info("out", _TYPES[out_type], said if out_shape is None else out_shape)
    used = {name for node in nodes for name in node.input}
    initialisers = [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used]
    graph = helper.make_graph(nodes, "torch_jit", inputs, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _label_nodes(kind: str, name: str, one_hot_by: str, constants: dict[str, npt.NDArray[Any]]) -> list[onnx.NodeProto]:
    if kind == "float":
        return [helper.make_node("MatMul", [name, "E"], ["e"])]
    flat = [
        helper.make_node("Cast", [name], ["y64"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["y64", "flat_label"], ["y1"]),
    ]
    if one_hot_by == "Gather":
        return [*flat, helper.make_node("Gather", ["E", "y1"], ["e"])]
    constants |= {
        "depth": np.array([CLASSES], np.int64), "values": np.array([0, 1], np.float32), "last": np.array([1], np.int64),
        "every": np.arange(CLASSES), "half": np.array(0.5, np.float32),
    }  # fmt: skip
    column = helper.make_node("Unsqueeze", ["y1", "last"], ["column"])
    middle = {
        "OneHot": [helper.make_node("OneHot", ["y1", "depth", "values"], ["hot"])],
        "Equal": [
            column,
            helper.make_node("Equal", ["column", "every"], ["equal"]),
            helper.make_node("Cast", ["equal"], ["hot"], to=TensorProto.FLOAT),
        ],
        "Compare": [
            column,
            helper.make_node("Sub", ["column", "every"], ["off"]),
            helper.make_node("Cast", ["off"], ["off32"], to=TensorProto.FLOAT),
            helper.make_node("Abs", ["off32"], ["away"]),
            helper.make_node("Less", ["away", "half"], ["near"]),
            helper.make_node("Cast", ["near"], ["hot"], to=TensorProto.FLOAT),
        ],
    }[one_hot_by]
    return [*flat, *middle, helper.make_node("MatMul", ["hot", "E"], ["e"])]


def with_input(proto: onnx.ModelProto, name: str, kind: str = "float", shape: tuple[Any, ...] = ()) -> onnx.ModelProto:
    """`proto` with one more input, a number that what `Mul` makes is multiplied by: 1 changes nothing."""
    proto.graph.input.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
    index = next(i for i, node in enumerate(proto.graph.node) if node.op_type == "Mul")
    made = proto.graph.node[index].output[0]
    proto.graph.node[index].output[0] = f"before_{name}"
    proto.graph.node.insert(index + 1, helper.make_node("Mul", [f"before_{name}", f"{name}32"], [made]))
    proto.graph.node.insert(index + 1, helper.make_node("Cast", [name], [f"{name}32"], to=TensorProto.FLOAT))
    return proto


def with_output(proto: onnx.ModelProto, name: str, source: str, shape: tuple[Any, ...]) -> onnx.ModelProto:
    """`proto` with one more output, the float value `source`, before the others."""
    proto.graph.node.append(helper.make_node("Identity", [source], [name]))
    others = list(proto.graph.output)
    del proto.graph.output[:]
    proto.graph.output.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape), *others])
    return proto


def try_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process, without limits: test_probe has the process and its limits."""

    def run(*_: object, **given: Any) -> subprocess.CompletedProcess[str]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            probe.answer(json.loads(given["input"]))
        return subprocess.CompletedProcess([], 0, printed.getvalue(), "")

    monkeypatch.setattr(probe, "_limit", lambda *_: None)
    monkeypatch.setattr(subprocess, "run", run)


FLAT = {"image": (3, 8, 9)}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "(N, D, 1, 1)": ({"z": ("N", Z_DIM, 1, 1)}, {}),
    "(N, 1, 1, D)": ({"z": ("N", 1, 1, Z_DIM)}, {}),
    "float16": ({"z_type": "float16", "out_type": "float16"}, {}),
    "double": ({"z_type": "double", "out_type": "double"}, {}),
    "sigmoid": ({"activation": "Sigmoid"}, {}),
    "RGBA": ({"image": (4, 8, 9)}, {}),
    "NHWC": ({"layout": "NHWC"}, {}),
    "NHWC, grey": ({"layout": "NHWC", "image": (1, 8, 9)}, {}),
    "sizes that the first image shows": ({"layout": "NHWC", "out_shape": ("N", "h", "w", "c")}, {}),
    "flat": ({"layout": "flat"}, FLAT),
    "grey without channels": ({"layout": "HW", "image": (1, 8, 9)}, {"image": (1, 8, 9)}),
    "one image without a batch": ({"layout": "HWC", "baked": 1}, {}),
    "batch 1": ({"z": (1, Z_DIM)}, {}),
    "batch 4, NHWC": ({"z": (4, Z_DIM), "layout": "NHWC"}, {}),
    "a batch that is baked in": ({"baked": 1}, {}),
    "int64": ({"label": "int64"}, {}),
    "int32 (N, 1)": ({"label": "int32", "label_shape": ("N", 1)}, {}),
    "OneHot": ({"label": "int64", "one_hot_by": "OneHot"}, {}),
    "Equal": ({"label": "int64", "one_hot_by": "Equal"}, {}),
    "classes that were said": ({"label": "int64", "one_hot_by": "Compare"}, {"n_classes": CLASSES}),
    "one-hot": ({"label": "float", "label_shape": ("N", CLASSES)}, {}),
    "one-hot, batch 2": ({"label": "float", "label_shape": (2, CLASSES), "z": (2, Z_DIM)}, {}),
    "label by name": (
        {"label": "float", "label_shape": ("N", CLASSES), "label_name": "b"},
        {"inputs": (("label", "b"), ("z", "noise"))},
    ),
    "a latent of unknown length": ({"z": ("N", "D")}, {"z_dim": Z_DIM}),
    "uniform": ({}, {"latent": "uniform"}),
    "opset 9": ({"opset": 9, "ir_version": 4}, {}),
}  # fmt: skip
"""Of `stranger`: its arguments, and the answers that it needs."""
