"""Faults of the graph: a weight, a node, a signature.

Each is the right export that it is planted in, what plants it, and the check that has to name it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.surgery import (
    Array,
    change_input,
    change_value,
    change_weight,
    constant,
    copy_of,
    one,
    weights,
    with_constant,
)


def one_percent(weight: Array) -> Array:
    """One channel of a kernel, one per cent larger."""
    changed = weight.astype(np.float32)
    changed[:, 0] *= 1.01
    return changed


def noise(before: str, after: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("RandomNormalLike", [before], ["drawn"], scale=1e-3),
        helper.make_node("Add", [before, "drawn"], [after]),
    ]


def one_pixel_nan(before: str, after: str) -> list[onnx.NodeProto]:
    value = np.zeros((1, 3, 28, 28), np.float32)
    value[0, 1, 27, 27] = np.nan
    return with_constant("Add", value)(before, after)


def channels(order: list[int]) -> Callable[[str, str], list[onnx.NodeProto]]:
    def nodes(before: str, after: str) -> list[onnx.NodeProto]:
        return [constant("order", order, np.int64), helper.make_node("Gather", [before, "order"], [after], axis=1)]

    return nodes


def baked(size: int) -> Callable[[str, str], list[onnx.NodeProto]]:
    return lambda before, after: [
        constant("shape", [size, 3, 28, 28], np.int64),
        helper.make_node("Reshape", [before, "shape"], [after]),
    ]


def in_row(row: int) -> Callable[[str, str], list[onnx.NodeProto]]:
    """One image of a batch is off by 0.01: of larger batches than `row` only."""

    def nodes(before: str, after: str) -> list[onnx.NodeProto]:
        integers: dict[str, int | list[int]] = {"zero": 0, "one": 1, "row": row, "column": [-1, 1, 1, 1]}
        return [
            *(constant(name, value, np.int64) for name, value in integers.items()),
            constant("amount", 0.01),
            helper.make_node("Shape", [before], ["sides"]),
            helper.make_node("Gather", ["sides", "zero"], ["count"]),
            helper.make_node("Range", ["zero", "count", "one"], ["rows"]),
            helper.make_node("Equal", ["rows", "row"], ["hit"]),
            helper.make_node("Cast", ["hit"], ["flag"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Reshape", ["flag", "column"], ["flags"]),
            helper.make_node("Mul", ["flags", "amount"], ["added"]),
            helper.make_node("Add", [before, "added"], [after]),
        ]

    return nodes


def reversed_batch(before: str, after: str) -> list[onnx.NodeProto]:
    ends = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [0], "steps": [-1]}
    constants = [constant(name, value, np.int64) for name, value in ends.items()]
    return [*constants, helper.make_node("Slice", [before, *ends], [after])]


def scrambled(before: str, after: str) -> list[onnx.NodeProto]:
    """NHWC bytes read as NCHW and turned again."""
    return [
        constant("shape", [0, 3, 28, 28], np.int64),
        helper.make_node("Reshape", [before, "shape"], ["nchw"]),
        helper.make_node("Transpose", ["nchw"], [after], perm=[0, 2, 3, 1]),
    ]


def fixed_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 25
    return model


def swapped_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    swap = {"image": "pixels", "pixels": "image"}
    for node in model.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]
        node.output[:] = [swap.get(name, name) for name in node.output]
    for output in model.graph.output:
        output.name = swap[output.name]
    return model


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Truncates: the half is not added."""
    model = copy_of(model)
    add = next(node for node in model.graph.node if node.op_type == "Add" and node.input[1].startswith("constant"))
    return change_weight(model, add.input[1], np.zeros_like)


def without_clamp(model: onnx.ModelProto) -> onnx.ModelProto:
    """Casts by way of int32, which wraps at 256 as C does."""
    model = copy_of(model)
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.CopyFrom(helper.make_node("Cast", [node.input[0]], [node.output[0]], to=onnx.TensorProto.INT32))
    return model


def channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    last = model.graph.node[-1]
    last.CopyFrom(helper.make_node("Identity", [last.input[0]], ["pixels"]))
    dims = model.graph.output[1].type.tensor_type.shape.dim
    for index, side in enumerate((3, 28, 28), start=1):
        dims[index].dim_value = side
    return model


