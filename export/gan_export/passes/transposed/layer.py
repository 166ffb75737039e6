"""What a ConvTranspose node says, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from gan_export.passes.graph import GraphView
from gan_export.passes.transposed.derived import Derived, derived_weight

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Transposed:
    """A two-dimensional ConvTranspose with constant (or derived) weights and a known input size, dilation 1.

    output    name of its result, unique in the graph
    source    name of its input, float32 (batch, c_in, height, width)
    weight    float32 (c_in, c_out / groups, kh, kw); `weight_name` is its initialiser
    bias      float32 (c_out,), zeros where the node has none
    stride    the same both ways
    pads      (top, left, bottom, right)
    extra     output_padding (rows, columns)
    derived   what the graph makes the weight of, where the file does not hold it
    """

    output: str
    source: str
    weight_name: str
    weight: F32
    bias: F32
    height: int
    width: int
    stride: int
    pads: tuple[int, int, int, int]
    extra: tuple[int, int] = (0, 0)
    groups: int = 1
    derived: Derived | None = None

    @property
    def c_in(self) -> int:
        return int(self.weight.shape[0])

    @property
    def c_out(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def out_height(self) -> int:
        return (self.height - 1) * self.stride + self.kernel[0] - self.pads[0] - self.pads[2] + self.extra[0]

    @property
    def out_width(self) -> int:
        return (self.width - 1) * self.stride + self.kernel[1] - self.pads[1] - self.pads[3] + self.extra[1]

    @property
    def macs(self) -> int:
        """Multiplications of the product per image: every input value with every weight it meets."""
        return self.height * self.width * int(self.weight.size)

    def taps(self, axis: int) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each phase of `axis` (0 rows, 1 columns) its taps (kernel index, input offset), by offset.

        Output s i + phase = sum over taps of weight[index] x[i + offset]. (Dumoulin and Visin 2016, arXiv:1603.07285)
        """
        kernel, pad, s = self.kernel[axis], self.pads[axis], self.stride
        phases = []
        for phase in range(s):
            first = (phase + pad) % s
            taps = [(index, (phase + pad - index) // s) for index in range(first, kernel, s)]
            phases.append(tuple(sorted(taps, key=lambda tap: tap[1])))
        return tuple(phases)


def layers(model: onnx.ModelProto) -> list[Transposed]:
    """Every ConvTranspose of `model` that can be rewritten, in graph order.

    Left out: weights that are not constant float32, or that another node takes too, sizes that are not known, 1-D and
    3-D, dilation, unequal strides, output_shape and auto_pad.
    """
    view = GraphView(model)
    found = (describe(view, node) for node in model.graph.node if node.op_type == "ConvTranspose")
    return [layer for layer in found if layer is not None]


def describe(view: GraphView, node: onnx.NodeProto) -> Transposed | None:
    """`node` as numbers, None when a form of ours cannot stand for it."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    weight, derived = view.constant(node.input[1]), None
    if weight is None and (made := derived_weight(view, node.input[1])) is not None:
        weight, derived = made
    shape = view.shape(node.input[0])
    if weight is None or weight.dtype != np.float32 or weight.ndim != 4 or shape is None or len(shape) != 4:
        return None
    if derived is None and view.uses[node.input[1]] > 1:  # two layers of one weight would each write it down
        return None
    _, channels, height, width = shape
    groups = int(given.get("group", 1))
    bias = np.zeros(weight.shape[1] * groups, np.float32)
    if len(node.input) > 2 and node.input[2]:
        constant = view.constant(node.input[2])
        if constant is None:
            return None
        bias = np.asarray(constant, np.float32)
    strides = list(given.get("strides", [1, 1]))
    if (
        channels != weight.shape[0]
        or height is None
        or width is None
        or given.get("auto_pad", b"NOTSET") != b"NOTSET"
        or "output_shape" in given
        or any(d != 1 for d in given.get("dilations", [1, 1]))
        or strides[0] != strides[1]
    ):
        return None
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    rows, columns = given.get("output_padding", [0, 0])
    layer = Transposed(
        output=node.output[0],
        source=node.input[0],
        weight_name=node.input[1],
        weight=np.asarray(weight),
        bias=bias,
        height=height,
        width=width,
        stride=strides[0],
        pads=(top, left, bottom, right),
        extra=(rows, columns),
        groups=groups,
        derived=derived,
    )
    return layer if layer.out_height > 0 and layer.out_width > 0 else None
