"""Which form each transposed convolution is to have, and the graph with those forms in it.

By rule, from timing the forms on layers of many sizes, alone and in whole networks, for a single image and for batches
(docs/optimisation.md):

- 1x1 inputs are one matrix product, everywhere.
- On CPUs, in float32, the middle layers go as phases: a few convolutions that run near the processor's limit, for one
  image and for many.
- The widest of them go as Winograd products: nine multiplications for sixteen, in a hundred operators. Where each of
  those is short, a single image, which all threads draw together, waits longer for them at the end of every operator
  than it saves.
- Layers to a few channels (grey, RGB) stay as they are: onnxruntime's col2im is better than anything written in graph
  operators.
- In fp16 the file is for GPUs, whose libraries have transposed convolutions of their own.

By measuring (`tuned`): each layer is timed alone in each form that fits, one thread, forms in turn. What is best alone
need not be best in company (layouts are converted between neighbours), so the chosen whole is timed beside the rule's
choice and the graph with no form changed, and the fastest of the three wins.

Forms are put in chain by chain: runs of transposed convolutions and activations with nothing between them and nobody
else looking on. Within one values keep whatever layout the forms like; at its ends they are NCHW.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gan_export.passes.forms import FORMS, gemm
from gan_export.passes.graph import (
    Builder,
    Feature,
    Layout,
    drop_unused,
    map_each,
    nchw,
    open_session,
    replace,
    to_layout,
    used_once,
)
from gan_export.passes.layer import Transposed, layers

MIN_MACS = 8_000_000
"""Multiplications per image below which a layer's form hardly matters, and more operators cost more than they save."""
MIN_CHANNELS, MIN_KERNEL = 16, 3
WINOGRAD_MACS, WINOGRAD_CHANNELS, WINOGRAD_PIXELS = 256_000_000, 128, 64
"""What Winograd's additions and many operators need in order to pay for a single image, too."""


def for_cpu(layer: Transposed) -> str:
    """The form of `layer` for float32 on CPUs."""
    if FORMS["gemm"].fits(layer):
        return "gemm"
    channels = min(layer.c_in, layer.c_out)
    if layer.macs < MIN_MACS or channels < MIN_CHANNELS or layer.groups > 1:
        return "keep"
    large = layer.macs >= WINOGRAD_MACS and layer.height * layer.width >= WINOGRAD_PIXELS
    if FORMS["winograd"].fits(layer) and large and channels >= WINOGRAD_CHANNELS:
        return "winograd"
    return "phases" if FORMS["phases"].fits(layer) and min(layer.kernel) >= MIN_KERNEL else "keep"


def for_gpu(layer: Transposed) -> str:
    """The form of `layer` for GPUs."""
    return "gemm" if FORMS["gemm"].fits(layer) else "keep"


Chooser = Callable[[Transposed], str]
"""Names the form, one of `FORMS` that fits, that a layer is to have."""


def always(form: str) -> Chooser:
    """One form for every layer."""
    return lambda _layer: form


def by_output(forms: Mapping[str, str]) -> Chooser:
    """What `forms` says, by the name of a layer's output."""
    return lambda layer: forms[layer.output]


ACTIVATIONS = {"Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu", "Selu", "Celu", "Gelu", "Softplus", "Softsign", "Mish"}
"""Operators of one input that work on each value alone, whatever its layout."""


@dataclass
class _Chain:
    """Layers and the activations behind each, and all of those nodes in order."""

    links: list[tuple[Transposed, list[ir.Node]]]
    nodes: list[ir.Node]


def rewrite(model: ir.Model, choose: Chooser, columns: Layout = Layout.NCHW) -> ir.Model:
    """`model` with every transposed convolution that can be rewritten in the form that `choose` names; in which layout
    the columns of a Gemm lie says `columns`, NCHW or NHWC.

    The result shares tensors with `model`, which stays as it is; it is `model` itself where all layers do. Raises
    `ValueError` for a form that does not fit its layer.
    """
    changed, modified = model.clone(), False
    for number, chain in enumerate(_chains(changed)):
        forms = [_form(choose(layer), layer) for layer, _ in chain.links]
        if set(forms) != {"keep"}:
            b = Builder(changed, f"transposed{number}")
            replace(chain.nodes, b.nodes, chain.nodes[-1].outputs[0], by=_write(b, chain, forms, columns))
            modified = True
    drop_unused(changed)
    return changed if modified else model


