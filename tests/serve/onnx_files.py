"""Tiny ONNX generators for the runtime's tests, built node by node: no torch, no exporter.

image = tanh(z W + E[label]) reshaped, with E only when there are classes; pixels = floor(127.5 image + 128) clamped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gan_core.arrays import F32
from gan_core.contract import Contract
from gan_core.golden import golden_entry
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_serve.runtime.onnx_generator import OnnxGenerator

OPSET = 17
IR_VERSION = 8
INTERFACE = Interface(4, (3, 6, 5))
_GOLDEN: dict[str, Contract] = {}


def contract(**changes: Any) -> Contract:
    """The contract of a 6x5 RGB generator of 4 latent components, with changes to its interface or itself."""
    fields = {name: changes.pop(name) for name in vars(INTERFACE) if name in changes}
    return Contract(dataclasses.replace(INTERFACE, **fields), **{"name": "tiny"} | changes)


def classes() -> Contract:
    """The contract of an 8x8 grey generator of three classes, whose names are not easy to say."""
    return contract(image=(1, 8, 8), n_classes=3, class_names=("cat", "T-shirt, red", "7"))


def weights(about: Contract, seed: int = 0) -> dict[str, F32]:
    """W (z_dim, CHW), and E (n_classes, CHW) when conditional."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(about.interface.image))
    tensors = {"W": rng.standard_normal((about.interface.z_dim, size)).astype(np.float32)}
    if about.interface.conditional:
        tensors["E"] = rng.standard_normal((about.interface.n_classes, size)).astype(np.float32)
    return tensors


def model(about: Contract, tensors: dict[str, F32], batch: int | str = "batch") -> onnx.ModelProto:
    """The graph with both outputs, and the contract in its metadata."""
    c, h, w = about.interface.image
    nodes = [helper.make_node("MatMul", ["z", "W"], ["zw"])]
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, about.interface.z_dim])]
    last = "zw"
    if about.interface.conditional:
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, [batch]))
        nodes += [helper.make_node("Gather", ["E", "label"], ["e"]), helper.make_node("Add", ["zw", "e"], ["sum"])]
        last = "sum"
    nodes += [
        helper.make_node("Tanh", [last], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
        helper.make_node("Mul", ["image", "half_range"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
        helper.make_node("Floor", ["shifted"], ["floored"]),
        helper.make_node("Clip", ["floored", "zero", "most"], ["clipped"]),
        helper.make_node("Transpose", ["clipped"], ["channels_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["channels_last"], ["pixels"], to=TensorProto.UINT8),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        **tensors,
        "shape": np.array([-1, c, h, w], np.int64),
        **{
            name: np.array(value, np.float32)
            for name, value in {"half_range": 127.5, "offset": 128.0, "zero": 0.0, "most": 255.0}.items()
        },
    }
    outputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, c, h, w]),
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, [batch, h, w, c]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(proto, about.to_metadata())
    return proto


def with_golden(about: Contract, seeds: tuple[int, ...] = (0, 1, 7)) -> Contract:
    """The contract with the golden set that its own weights draw, which is drawn once."""
    if (key := repr((about, seeds))) not in _GOLDEN:
        _GOLDEN[key] = _with_golden(about, seeds)
    return _GOLDEN[key]


def _with_golden(about: Contract, seeds: tuple[int, ...]) -> Contract:
    generator = OnnxGenerator(model(about, weights(about)).SerializeToString(), "cpu", 1)
    entries = []
    for seed in seeds:
        label = seed % about.interface.n_classes if about.interface.conditional else None
        entries.append(golden_entry(seed, label, generator.generate([seed], label)[0]))
    return dataclasses.replace(about, golden=tuple(entries))


def save(path: Path, about: Contract | None = None) -> Path:
    """A whole generator file, golden set included."""
    about = with_golden(contract() if about is None else about)
    path.write_bytes(model(about, weights(about)).SerializeToString())
    return path


def foreign(
    z_shape: list[Any],
    image_shape: list[Any],
    *,
    scale: float = 1.0,
    activation: str = "Tanh",
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph without metadata: input `noise`, one output `out` of `image_shape`; z is flattened to (batch, D)."""
    depth = int(z_shape[1]) if isinstance(z_shape[1], int) else 4
    known = [side if isinstance(side, int) else 6 for side in image_shape[1:]]
    kind = helper.tensor_dtype_to_np_dtype(element)
    rng = np.random.default_rng(1)
    constants = {
        "W": (rng.standard_normal((depth, int(np.prod(known)))) * scale).astype(kind),
        "flat_shape": np.array([-1, depth], np.int64),
        "shape": np.array([-1, *known], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["noise", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "W"], ["y"]),
        helper.make_node(activation, ["y"], ["active"]),
        helper.make_node("Reshape", ["active", "shape"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("noise", element, z_shape)],
        [helper.make_tensor_value_info("out", element, image_shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def load(proto: onnx.ModelProto) -> OnnxGenerator:
    """A session of the model, called m.onnx."""
    return OnnxGenerator(proto.SerializeToString(), "cpu", 1, where="m.onnx")


def ours() -> onnx.ModelProto:
    """The model of `contract()`."""
    about = contract()
    return model(about, weights(about))


def twice(*, fixed: bool = False) -> onnx.ModelProto:
    """A generator that takes RGB images of even sides, or of 8x6 alone, and makes their negatives twice as large."""
    taken = ImageInput(scale=2, multiple_of=2, minimum=2, fixed=fixed, halo=None if fixed else 0)
    about = Contract(Interface(0, (3, 16, 12), value_range=(0.0, 1.0), input=taken), name="twice")
    height, width = (8, 6) if fixed else ("height", "width")
    nodes = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["white", "channels_first"], ["negative"]),
        helper.make_node("Resize", ["negative", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Div", ["large", "white"], ["image"]),
        helper.make_node("Transpose", ["large"], ["channels_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["channels_last"], ["pixels"], to=TensorProto.UINT8),
    ]
    sides = (16, 12) if fixed else ("height_out", "width_out")
    graph = helper.make_graph(
        nodes,
        "twice",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", height, width, 3])],
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *sides]),
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", *sides, 3]),
        ],
        [
            numpy_helper.from_array(np.array(255, np.float32), "white"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(proto, about.to_metadata())
    return proto
