"""Puts chosen forms into a graph.

A chain is a run of transposed convolutions and activations with nothing between them and nobody else looking on.
Within it values keep whatever layout the forms like; at its ends they are NCHW, as the graph around expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import onnx

from gan_export.passes.graph import GraphView, copy_of, has_subgraphs
from gan_export.passes.transposed.builder import Builder
from gan_export.passes.transposed.feature import Feature, Layout, map_each, nchw, to_layout
from gan_export.passes.transposed.forms import gemm, keep, overlap, phases, subpixel, winograd
from gan_export.passes.transposed.layer import Transposed, describe

FORMS: dict[str, ModuleType] = {
    "keep": keep,
    "gemm": gemm,
    "phases": phases,
    "subpixel": subpixel,
    "overlap": overlap,
    "winograd": winograd,
}

Choice = Callable[[Transposed], str]
"""Names the form, one of `FORMS` that fits, that a layer is to have."""


def always(form: str) -> Choice:
    """The choice of one form for every layer."""
    return lambda _layer: form


def by_output(forms: Mapping[str, str]) -> Choice:
    """The choice that `forms` says, by the name of a layer's output."""
    return lambda layer: forms[layer.output]


ACTIVATIONS = {"Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu", "Selu", "Celu", "Gelu", "Softplus", "Softsign", "Mish"}
"""Operators of one input that work on each value alone, whatever its layout."""


@dataclass
class _Chain:
    """Layers and the activations behind each, from `source` to `output`."""

    source: str
    output: str
    links: list[tuple[Transposed, list[onnx.NodeProto]]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)


def rewrite(model: onnx.ModelProto, choose: Choice) -> onnx.ModelProto:
    """`model` with every transposed convolution that can be rewritten in the form that `choose` names.

    Raises `ValueError` for a form that does not fit its layer. Graphs with subgraphs stay as they are.
    """
    model = copy_of(model)
    if has_subgraphs(model.graph):
        return model
    view = GraphView(model)
    for number, chain in enumerate(_chains(view)):
        forms = [_form(choose(layer), layer) for layer, _ in chain.links]
        if set(forms) == {"keep"}:
            continue
        b = Builder(f"transposed{number}")
        _write(b, chain, forms)
        _replace(model.graph, chain, b)
    return _without_dead_tensors(model)


def to_convs(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` without ConvTranspose where it can be avoided: Gemm on 1x1 inputs, sub-pixel convolutions elsewhere.

    For runtimes and precisions that have convolutions only, such as onnxruntime's int8.
    """

    def choose(layer: Transposed) -> str:
        return next((name for name in ("gemm", "subpixel") if FORMS[name].fits(layer)), "keep")

    return rewrite(model, choose)


def _form(name: str, layer: Transposed) -> str:
    if name not in FORMS or not FORMS[name].fits(layer):
        raise ValueError(f"form {name!r} does not fit {layer.output}; one of: {', '.join(fitting(layer))}")
    return name


def fitting(layer: Transposed) -> tuple[str, ...]:
    """The names of the forms that fit `layer`, "keep" first."""
    return tuple(name for name, form in FORMS.items() if form.fits(layer))


def _chains(view: GraphView) -> list[_Chain]:
    chains: list[_Chain] = []
    seen: set[str] = set()
    for node in view.graph.node:
        layer = describe(view, node) if node.op_type == "ConvTranspose" and node.output[0] not in seen else None
        if layer is None:
            continue
        chain = _Chain(layer.source, layer.output, [])
        following: onnx.NodeProto | None = node
        while following is not None:
            chain.nodes.append(following)
            chain.output = following.output[0]
            seen.add(chain.output)
            if layer is not None:
                chain.links.append((layer, []))
            else:
                chain.links[-1][1].append(following)
            following, layer = _next(view, chain.output)
        chains.append(chain)
    return chains


def _next(view: GraphView, name: str) -> tuple[onnx.NodeProto | None, Transposed | None]:
    """The only node that takes `name`, when a chain can go on with it."""
    node = view.only_consumer(name)
    if node is None or node.input[0] != name:
        return None, None
    if node.op_type in ACTIVATIONS:
        return node, None
    layer = describe(view, node) if node.op_type == "ConvTranspose" else None
    return (node, layer) if layer is not None else (None, None)


def _write(b: Builder, chain: _Chain, forms: list[str]) -> None:
    first = chain.links[0][0]
    x: Feature = nchw(chain.source, first.c_in, first.height, first.width)
    for index, ((layer, activations), form) in enumerate(zip(chain.links, forms, strict=True)):
        if form == "gemm":
            following = forms[index + 1] if index + 1 < len(forms) else "keep"
            wanted = Layout.NHWC if following in ("winograd", "overlap") else Layout.NCHW
            x = gemm.apply(b, to_layout(b, x, Layout.NCHW), layer, wanted)
        else:
            x = FORMS[form].apply(b, x, layer)
        for node in activations:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            x = map_each(b, x, node.op_type, **attributes)
    x = to_layout(b, x, Layout.NCHW)
    last = b.nodes[-1]
    assert last.output[0] == x.name  # every form ends with the node that makes its result
    last.output[0] = chain.output


def _replace(graph: onnx.GraphProto, chain: _Chain, b: Builder) -> None:
    """Puts the builder's nodes where the chain's last node was: all that they need comes before."""
    old = {node.output[0] for node in chain.nodes}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] == chain.output:
            nodes += b.nodes
        elif not old.intersection(node.output):
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(b.tensors)


def _without_dead_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    return model
