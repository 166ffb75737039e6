"""What passes ask of an `onnx_ir` graph, and how they write into it.

Values know who makes them and who takes them, in graphs inside nodes (If, Loop) too. New initialisers go to the main
graph, where every graph sees them.

A value on its way through a chain (`Feature`) is in one of four layouts:

NCHW     (batch, channels, height, width), as the graph around the chain has it
NHWC     (batch, height, width, channels): a convolution's products are then one large matrix product
PARITY   four NHWC values (batch, height / 2, width / 2, channels): even and odd rows, even and odd columns.
         `winograd` reads and writes these; between two such layers nothing is interleaved at all.
PHASES   s x s NCHW values (batch, channels, ceil(height / s), ceil(width / s)), the pixels apart by their place among
         s x s: what small convolutions write (`phases`). For s = 2 they need no more than NHWC to be PARITY.

Pixels are interleaved in NHWC, where whole rows of channels move. DepthToSpace moves single numbers, on one thread of
onnxruntime's CPU provider, which takes longer than the way there and back.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from gan_serve.runtime.providers import import_onnxruntime

Array = npt.NDArray[np.generic]
Shape = tuple[int | None, ...]

drop_unused = common.RemoveUnusedNodesPass()
"""Removes the nodes and initialisers that no output needs."""

_INLINE_BYTES = 1 << 10
"""Tensors up to this size are written into what a session is opened from: shapes and other numbers that it reads."""
_SMALL_BYTES = 1 << 16
"""Shapes, biases: constants that several nodes of one place want."""
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def constant(value: ir.Value | None) -> Array | None:
    """What an initialiser or a Constant node holds; None for what varies, an initialiser that is an input, too."""
    if value is None or value.is_graph_input():
        return None
    maker = value.producer()
    if not value.is_initializer() and (maker is None or maker.op_type != "Constant"):
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The one number of a constant, None for anything else."""
    known = constant(value)
    return float(known.reshape(())) if known is not None and known.size == 1 else None


def conv_weight(conv: ir.Node) -> Array | None:
    """The constant float32 weight of a two-dimensional Conv of stride and dilation 1, pads in numbers; else None."""
    given, weight = conv.attributes, constant(conv.inputs[1])
    steps = (*given.get_ints("strides", ()), *given.get_ints("dilations", ()))
    plain = all(step == 1 for step in steps) and given.get_string("auto_pad", "NOTSET") == "NOTSET"
    return weight if plain and weight is not None and weight.ndim == 4 and weight.dtype == np.float32 else None


def conv_pads(conv: ir.Node) -> tuple[int, ...]:
    """Zeros above, left of, below and right of what a convolution of two dimensions takes."""
    return tuple(conv.attributes.get_ints("pads", (0, 0, 0, 0)))


def nodes_of(model: ir.Model, *op_types: str) -> list[ir.Node]:
    """The nodes of these standard operators as they are now, in order, those of graphs inside nodes too."""
    return [node for node in model.graph.all_nodes() if node.op_type in op_types and not node.domain]


