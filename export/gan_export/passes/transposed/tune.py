"""`--optimize tune`: the forms of every transposed convolution timed on this machine, and the fastest whole kept.

Each layer is timed alone in each form that fits, one thread, forms in turn.
What is best alone need not be best in company (layouts are converted between neighbours), so the chosen whole is timed
beside the rule's choice and the graph with no form changed, and the fastest of the three wins.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gan_export.passes.graph import open_session
from gan_export.passes.transposed.layer import Transposed, layers
from gan_export.passes.transposed.rewrite import always, by_output, fitting, rewrite
from gan_export.passes.transposed.rules import for_cpu

BATCH = 8
"""Images per run while timing: about what one core computes at a time when `gan-gen` draws many."""
ROUNDS = 7
WINDOW_S = 0.02
"""How long a form is run in each of `ROUNDS` rounds; forms take turns, so that a machine that drifts drifts for all."""

Choices = dict[str, str]
Run = Callable[[], object]


def tuned(model: ir.Model) -> Choices:
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
