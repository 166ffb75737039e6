"""Nearest-neighbour upsampling and the convolution behind it, as one transposed convolution.

An upsampling by s repeats every value s times, so a k x k convolution of the result meets each input value with sums
of its taps: the same as a transposed convolution of stride s whose kernel, k + s - 1 wide, is the flipped kernel spread
by a box of s ones; padding p becomes k - 1 - p. For s = 2, k = 3: 16 products per input pixel where 36 were.
The file keeps the k x k kernel, and the graph derives the wider one (`passes.transposed.derived`): it does not grow.
(Odena et al. 2016, "Deconvolution and checkerboard artifacts", set the two side by side.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs
from gan_export.passes.transposed.derived import Derived, derive


def merge_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every Resize (nearest, by one whole factor both ways) + Conv (stride 1) as a ConvTranspose.

    Left alone: another Resize, one whose result somebody else takes, weights that are not constant float32, dilation,
    and padding wider than the kernel. The result draws the same images up to float32 rounding.
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
        or weight.dtype != np.float32
        or any(v != 1 for v in (*given.get("strides", [1]), *given.get("dilations", [1])))
        or given.get("auto_pad", b"NOTSET") != b"NOTSET"
    ):
        return
    kernel = weight.shape[2:]
    pads = [kernel[index % 2] - 1 - pad for index, pad in enumerate(given.get("pads", [0, 0, 0, 0]))]
    if min(pads) < 0:
        return
    groups = int(given.get("group", 1))
    wide = [k + factor - 1 for k in kernel]
    mixing = np.kron(spread(kernel[0], factor), spread(kernel[1], factor))
    made = derive(graph, Derived(conv.input[1], mixing), np.asarray(weight, np.float32), groups, wide)
    merged = helper.make_node(
        "ConvTranspose",
        [resize.input[0], made[-1].output[0], *conv.input[2:]],
        list(conv.output),
        conv.name,
        kernel_shape=wide,
        strides=[factor, factor],
        pads=pads,
        group=groups,
    )
    conv.CopyFrom(merged)
    graph.node.remove(resize)
    at = next(index for index, node in enumerate(graph.node) if node.output == merged.output)
    known = {output for node in graph.node for output in node.output}
    for node in reversed([node for node in made if node.output[0] not in known]):
        graph.node.insert(at, node)


def spread(kernel: int, factor: int) -> npt.NDArray[np.float32]:
    """Along one axis, which taps each place of the wide kernel is the sum of: 0 or 1, (kernel, kernel + factor - 1)."""
    narrow, wide = np.indices((kernel, kernel + factor - 1))
    start = kernel - 1 - narrow
    return ((start <= wide) & (wide < start + factor)).astype(np.float32)
