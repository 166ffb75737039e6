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
import onnx
from onnx import TensorProto, helper, numpy_helper

from gan_export.passes.transposed.layer import Transposed, layers
from gan_export.passes.transposed.rewrite import always, by_output, fitting, rewrite
from gan_export.passes.transposed.rules import for_cpu
from gan_serve.runtime.providers import import_onnxruntime

BATCH = 8
"""Images per run while timing: about what one core computes at a time when `gan-gen` draws many."""
ROUNDS = 7
WINDOW_S = 0.02
"""How long a form is run in each of `ROUNDS` rounds; forms take turns, so that a machine that drifts drifts for all."""

Choices = dict[str, str]
Run = Callable[[], object]


def tuned(model: onnx.ModelProto) -> Choices:
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


def single_layer(layer: Transposed) -> onnx.ModelProto:
    """A graph of nothing but `layer`, x float32 (batch, c_in, height, width) → y."""
    node = helper.make_node(
        "ConvTranspose",
        ["x", "weight", "bias"],
        ["y"],
        kernel_shape=list(layer.kernel),
        strides=[layer.stride] * 2,
        pads=list(layer.pads),
        output_padding=list(layer.extra),
        group=layer.groups,
    )
    shapes = [("x", ("batch", layer.c_in, layer.height, layer.width)), ("y", ("batch", layer.c_out, None, None))]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    tensors = [numpy_helper.from_array(layer.weight, "weight"), numpy_helper.from_array(layer.bias, "bias")]
    graph = helper.make_graph([node], "layer", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def runner(model: onnx.ModelProto, batch: int = BATCH) -> Run:
    """One run of `model` on `batch` random inputs, on one thread of the CPU provider."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = [batch, *(size for size in value.shape[1:])]
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
