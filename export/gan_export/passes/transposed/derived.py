"""Kernels that the graph makes of a smaller one: a runtime computes them once, when it folds constants at loading.

The file holds a convolution's weight (out, in / groups, kh, kw); each place of the derived kernel is a sum of its taps.
`mixing`, float32 (kh kw, n), says which, for the n places of a kernel as wide as ConvTranspose wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from gan_export.passes.graph import GraphView, set_initialiser

F32 = npt.NDArray[np.float32]
KINDS = ("Reshape", "Transpose", "MatMul", "Reshape")
"""From a derived weight back to the convolution's own."""


@dataclass(frozen=True)
class Derived:
    """`name` is the initialiser of the convolution's weight."""

    name: str
    mixing: F32


def derive(
    graph: onnx.GraphProto, derived: Derived, weight: F32, groups: int, kernel: list[int]
) -> list[onnx.NodeProto]:
    """The nodes that make a ConvTranspose's weight (in, out / groups, *kernel) of `weight`, the initialiser's value.

    The last makes the weight; `graph` gets the constants that they need.
    """
    out, inner, *_ = weight.shape
    made = f"{derived.name}.{'x'.join(map(str, (groups, *kernel)))}"
    shapes = {"parts": [groups, out // groups, inner, -1], "shape": [groups * inner, out // groups, *kernel]}
    for name, shape in shapes.items():
        set_initialiser(graph, f"{made}.{name}", np.array(shape, np.int64))
    set_initialiser(graph, f"{made}.mixing", derived.mixing)
    return [
        helper.make_node("Reshape", [derived.name, f"{made}.parts"], [f"{made}.taps"]),
        helper.make_node("MatMul", [f"{made}.taps", f"{made}.mixing"], [f"{made}.places"]),
        helper.make_node("Transpose", [f"{made}.places"], [f"{made}.turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{made}.turned", f"{made}.shape"], [made]),
    ]


def derived_weight(view: GraphView, name: str) -> tuple[F32, Derived] | None:
    """The value of a weight that `derive` made, (in, out / groups, kh, kw), and its origin; None for another."""
    nodes = []
    for kind in KINDS:
        node = view.producer.get(name)
        if node is None or node.op_type != kind:
            return None
        nodes.append(node)
        name = node.input[0]
    shaped, turned, product, parted = nodes
    weight, parts, mixing, shape = (
        view.constant(part) for part in (name, parted.input[1], product.input[1], shaped.input[1])
    )
    perm = [list(helper.get_attribute_value(a)) for a in turned.attribute]
    if weight is None or parts is None or mixing is None or shape is None or perm != [[0, 2, 1, 3]]:
        return None
    if weight.ndim != 4 or mixing.ndim != 2 or len(parts) != 4 or len(shape) != 4 or min(*parts[:3], *shape) < 1:
        return None
    places = np.asarray(weight, np.float32).reshape(parts) @ np.asarray(mixing, np.float32)
    return places.transpose(0, 2, 1, 3).reshape(shape), Derived(name, np.asarray(mixing, np.float32))
