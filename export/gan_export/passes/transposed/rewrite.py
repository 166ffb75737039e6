"""Puts chosen forms into a graph.

A chain is a run of transposed convolutions and activations with nothing between them and nobody else looking on.
Within it values keep whatever layout the forms like; at its ends they are NCHW, as the graph around expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from gan_export.passes.graph import Builder, drop_unused, replace, used_once
from gan_export.passes.transposed.feature import Feature, Layout, map_each, nchw, to_layout
from gan_export.passes.transposed.forms import FORMS, gemm
from gan_export.passes.transposed.layer import Transposed, layers

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
    """Layers and the activations behind each, and all of those nodes in order."""

    links: list[tuple[Transposed, list[ir.Node]]]
    nodes: list[ir.Node]


def rewrite(model: ir.Model, choose: Choice) -> ir.Model:
    """`model` with every transposed convolution that can be rewritten in the form that `choose` names.

    The result shares tensors with `model`, which stays as it is; it is `model` itself where all layers do. Raises
    `ValueError` for a form that does not fit its layer.
    """
    changed, modified = model.clone(), False
    for number, chain in enumerate(_chains(changed)):
        forms = [_form(choose(layer), layer) for layer, _ in chain.links]
        if set(forms) != {"keep"}:
            b = Builder(changed, f"transposed{number}")
            replace(chain.nodes, b.nodes, chain.nodes[-1].outputs[0], by=_write(b, chain, forms))
            modified = True
    drop_unused(changed)
    return changed if modified else model


def to_convs(model: ir.Model) -> ir.Model:
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


def _chains(model: ir.Model) -> list[_Chain]:
    described = {layer.node: layer for layer in layers(model)}
    chains: list[_Chain] = []
    seen: set[ir.Node] = set()
    for node in described:
        if node is None or node in seen:
            continue
        chain = _Chain([], [])
        following: ir.Node | None = node
        while following is not None:
            chain.nodes.append(following)
            seen.add(following)
            if following in described:
                chain.links.append((described[following], []))
            else:
                chain.links[-1][1].append(following)
            following = _next(following.outputs[0])
            if following not in described and (following is None or following.op_type not in ACTIVATIONS):
                following = None
        chains.append(chain)
    return chains


def _next(value: ir.Value) -> ir.Node | None:
    """The only node that takes `value`, as its first input."""
    if not used_once(value):
        return None
    (use,) = value.uses()
    return use.node if use.idx == 0 else None


def _write(b: Builder, chain: _Chain, forms: list[str]) -> ir.Value:
    """Adds the chain's nodes in those forms. The last makes the value that is returned, in NCHW."""
    first, source = chain.links[0][0], chain.nodes[0].inputs[0]
    assert source is not None
    x: Feature = nchw(source, first.c_in, first.height, first.width)
    for index, ((layer, activations), form) in enumerate(zip(chain.links, forms, strict=True)):
        if form == "gemm":
            wanted = Layout.NHWC if forms[index + 1 : index + 2] == ["winograd"] else Layout.NCHW
            x = gemm(b, to_layout(b, x, Layout.NCHW), layer, wanted)
        else:
            x = FORMS[form].apply(b, x, layer)
        for node in activations:
            x = map_each(b, x, node.op_type, **node.attributes)
    return to_layout(b, x, Layout.NCHW).value
