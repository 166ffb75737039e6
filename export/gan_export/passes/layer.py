"""What a ConvTranspose node says, as numbers; and upsampling merged with the convolution behind it into one.

A nearest-neighbour upsampling by s repeats every value s times, so a k x k convolution of the result meets each input
value with sums of its taps: the same as a transposed convolution of stride s whose kernel, k + s - 1 wide, is the
flipped kernel spread by a box of s ones; padding p becomes k - 1 - p. For s = 2, k = 3: 16 products per input pixel
where 36 were. (Odena et al. 2016, "Deconvolution and checkerboard artifacts", set the two side by side.) The file keeps
the k x k kernel and does not grow: the graph derives the wider one (`Derived`), whose every place is a sum of taps, and
a runtime computes it once, when it folds constants at loading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gan_core.arrays import F32, F64
from gan_export.passes.graph import (
    Builder,
    constant,
    conv_pads,
    conv_weight,
    infer_shapes,
    maker_of,
    nodes_of,
    replace,
    shape_of,
)  # fmt: skip


@dataclass(frozen=True)
class Derived:
    """`weight`, the initialiser of a convolution (out, in / groups, kh, kw), and how places are sums of its taps.

    `mixing`, float32 (kh kw, n), is for the n places of a kernel as wide as ConvTranspose wants it. A `shared` weight
    is that of a ConvTranspose itself, (in, out, kh, kw), which the file keeps because another node takes it, too.
    """

    weight: ir.Value
    mixing: F32
    shared: bool = False


@dataclass(frozen=True, eq=False)
class Transposed:
    """A two-dimensional ConvTranspose with constant (or derived) weights and a known input size, dilation 1.

    output    name of its result, unique in the graph
    weight    float32 (c_in, c_out / groups, kh, kw); `weight_name` is its initialiser
    bias      float32 (c_out,), zeros where the node has none
    height    and width of its input
    stride    the same both ways
    pads      (top, left, bottom, right)
    extra     output_padding (rows, columns)
    derived   what the graph makes the weight of, where the file does not hold it
    node      itself, where it stands in a graph
    """

    output: str
    weight_name: str
    weight: ir.TensorProtocol
    bias: F32
    height: int
    width: int
    stride: int
    pads: tuple[int, int, int, int]
    extra: tuple[int, int] = (0, 0)
    groups: int = 1
    derived: Derived | None = None
    node: ir.Node | None = None

    @property
    def c_in(self) -> int:
        return self.weight.shape.numpy()[0]

    @property
    def c_out(self) -> int:
        return self.weight.shape.numpy()[1] * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        _, _, height, width = self.weight.shape.numpy()
        return height, width

    @property
    def out_height(self) -> int:
        return (self.height - 1) * self.stride + self.kernel[0] - self.pads[0] - self.pads[2] + self.extra[0]

    @property
    def out_width(self) -> int:
        return (self.width - 1) * self.stride + self.kernel[1] - self.pads[1] - self.pads[3] + self.extra[1]

    @property
    def macs(self) -> int:
        """Multiplications of the product per image: every input value with every weight it meets."""
        return self.height * self.width * self.weight.size

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


def layers(model: ir.Model) -> list[Transposed]:
    """Every ConvTranspose of `model` that can be rewritten, in graph order. Writes the shapes that it infers to values.

    Left out: weights that are not constant float32, or that another ConvTranspose takes too, sizes that are not known,
    1-D and 3-D, dilation, unequal strides, output_shape and auto_pad.
    """
    infer_shapes(model)
    found = (describe(node) for node in nodes_of(model, "ConvTranspose"))
    return [layer for layer in found if layer is not None]


def describe(node: ir.Node) -> Transposed | None:
    """`node` as numbers, None when a form of ours cannot stand for it. Shapes are those that the values have."""
    given, weight = node.attributes, node.inputs[1]
    known = _weight(weight)
    shape, bias = shape_of(node.inputs[0]), node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or known is None or shape is None or len(shape) != 4:
        return None
    tensor, derived = known
    groups = given.get_int("group", 1)
    if derived is None and len(weight.uses()) > 1:
        if groups > 1 or any(use.node is not node and use.node.op_type == node.op_type for use in weight.uses()):
            return None  # two layers of one weight would each write it down
        derived = Derived(weight, np.eye(math.prod(tensor.shape.numpy()[2:]), dtype=np.float32), shared=True)
    values = constant(bias) if bias is not None else np.zeros(tensor.shape.numpy()[1] * groups, np.float32)
    _, channels, height, width = shape
    strides = list(given.get_ints("strides", (1, 1)))
    if (
        values is None
        or channels != tensor.shape.numpy()[0]
        or height is None
        or width is None
        or given.get_string("auto_pad", "NOTSET") != "NOTSET"
        or "output_shape" in given
        or any(d != 1 for d in given.get_ints("dilations", ()))
        or strides[0] != strides[1]
    ):
        return None
    top, left, bottom, right = given.get_ints("pads", (0, 0, 0, 0))
    rows, columns = given.get_ints("output_padding", (0, 0))
    layer = Transposed(
        output=node.outputs[0].name or "",
        weight_name=weight.name or "",
        weight=tensor,
        bias=np.asarray(values, np.float32),
        height=height,
        width=width,
        stride=strides[0],
        pads=(top, left, bottom, right),
        extra=(rows, columns),
        groups=groups,
        derived=derived,
        node=node,
    )
    return layer if layer.out_height > 0 and layer.out_width > 0 else None


def _weight(value: ir.Value | None) -> tuple[ir.TensorProtocol, Derived | None] | None:
    """A weight of four dimensions, and its origin if `derive` made it; None for one that varies or is not float32."""
    if value is None:
        return None
    if constant(value) is None:
        return _derived_weight(value)
    tensor = ir.convenience.get_const_tensor(value)
    return (
        (tensor, None) if tensor is not None and tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 4 else None
    )


def derive(model: ir.Model, derived: Derived, groups: int, kernel: list[int]) -> list[ir.Node]:
    """The nodes that make a ConvTranspose's weight (in, out / groups, *kernel), the last of them the weight itself."""
    weight = ir.convenience.get_const_tensor(derived.weight)
    assert weight is not None
    out, inner, *_ = weight.shape.numpy()
    b = Builder(model, f"{derived.weight.name}.{'x'.join(map(str, (groups, *kernel)))}")
    taps = b.reshape(derived.weight, groups, out // groups, inner, -1)
    places = b.op("MatMul", taps, b.constant(derived.mixing))
    turned = b.op("Transpose", places, perm=[0, 2, 1, 3])
    b.reshape(turned, groups * inner, out // groups, *kernel)
    return b.nodes


def _derived_weight(value: ir.Value) -> tuple[ir.TensorProtocol, Derived] | None:
    """The value of a weight that `derive` made, (in, out / groups, kh, kw), and its origin; None for another."""
    nodes: list[ir.Node] = []
    origin: ir.Value | None = value
    for kind in ("Reshape", "Transpose", "MatMul", "Reshape"):
        node = origin.producer() if origin is not None else None
        if node is None or node.op_type != kind:
            return None
        nodes.append(node)
        origin = node.inputs[0]
    shaped, turned, product, parted = nodes
    weight, parts, mixing, shape = map(constant, (origin, parted.inputs[1], product.inputs[1], shaped.inputs[1]))
    if origin is None or weight is None or parts is None or mixing is None or shape is None:
        return None
    if weight.ndim != 4 or mixing.ndim != 2 or len(parts) != 4 or len(shape) != 4 or min(*parts[:3], *shape) < 1:
        return None
    if list(turned.attributes.get_ints("perm", ())) != [0, 2, 1, 3]:
        return None
    mixed = np.asarray(mixing, np.float32)

    def made() -> ir.TensorProtocol:
        places = np.asarray(constant(origin), np.float32).reshape(parts) @ mixed
        return ir.tensor(places.transpose(0, 2, 1, 3).reshape(shape))

    return ir.LazyTensor(made, ir.DataType.FLOAT, ir.Shape(shape.tolist())), Derived(origin, mixed)


class MergeUpsampling(ir.passes.InPlacePass):
    """Makes every Resize (nearest, by one whole factor both ways) + Conv (stride 1) a ConvTranspose.

    Left alone: another Resize, one whose result somebody else takes, weights that are not constant float32, dilation,
    and padding wider than the kernel. The result draws the same images up to float32 rounding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        infer_shapes(model)
        made: dict[tuple[object, ...], ir.Value] = {}
        merged = [_merge(model, conv, made) for conv in nodes_of(model, "Conv")]
        return ir.passes.PassResult(model, any(merged))


def _factor(resize: ir.Node) -> int | None:
    """By what a Resize repeats its input's values, None when it does anything else."""
    given = resize.attributes
    if given.get_string("mode", "nearest") != "nearest" or given.get_int("antialias", False) or "axes" in given:
        return None
    before, after = shape_of(resize.inputs[0]), shape_of(resize.outputs[0])
    if before is None or after is None or len(before) != 4 or len(after) != 4:
        return None
    if before[1] != after[1] or None in (*before[1:], *after[1:]):
        return None
    factors = {int(new) / int(old) for old, new in zip(before[2:], after[2:], strict=True) if old and new}
    if len(factors) != 1 or not (factor := factors.pop()).is_integer() or factor < 2:
        return None
    return int(factor) if _repeats(resize, int(factor)) else None


def _repeats(resize: ir.Node, factor: int) -> bool:
    """Whether output o takes input o // factor: with a whole factor both usual conventions do, rounded as they are."""
    given = resize.attributes
    transformation = given.get_string("coordinate_transformation_mode", "half_pixel")
    output = np.arange(4 * factor)
    if transformation == "asymmetric":
        source = output / factor
    elif transformation in ("half_pixel", "pytorch_half_pixel"):
        source = (output + 0.5) / factor - 0.5
    else:
        return False
    rounded: dict[str, F64] = {
        "floor": np.floor(source),
        "ceil": np.ceil(source),
        "round_prefer_floor": np.ceil(source - 0.5),
        "round_prefer_ceil": np.floor(source + 0.5),
    }
    rounding = given.get_string("nearest_mode", "round_prefer_floor")
    return rounding in rounded and bool(np.array_equal(rounded[rounding], output // factor))


def _merge(model: ir.Model, conv: ir.Node, made: dict[tuple[object, ...], ir.Value]) -> bool:
    """Whether `conv` and the Resize before it are one. `made` holds the weights made so far: layers may share one."""
    resize, origin, given = maker_of(conv.inputs[0], "Resize"), conv.inputs[1], conv.attributes
    factor, weight = _factor(resize) if resize is not None else None, conv_weight(conv)
    if resize is None or factor is None or origin is None or weight is None:
        return False
    kernel = weight.shape[2:]
    pads = [kernel[index % 2] - 1 - pad for index, pad in enumerate(conv_pads(conv))]
    if min(pads) < 0:
        return False
    groups, wide = given.get_int("group", 1), [k + factor - 1 for k in kernel]
    mixing = np.kron(spread(kernel[0], factor), spread(kernel[1], factor))
    key, new = (conv.graph, origin, groups, *wide), []
    if key not in made:
        new = derive(model, Derived(origin, mixing), groups, wide)
        made[key] = new[-1].outputs[0]
    attributes: dict[str, Any] = {"kernel_shape": wide, "strides": [factor, factor], "pads": pads, "group": groups}
    inputs = [resize.inputs[0], made[key], *conv.inputs[2:]]
    output = ir.Value(name=f"{conv.outputs[0].name}.merged")
    new.append(ir.node("ConvTranspose", inputs, attributes, outputs=[output], name=conv.name))
    replace([resize, conv], new, conv.outputs[0], by=output)
    return True


def spread(kernel: int, factor: int) -> F32:
    """Along one axis, which taps each place of the wide kernel is the sum of: 0 or 1, (kernel, kernel + factor - 1)."""
    narrow, wide = np.indices((kernel, kernel + factor - 1))
    start = kernel - 1 - narrow
    return ((start <= wide) & (wide < start + factor)).astype(np.float32)