def maker_of(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes `value` for one other node alone, of the same graph, when it is one of `op_types`."""
    node = value.producer() if value is not None and used_once(value) else None
    return node if node is not None and node.op_type in op_types and not node.domain else None


def used_once(value: ir.Value) -> bool:
    """Whether one input alone takes `value`, that of a node in its maker's graph, and it is no output of the graph."""
    if value.is_graph_output() or (maker := value.producer()) is None:
        return False
    uses = list(value.uses())
    return len(uses) == 1 and uses[0].node.graph is maker.graph


def shape_of(value: ir.Value | None) -> Shape | None:
    """The sizes of a value, None for one that is not fixed; None when `infer_shapes` did not find the rank."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def infer_shapes(model: ir.Model) -> None:
    """Writes types and sizes, as far as ONNX's shape inference knows them, to the values of `model`."""
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def add_initialiser(model: ir.Model, name: str, value: npt.NDArray[Any]) -> ir.Value:
    """A new initialiser, called `name`, or a little longer where that is taken."""
    while name in model.graph.initializers:
        name += "_"
    return ir.tape.Tape(model.graph).initializer(ir.tensor(value), name)


def replace(old: Iterable[ir.Node], new: Iterable[ir.Node], value: ir.Value, by: ir.Value) -> None:
    """Puts the `new` nodes in the place of the last of the `old`, and `by`, which gets the name, in that of `value`."""
    gone = list(old)
    assert gone[-1].graph is not None
    ir.convenience.replace_nodes_and_values(gone[-1].graph, gone[-1], gone, list(new), [value], [by])


class Builder:
    """New nodes and constants for a place in a graph, under names that begin with `prefix`."""

    def __init__(self, model: ir.Model, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[ir.Node] = []
        self._model = model
        self._constants: dict[Hashable, ir.Value] = {}

    def constant(self, value: npt.NDArray[Any], name: str | None = None) -> ir.Value:
        """An initialiser that holds `value`; equal small ones are kept once."""
        count = len(self._constants)
        small = value.nbytes <= _SMALL_BYTES
        key = (value.dtype.str, value.shape, value.tobytes()) if small else count
        if key not in self._constants:
            self._constants[key] = add_initialiser(self._model, f"{name or self.prefix}.c{count}", value)
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """An int64 initialiser (len(values),)."""
        return self.constant(np.array(values, np.int64))

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Adds a node of one output and returns that."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, count: int, *inputs: ir.Value, **attributes: Any) -> tuple[ir.Value, ...]:
        """Adds a node of `count` outputs and returns them."""
        number = len(self.nodes)
        outputs = [ir.Value(name=f"{self.prefix}.{number}_{index}") for index in range(count)]
        name = f"{self.prefix}.{number}_{op_type}"
        self.nodes.append(ir.node(op_type, inputs, attributes, outputs=outputs, name=name))
        return tuple(outputs)

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        return self.op("Reshape", value, self.ints(*shape))

    def pad(self, value: ir.Value, begin: tuple[int, ...], end: tuple[int, ...]) -> ir.Value:
        """Zeros added, or with negative counts values removed, before and behind each axis."""
        if not any(begin) and not any(end):
            return value
        return self.op("Pad", value, self.ints(*begin, *end))


def open_session(model: ir.Model, *, threads: int = 0, optimised: bool = True) -> Any:
    """An onnxruntime session of `model` on the CPU provider. Weights are lent to it: they are not copied for the file.

    `threads` 0: as many as onnxruntime likes. Raises what onnxruntime raises.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data, weights = _written_without_weights(model)
    arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in weights.values()]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    session.lent = values  # onnxruntime reads from these arrays, but does not keep them
    return session


def _written_without_weights(model: ir.Model) -> tuple[bytes, dict[str, ir.TensorProtocol]]:
    """The bytes of a file whose large weights lie elsewhere, and those weights."""
    every = {value: value.const_value for value in model.graph.initializers.values()}
    large = {value: tensor for value, tensor in every.items() if tensor is not None and tensor.nbytes > _INLINE_BYTES}
    try:
        for value, tensor in large.items():
            value.const_value = ir.ExternalTensor(
                "elsewhere", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=value.name or ""
            )
        data = ir.to_proto(model).SerializeToString()
        return data, {value.name or "": tensor for value, tensor in large.items()}
    finally:
        for value, tensor in large.items():
            value.const_value = tensor


class Layout(enum.Enum):
    NCHW = "NCHW"
    NHWC = "NHWC"
    PARITY = "parity"
    PHASES = "phases"


@dataclass(frozen=True)
class Feature:
    """The `values`: one, or for PARITY and PHASES all phases, ordered (row, column) = 00, 01, … 10, 11, ….

    `height` and `width` are those of the whole image, whatever the layout.
    """

    values: tuple[ir.Value, ...]
    layout: Layout
    channels: int
    height: int
    width: int

    @property
    def value(self) -> ir.Value:
        (only,) = self.values
        return only


def nchw(value: ir.Value, channels: int, height: int, width: int) -> Feature:
    return Feature((value,), Layout.NCHW, channels, height, width)


def nhwc(value: ir.Value, channels: int, height: int, width: int) -> Feature:
    return Feature((value,), Layout.NHWC, channels, height, width)


def to_layout(b: Builder, x: Feature, layout: Layout) -> Feature:
    """`x` in `layout`, which is any but PHASES. PARITY needs an even height and width."""
    if x.layout is layout:
        return x
    if x.layout is Layout.PARITY:
        return to_layout(b, _merge(b, x), layout)
    if x.layout is Layout.PHASES:
        if layout is Layout.PARITY and len(x.values) == 4:
            values = tuple(b.op("Transpose", value, perm=TO_NHWC) for value in x.values)
            return Feature(values, layout, x.channels, x.height, x.width)
        return to_layout(b, _interleave(b, x), layout)
    if layout is Layout.PARITY:
        return _split(b, to_layout(b, x, Layout.NHWC))
    perm = TO_NHWC if layout is Layout.NHWC else TO_NCHW
    return Feature((b.op("Transpose", x.value, perm=perm),), layout, x.channels, x.height, x.width)


def map_each(b: Builder, x: Feature, op_type: str, **attributes: object) -> Feature:
    """An elementwise operator of one input on `x`, layout kept."""
    values = tuple(b.op(op_type, value, **attributes) for value in x.values)
    return Feature(values, x.layout, x.channels, x.height, x.width)


def _split(b: Builder, x: Feature) -> Feature:
    half_h, half_w, c = x.height // 2, x.width // 2, x.channels
    values = []
    for row in b.ops("Split", 2, b.reshape(x.value, -1, half_h, 2, x.width * c), b.ints(1, 1), axis=2):
        parts = b.ops("Split", 2, b.reshape(row, -1, half_h, half_w, 2, c), b.ints(1, 1), axis=3)
        values += [b.reshape(part, -1, half_h, half_w, c) for part in parts]
    return Feature(tuple(values), Layout.PARITY, c, x.height, x.width)


def _merge(b: Builder, x: Feature) -> Feature:
    """Columns side by side are interleaved by a reshape alone: channels are the innermost axis."""
    rows = [
        b.reshape(b.op("Concat", even, odd, axis=3), -1, x.height // 2, 1, x.width * x.channels)
        for even, odd in (x.values[:2], x.values[2:])
    ]
    return nhwc(
        b.reshape(b.op("Concat", *rows, axis=2), -1, x.height, x.width, x.channels), x.channels, x.height, x.width
    )


def interleaved(
    b: Builder, pixels: ir.Value, steps: tuple[int, int], channels: int, sides: tuple[int | None, int | None]
) -> ir.Value:
    """(batch, height, width, channels) of `pixels`, (batch, h, w, rows · columns · channels): for each of the places
    among rows x columns (`steps`) its channels. `sides` are height and width, where they are known."""
    rows, columns = steps
    parted = b.reshape(pixels, 0, 0, 0, rows, columns * channels)
    moved = b.op("Transpose", parted, perm=[0, 1, 3, 2, 4])
    height, width = sides
    if height is not None and width is not None:
        return b.reshape(moved, -1, height, width, channels)
    shape = b.op("Shape", parted)
    scaled = b.op("Mul", b.op("Slice", shape, b.ints(1), b.ints(3)), b.ints(rows, columns))
    images = b.op("Slice", shape, b.ints(0), b.ints(1))
    return b.op("Reshape", moved, b.op("Concat", images, scaled, b.ints(channels), axis=0))


def _interleave(b: Builder, x: Feature) -> Feature:
    """Phases beside each other as channels, so that each row of s pixels is one run of numbers; then rows change places
    with columns. A last row or column that is too many is cropped.
    """
    s, c = math.isqrt(len(x.values)), x.channels
    rows, columns = -(-x.height // s), -(-x.width // s)
    pixels = b.op("Transpose", b.op("Concat", *x.values, axis=1), perm=TO_NHWC)
    in_place = b.op("Transpose", b.reshape(pixels, -1, rows, columns, s, s * c), perm=[0, 1, 3, 2, 4])
    whole = b.reshape(in_place, -1, rows * s, columns * s, c)
    crop = x.height - rows * s, x.width - columns * s
    return nhwc(b.pad(whole, (0, 0, 0, 0), (0, *crop, 0)), c, x.height, x.width)
