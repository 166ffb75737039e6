"""What a graph makes of its weights alone, computed once and written into the file in their place.

Spectral norms of an author's own (BigGAN's), equalised learning rates and other weights that a forward makes of
parameters are the same for every latent. Written out, they are plain weights, which other passes understand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from gan_export.passes.graph import Array, GraphView, copy_of, has_subgraphs, set_initialiser
from gan_export.passes.tidy import drop_unused
from gan_serve.runtime.providers import import_onnxruntime

DRAWS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Another value at every run, or one that the mode decides: no constants, whatever they are made of."""


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the float32 values that depend on initialisers only as initialisers, if that makes it no larger.

    They are computed by onnxruntime, as at every run before, and called after the largest weight that they are made of.
    Left alone: values larger than their weights together, values that are not finite, graphs with graphs inside their
    nodes, and those that onnxruntime refuses.
    """
    view = GraphView(model)
    made = {} if has_subgraphs(model.graph) else _made_of_weights(view)
    used = {name for node in view.graph.node if node.output[0] not in made for name in node.input}
    taken = [name for name in made if name in used and made[name].size]
    if not taken:
        return model
    folded = copy_of(model)
    for name, value in _values(model, made, taken).items():
        if value.dtype == np.float32 and value.size <= made[name].size and np.isfinite(value).all():
            _replace(folded.graph, name, f"{made[name].largest}.of.{name}", value)
    if len(folded.graph.initializer) == len(model.graph.initializer):
        return model
    folded = drop_unused(folded)
    return folded if folded.ByteSize() <= model.ByteSize() else model


@dataclass(frozen=True)
class _Origin:
    """What a value is made of: how many numbers in all, and the name of the largest weight."""

    size: int
    largest: str


def _made_of_weights(view: GraphView) -> dict[str, _Origin]:
    """The values that follow from initialisers."""
    origins = {tensor.name: {tensor.name} for tensor in view.graph.initializer}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in view.graph.initializer}
    overridden = {value.name for value in view.graph.input}
    made: dict[str, _Origin] = {}
    for node in view.graph.node:
        known = all(not name or name in origins for name in node.input) and not overridden.intersection(node.input)
        if not known or node.op_type in DRAWS or node.domain not in ("", "ai.onnx"):
            continue
        origin: set[str] = set().union(*(origins[name] for name in node.input if name))
        for name in filter(None, node.output):
            origins[name] = origin
            largest = max(sorted(origin), key=sizes.__getitem__, default="")
            made[name] = _Origin(sum(sizes[weight] for weight in origin), largest)
    return made


def _values(model: onnx.ModelProto, made: dict[str, _Origin], wanted: list[str]) -> dict[str, Array]:
    part = copy_of(model)
    del part.graph.input[:]
    del part.graph.output[:]
    nodes = [node for node in model.graph.node if node.output[0] in made]
    del part.graph.node[:]
    part.graph.node.extend(nodes)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            drop_unused(part).SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        return dict(zip(wanted, session.run(wanted, {}), strict=True))
    except Exception:  # an operator or a type that it does not have: the graph stays as it is
        return {}


def _replace(graph: onnx.GraphProto, name: str, new: str, value: Array) -> None:
    set_initialiser(graph, new, value)
    for node in graph.node:
        for index, taken in enumerate(node.input):
            if taken == name:
                node.input[index] = new
