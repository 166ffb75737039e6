"""Nearest-neighbour upsampling and the convolution behind it, as one transposed convolution.

An upsampling by s repeats every value s times, so a k x k convolution of the result meets each input value with sums
of its taps: the same as a transposed convolution of stride s whose kernel, k + s - 1 wide, is the flipped kernel spread
by a box of s ones; padding p becomes k - 1 - p. For s = 2, k = 3: 16 products per input pixel where 36 were.
(Odena et al. 2016, "Deconvolution and checkerboard artifacts", set the two side by side.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs, set_initialiser


def merge_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every Resize (nearest, by one whole factor both ways) + Conv (stride 1) as a ConvTranspose.

    Left alone: another Resize, one whose result somebody else takes, weights that are not constant, dilation, and
    padding wider than the kernel. The result draws the same images up to float32 rounding.
    """
    model = copy_of(model)
    if has_subgraphs(model.graph):
        return model
    for node in list(model.graph.node):
        if node.op_type == "Conv":
            view = GraphView(model)
            resize = view.producer.get(node.input[0])
            factor = _factor(view, resize) if resize is not None and view.used_once(node.input[0]) else None
            if resize is not None and factor is not None:
                _merge(model.graph, view, resize, node, factor)
    return model


def _factor(view: GraphView, node: onnx.NodeProto) -> int | None:
    """By what a Resize repeats its input's values, None when it does anything else."""
    if node.op_type != "Resize":
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if given.get("mode", b"nearest") != b"nearest" or given.get("antialias") or "axes" in given:
        return None
    shapes = view.shape(node.input[0]), view.shape(node.output[0])
    if None in shapes or any(shape is None or len(shape) != 4 for shape in shapes):
        return None
    before, after = shapes
    assert before is not None
    assert after is not None
    if before[1] != after[1] or None in (*before[1:], *after[1:]):
        return None
    factors = {int(new) / int(old) for old, new in zip(before[2:], after[2:], strict=True) if old and new}
    if len(factors) != 1 or not (factor := factors.pop()).is_integer() or factor < 2:
        return None
    return int(factor) if _repeats(given, int(factor)) else None


def _repeats(given: dict[str, object], factor: int) -> bool:
    """Whether output o takes input o // factor: with a whole factor both usual conventions do, rounded as they are."""
    transformation = given.get("coordinate_transformation_mode", b"half_pixel")
    rounding = given.get("nearest_mode", b"round_prefer_floor")
    output = np.arange(4 * factor)
    if transformation == b"asymmetric":
        source = output / factor
    elif transformation in (b"half_pixel", b"pytorch_half_pixel"):
        source = (output + 0.5) / factor - 0.5
    else:
        return False
    rounded: dict[object, npt.NDArray[np.float64]] = {
        b"floor": np.floor(source),
        b"ceil": np.ceil(source),
        b"round_prefer_floor": np.ceil(source - 0.5),
        b"round_prefer_ceil": np.floor(source + 0.5),
    }
    return rounding in rounded and bool(np.array_equal(rounded[rounding], output // factor))


def _merge(graph: onnx.GraphProto, view: GraphView, resize: onnx.NodeProto, conv: onnx.NodeProto, factor: int) -> None:
    given = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    weight = view.constant(conv.input[1])
    if (
        weight is None
        or weight.ndim != 4
        or any(v != 1 for v in (*given.get("strides", [1]), *given.get("dilations", [1])))
        or given.get("auto_pad", b"NOTSET") != b"NOTSET"
    ):
        return
    kernel = weight.shape[2:]
    pads = [kernel[index % 2] - 1 - pad for index, pad in enumerate(given.get("pads", [0, 0, 0, 0]))]
    if min(pads) < 0:
        return
    groups = int(given.get("group", 1))
    name = f"{conv.input[1]}.{conv.output[0]}"  # begins with the name of the weight that it is made of
    set_initialiser(graph, name, spread(np.asarray(weight), factor, groups).astype(weight.dtype))
    merged = helper.make_node(
        "ConvTranspose",
        [resize.input[0], name, *conv.input[2:]],
        list(conv.output),
        conv.name,
        kernel_shape=[k + factor - 1 for k in kernel],
        strides=[factor, factor],
        pads=pads,
        group=groups,
    )
    conv.CopyFrom(merged)
    graph.node.remove(resize)


def spread(weight: npt.NDArray[np.generic], factor: int, groups: int = 1) -> npt.NDArray[np.float64]:
    """A Conv's weight (out, in / groups, kh, kw) as ConvTranspose's (in, out / groups, kh + s - 1, kw + s - 1)."""
    out, inner, kh, kw = weight.shape
    flipped = np.asarray(weight, np.float64)[:, :, ::-1, ::-1]
    wide = np.zeros((out, inner, kh + factor - 1, kw + factor - 1))
    for row in range(factor):
        for column in range(factor):
            wide[:, :, row : row + kh, column : column + kw] += flipped
    grouped = wide.reshape(groups, out // groups, inner, *wide.shape[2:])
    return grouped.transpose(0, 2, 1, 3, 4).reshape(groups * inner, out // groups, *wide.shape[2:])