def weight_norm_left(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first kernel as magnitude times direction, its norm taken in the graph."""
    model = copy_of(model)
    name = weights(model)[-1]
    node = next(node for node in model.graph.node if name in node.input)
    node.input[1] = "normed"
    reduce = helper.make_node("ReduceL2", [name], ["norm"], keepdims=1)
    again = [
        helper.make_node("Div", [name, "norm"], ["direction"]),
        helper.make_node("Mul", ["direction", "norm"], ["normed"]),
    ]
    for position, made in enumerate([reduce, *again]):
        model.graph.node.insert(position, made)
    return model


def training_dropout(before: str, after: str) -> list[onnx.NodeProto]:
    return [
        constant("ratio", 0.1),
        constant("training", True, np.bool_),
        helper.make_node("Dropout", [before, "ratio", "training"], [after], seed=7),
    ]


def with_stack_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", 'File "/home/someone/project/networks.py", line 12'
    return model


def bloated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every weight twice over, and more: what an exporter that does not share does."""
    model = copy_of(model)
    raw = np.zeros((3 << 20,), np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(raw, "copy"))
    model.graph.node.insert(0, helper.make_node("Shape", ["copy"], ["unused"]))
    return model


def disconnected(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    model.graph.node[1].input[0] = "nobody"
    return model


def first_kernel(edit: Callable[[Array], Array]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    return lambda model: change_weight(model, weights(model, 4)[0], edit)


def at(value: str, nodes: Callable[..., object]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """Plants nodes at an input or output."""
    change = change_input if value in ("z", "label") else change_value
    return lambda model: change(model, value, nodes)  # type: ignore[arg-type]


GRAPH_FAULTS: dict[str, tuple[str, Callable[[onnx.ModelProto], onnx.ModelProto], str]] = {
    "one channel off by 1 %": ("dcgan", first_kernel(one_percent), "image values"),
    "one weight off by 1 %": ("mlp", lambda m: change_weight(m, weights(m)[1], one_percent), "image values"),
    "weights rounded to half": (
        "dcgan",
        first_kernel(lambda w: w.astype(np.float16).astype(np.float32)),
        "image values",
    ),
    "kernel flipped": ("dcgan", first_kernel(lambda w: w[:, :, ::-1, ::-1]), "image values"),
    "kernel's channels reversed": ("dcgan", first_kernel(lambda w: w[:, ::-1]), "image values"),
    "kernel is zero": ("mlp", lambda m: change_weight(m, weights(m)[-1], np.zeros_like), "seeds differ"),
    "NaN weight": ("mlp", lambda m: change_weight(m, weights(m)[0], lambda w: np.full_like(w, np.nan)), "NaN or Inf"),
    "NaN in one pixel": ("dcgan", at("image", one_pixel_nan), "NaN or Inf"),
    "RGB became BGR": ("dcgan", at("image", channels([2, 1, 0])), "image values"),
    "one channel swapped": ("dcgan", at("image", channels([0, 2, 1])), "image values"),
    "one channel copied": ("dcgan", at("image", channels([0, 0, 2])), "image values"),
    "rows and columns swapped": ("dcgan", at("image", one("Transpose", perm=[0, 1, 3, 2])), "image values"),
    "tanh twice": ("dcgan", at("image", one("Tanh")), "image values"),
    "image in [0, 1]": ("dcgan", at("image", with_constant("Mul", 0.5)), "image values"),
    "image shifted by 0.001": ("dcgan", at("image", with_constant("Add", 1e-3)), "image values"),
    "image scaled tenfold": ("dcgan", at("image", with_constant("Mul", 10.0)), "outside the value range"),
    "image of one colour": ("dcgan", at("image", with_constant("Mul", 0.0)), "flat images"),
    "constant noise": (
        "dcgan",
        at("image", with_constant("Add", np.random.default_rng(0).normal(0, 1e-3, (1, 3, 28, 28)))),
        "image values",
    ),
    "drawn noise": ("dcgan", at("image", noise), "random ops"),
    "dropout that trains": ("dcgan", at("image", training_dropout), "training mode"),
    "z scaled": ("dcgan", at("z", with_constant("Mul", 0.99)), "image values"),
    "z clipped": ("dcgan", at("z", with_constant("Min", 2.0)), "image values"),
    "z ignored": ("dcgan", at("z", with_constant("Mul", 0.0)), "seeds differ"),
    "label ignored": ("dcgan", at("label", with_constant("Mul", 0, np.int64)), "labels matter"),
    "last class lost": ("dcgan", at("label", with_constant("Min", 1, np.int64)), "labels matter"),
    "labels reversed": (
        "dcgan",
        at("label", lambda a, b: [constant("two", 2, np.int64), helper.make_node("Sub", ["two", a], [b])]),
        "image values",
    ),
    "batch baked by Reshape at 1": ("dcgan", at("image", baked(1)), "symbolic batch"),
    "batch baked by Reshape at 25": ("dcgan", at("image", baked(25)), "symbolic batch"),
    "batch fixed in the signature": ("dcgan", fixed_batch, "symbolic batch"),
    "batch reversed": ("dcgan", at("image", reversed_batch), "image values"),
    "one image of a large batch off": ("dcgan", at("image", in_row(13)), "image values"),
    "last image of a large batch off": ("dcgan", at("image", in_row(24)), "independent of neighbours"),
    "outputs swapped": ("dcgan", swapped_outputs, "outputs"),
    "pixels not rounded": ("dcgan", without_rounding, "pixels are image, rounded"),
    "pixels not clamped, so they wrap": ("overshooting", without_clamp, "pixels are image, rounded"),
    "pixels in NCHW": ("dcgan", channels_first, "outputs"),
    "pixels scrambled": ("dcgan", at("pixels", scrambled), "pixels are image, rounded"),
    "pixels of type float": ("dcgan", at("pixels", one("Cast", to=onnx.TensorProto.FLOAT)), "ONNX checker"),
    "pixels inverted": (
        "dcgan",
        at("pixels", lambda a, b: [constant("white", 255, np.uint8), helper.make_node("Sub", ["white", a], [b])]),
        "pixel values",
    ),
    "weight_norm left in": ("dcgan", weight_norm_left, "reparametrised weights"),
    "stack traces left in": ("dcgan", with_stack_traces, "traces of the machine"),
    "weights written twice": ("dcgan", bloated, "file size"),
    "a node reads nothing": ("dcgan", disconnected, "ONNX checker"),
}  # fmt: skip
