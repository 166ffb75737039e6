"""What a graph makes of its weights alone, computed once and written into the file in their place.

Spectral norms of an author's own (BigGAN's), equalised learning rates and other weights that a forward makes of
parameters are the same for every latent. Written out, they are plain weights, which other passes understand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import Array, add_initialiser, drop_unused, open_session

DRAWS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Another value at every run, or one that the mode decides: no constants, whatever they are made of."""


class FoldConstants(ir.passes.FunctionalPass):
    """Makes initialisers of the float32 values that depend on initialisers only, if that makes the file no larger.

    They are computed by onnxruntime, as at every run before, and called after the largest weight that they are made of.
    Left alone: values larger than their weights together, values that are not finite, those that onnxruntime refuses,
    and what graphs inside nodes make of weights.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        folded, count = model.clone(), 0
        made = _made_of_weights(folded.graph)
        makers = {value.producer() for value in made}
        taken = [v for v, origin in made.items() if origin.size and any(use.node not in makers for use in v.uses())]
        for value, array in _computed(folded, taken):
            origin = made[value]
            if array.dtype == np.float32 and array.size <= origin.size and np.isfinite(array).all():
                value.replace_all_uses_with(add_initialiser(folded, f"{origin.largest}.of.{value.name}", array))
                count += 1
        drop_unused(folded)
        if count and _weight_bytes(folded) <= _weight_bytes(model) + count * NODE_BYTES:
            return ir.passes.PassResult(folded, modified=True)
        return ir.passes.PassResult(model.clone(), modified=False)


NODE_BYTES = 64
"""About what a file takes for the node that made a value, and not for the value that is written in its place."""
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class _Origin:
    """What a value is made of: how many numbers in all, and the name of the largest weight."""

    size: int
    largest: str


def _made_of_weights(graph: ir.Graph) -> dict[ir.Value, _Origin]:
    """The values that follow from initialisers which nothing overrides, in the graph's order."""
    origins = {value: {value} for value in graph.initializers.values() if not value.is_graph_input()}
    made: dict[ir.Value, _Origin] = {}
    for node in graph:
        held = any(attribute.type in _GRAPHS for attribute in node.attributes.values())
        if held or node.op_type in DRAWS or node.domain or any(v is not None and v not in origins for v in node.inputs):
            continue
        origin: set[ir.Value] = set().union(*(origins[value] for value in node.inputs if value is not None))
        sizes = {
            weight.name or "": weight.const_value.size if weight.const_value is not None else 0 for weight in origin
        }
        made_of = _Origin(sum(sizes.values()), max(sorted(sizes), key=sizes.__getitem__, default=""))
        for value in node.outputs:
            origins[value] = origin
            made[value] = made_of
    return made


def _computed(model: ir.Model, wanted: list[ir.Value]) -> list[tuple[ir.Value, Array]]:
    """What those values are; nothing where onnxruntime lacks an operator or a type, and the graph stays as it is."""
    if not wanted:
        return []
    part = ir.Model(ir.convenience.extract(model.graph, [], wanted), ir_version=model.ir_version)
    try:
        return list(zip(wanted, open_session(part, threads=1).run(None, {}), strict=True))
    except Exception:  # onnxruntime's errors have no class of their own
        return []


def _weight_bytes(model: ir.Model) -> int:
    return sum(tensor.nbytes for tensor in model.graph.initializers.tensors())