def to_convs(model: ir.Model) -> ir.Model:
    """`model` without ConvTranspose where it can be avoided: Gemm on 1x1 inputs, sub-pixel convolutions to a few
    channels, and phases elsewhere.

    For runtimes and precisions that have convolutions only, such as onnxruntime's int8.
    """

    def choose(layer: Transposed) -> str:
        if FORMS["gemm"].fits(layer):
            return "gemm"
        if layer.c_out >= MIN_CHANNELS and FORMS["phases"].fits(layer):
            return "phases"
        return "subpixel" if FORMS["subpixel"].fits(layer) else "keep"

    return rewrite(model, choose, Layout.NHWC)


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


def _write(b: Builder, chain: _Chain, forms: list[str], columns: Layout) -> ir.Value:
    """Adds the chain's nodes in those forms. The last makes the value that is returned, in NCHW."""
    first, source = chain.links[0][0], chain.nodes[0].inputs[0]
    assert source is not None
    x: Feature = nchw(source, first.c_in, first.height, first.width)
    for index, ((layer, activations), form) in enumerate(zip(chain.links, forms, strict=True)):
        if form == "gemm":
            wanted = Layout.NHWC if forms[index + 1 : index + 2] == ["winograd"] else columns
            x = gemm(b, to_layout(b, x, Layout.NCHW), layer, wanted)
        else:
            x = FORMS[form].apply(b, x, layer)
        for node in activations:
            x = map_each(b, x, node.op_type, **node.attributes)
    return to_layout(b, x, Layout.NCHW).value


BATCH = 8
"""Images per run while timing: about what one core computes at a time when `gan-gen` draws many."""
ROUNDS = 7
WINDOW_S = 0.02
"""How long a form is run in each of `ROUNDS` rounds; forms take turns, so that a machine that drifts drifts for all."""

Run = Callable[[], object]


def tuned(model: ir.Model) -> dict[str, str]:
    """The form of each layer of `model`, by the name of the layer's output."""
    every = layers(model)
    if not every:
        return {}
    alone = {layer.output: fastest_form(layer) for layer in every}
    ruled = {layer.output: for_cpu(layer) for layer in every}
    kept = {layer.output: "keep" for layer in every}
    wholes = [alone, ruled, kept]
    runs = [runner(rewrite(model, by_output(whole))) for whole in wholes]
    return wholes[_fastest(runs)]


def fastest_form(layer: Transposed) -> str:
    """The form of `layer` that is fastest here alone."""
    names = fitting(layer)
    single = single_layer(layer)
    return names[_fastest([runner(rewrite(single, always(name))) for name in names])]


def single_layer(layer: Transposed) -> ir.Model:
    """A graph of nothing but `layer`, x float32 (batch, c_in, height, width) → y."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=["batch", layer.c_in, layer.height, layer.width])
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=["batch", layer.c_out, layer.out_height, layer.out_width])
    tape = ir.tape.Tape()
    tensors = [tape.initializer(layer.weight, "weight"), tape.initializer(ir.tensor(layer.bias), "bias")]
    attributes: dict[str, Any] = {
        "kernel_shape": layer.kernel,
        "strides": [layer.stride] * 2,
        "pads": layer.pads,
        "output_padding": layer.extra,
        "group": layer.groups,
    }
    tape.op("ConvTranspose", [x, *tensors], attributes, output=y)
    graph = ir.Graph([x], [y], nodes=tape.nodes, initializers=tensors, opset_imports={"": 18}, name="layer")
    return ir.Model(graph, ir_version=10)


def runner(model: ir.Model, batch: int = BATCH) -> Run:
    """One run of `model` on `batch` random inputs, on one thread of the CPU provider."""
    session = open_session(model, threads=1)
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = [batch, *value.shape[1:]]
        whole = value.type == "tensor(int64)"
        feeds[value.name] = np.zeros(shape, np.int64) if whole else rng.standard_normal(shape).astype(np.float32)
    return lambda: session.run(None, feeds)


def _fastest(runs: Sequence[Run]) -> int:
    """The index of the run with the lowest median time."""
    medians = [statistics.median(seen) for seen in times_in_turns(runs)]
    return medians.index(min(medians))


def times_in_turns(runs: Sequence[Run]) -> list[list[float]]:
    """For each run its time in seconds in each of `ROUNDS` rounds, in which all take turns. Each runs once before."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, seen in zip(runs, times, strict=True):
            seen.append(_time(run))
    return times


def _time(run: Run) -> float:
    count, started = 0, time.perf_counter()
    while True:
        run()
        count += 1
        elapsed = time.perf_counter() - started
        if elapsed >= WINDOW_S:
            return elapsed / count
