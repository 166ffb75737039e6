"""Small graphs for the tests of graph passes, from their text, and what onnxruntime makes of them, unoptimised."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper

from gan_core.arrays import F32

Array = npt.NDArray[Any]
Case = tuple[ir.Model, Array]
"""A graph, and an input for it."""

TRANSPOSED = "ConvTranspose"
SCALE = {"Tanh": (-1.0, 127.5), "Sigmoid": (0.0, 255.0)}
"""An activation's black, and what spreads its range over 0 … 255."""

rng = np.random.default_rng(1)


def graph(ports: str, body: str, **tensors: npt.ArrayLike) -> ir.Model:
    """`ports` "float[n, 4] x => float[] y" and the nodes, in ONNX's textual form; the tensors are initialisers."""
    taken, made = ports.split("=>")
    text = f'<ir_version: 10, opset_import: ["": 18]> g ({taken}) => ({made}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items())
    return ir.from_proto(proto)


def run(model: ir.Model, value: Array, name: str = "x") -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {name: value})
    return results


def f32(*shape: int) -> F32:
    return rng.normal(size=shape).astype(np.float32)


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def counts(model: ir.Model) -> dict[str, int]:
    return dict(Counter(kinds(model)))


def tensor(model: ir.Model, name: str) -> Array:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def set_tensor(model: ir.Model, name: str, array: npt.ArrayLike) -> None:
    model.graph.initializers[name].const_value = ir.tensor(np.asarray(array))


def text_of(model: ir.Model) -> str:
    """All that a pass could change, weights too."""
    return str(ir.to_proto(model))


def as_output(model: ir.Model, name: str) -> None:
    """Somebody else sees the value `name`."""
    value = next(value for node in model.graph for value in node.outputs if value.name == name)
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), None
    model.graph.outputs.append(value)


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
    attributes = (
        f"kernel_shape = {list(kernel)}, strides = {[stride, stride]}, pads = {list(pads)}, "
        f"output_padding = {list(extra)}, group = {groups}"
    )
    body = f"y = ConvTranspose <{attributes}> ({', '.join(['x', *tensors])})"
    model = graph(f"float[n, {c_in}, {size[0]}, {size[1]}] x => float[] y", body, **tensors)
    return model, f32(batch, c_in, *size)


def chain(activation: str) -> Case:
    """1x1 → 4x4 → 8x8 → 16x16 with activations between: a small DCGAN."""
    model = graph(
        "float[n, 5, 1, 1] x => float[] y",
        f"""
        a0 = ConvTranspose <kernel_shape = [4, 4]> (x, w0, b0)
        r0 = {activation} (a0)
        a1 = ConvTranspose <kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1]> (r0, w1, b1)
        r1 = {activation} (a1)
        y = ConvTranspose <kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1]> (r1, w2, b2)
        """,
        w0=f32(5, 8, 4, 4), w1=f32(8, 6, 4, 4), w2=f32(6, 3, 4, 4), b0=f32(8), b1=f32(6), b2=f32(3),
    )  # fmt: skip
    return model, f32(2, 5, 1, 1)


def pixels(
    activation: str, steps: str = "Floor Clip Cast", bounds: tuple[float, float] = (0, 255), to: str = "uint8",
    scale: float | None = None, half: npt.ArrayLike = 0.5,
) -> Case:  # fmt: skip
    """A graph from x to uint8 as every export ends, and an input that reaches both ends of the range."""
    black, usual = SCALE.get(activation, SCALE["Tanh"])
    kind = {"uint8": onnx.TensorProto.UINT8, "int32": onnx.TensorProto.INT32}[to]
    written = {"Clip": "Clip ({}, low, high)", "Cast": f"Cast <to = {kind}> ({{}})"}
    last, body = "v4", ""
    for index, step in enumerate(steps.split(), start=5):
        made = "y" if step == "Cast" else f"v{index}"
        body += f"{made} = {written.get(step, step + ' ({})').format(last)} "
        last = made
    model = graph(
        f"float[n, 20] x => {to}[] y",
        f"v0 = {activation} (x) v1 = Reshape (v0, shape) v2 = Sub (v1, black) v3 = Mul (v2, scale) "
        f"v4 = Add (v3, half) {body}",
        shape=np.array([-1, 1, 5, 4]), black=np.float32(black), scale=np.float32(scale or usual),
        half=np.asarray(half, np.float32), low=np.float32(bounds[0]), high=np.float32(bounds[1]),
    )  # fmt: skip
    ends = np.array([-np.inf, np.inf, -100, 100, -1, 1, 0, -0.0], np.float32)
    drawn = np.random.default_rng(0).normal(size=40 * 20 - len(ends)).astype(np.float32) * 3
    return model, np.concatenate([ends, drawn]).reshape(40, 20)
