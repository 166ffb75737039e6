"""A `Source` as the ONNX model that is asked for: exported, rewritten, lowered in precision.

Which form each part of a graph is to have is a matter of rule ("auto"), of measuring here ("tune"), or stays as it came
("none"). Merging upsampling with the convolution behind it saves work on CPUs in float32; there the kernels that it
needs are derived at loading, which runtimes do in no other precision, so that files of lower precision keep the two
apart. How a transposed convolution is written is a matter of the layer and of where the file runs
(`gan_export.passes.transposed.rules`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from gan_export.onnx_export import to_onnx
from gan_export.onnx_options import Mode, OnnxOptions
from gan_export.passes import TIDY, run_passes
from gan_export.passes.merge_upsampling import MergeUpsampling
from gan_export.passes.plain_cast import PlainCast
from gan_export.passes.tidy import StripTraces
from gan_export.passes.transposed import layers, rewrite, to_convs
from gan_export.passes.transposed.rewrite import by_output
from gan_export.passes.transposed.rules import for_cpu, for_gpu
from gan_export.passes.transposed.tune import tuned
from gan_export.precision.float16 import StoreFloat16, to_float16
from gan_export.precision.int8 import to_int8
from gan_export.precision.qdq import ActivationFirst
from gan_export.precision.ranges import measure_ranges
from gan_export.proof.reference import Reference


@dataclass(frozen=True)
class Made:
    """The model, the names of the passes that changed it, and of the layers that stayed in float32."""

    model: ir.Model
    passes: tuple[str, ...]
    kept: tuple[str, ...] = ()


def make_onnx(reference: Reference, options: OnnxOptions) -> Made:
    """The model of `reference.source`, without metadata. `reference` says what lower precisions may lose.

    Raises `JobError` when torch cannot export the module, or no layer can be quantised.
    """
    model, passes = to_onnx(reference.source, options.opset, fold=options.optimize != "none")
    kept: tuple[str, ...] = ()
    model, applied = optimise(model, options.mode, options.precision)
    passes += tuple(name for name in applied if name not in passes)
    if options.precision == "int8":
        model, kept = to_int8(ActivationFirst()(model).model, reference)
        passes += ("int8",)
    elif options.precision == "fp16":
        model, kept = to_float16(model, measure_ranges(model, reference.cases))
        passes += ("float16",)
    if options.store == "fp16":
        StoreFloat16()(model)
        passes += ("store_float16",)
    StripTraces()(model)  # what was inferred on the way
    return Made(model, passes, kept)


def optimise(model: ir.Model, mode: Mode, precision: str = "fp32") -> tuple[ir.Model, tuple[str, ...]]:
    """`model` optimised for where files of `precision` run, and the names of what changed it.

    "none" changes nothing. "tune" takes seconds: it times the forms on this machine. `model` itself may be changed on
    the way; the result draws the same images up to float32 rounding.
    """
    if mode == "none":
        return model, ()
    model, applied = run_passes(model, {"merge_upsampling": MergeUpsampling()} if precision == "fp32" else {})
    if precision == "int8":
        changed = to_convs(model)
        applied += ("to_convs",) if changed is not model else ()
    else:
        choice = _choose(model, mode, precision)
        changed = rewrite(model, by_output(choice))
        applied += tuple(dict.fromkeys(f"transposed_{form}" for form in choice.values() if form != "keep"))
    if precision == "fp32":
        changed, shorter = run_passes(changed, {"plain_cast": PlainCast()})
        applied += shorter
    return run_passes(changed, TIDY)[0], applied


def _choose(model: ir.Model, mode: Mode, precision: str) -> dict[str, str]:
    """The form of each layer, by the name of the layer's output."""
    if mode == "tune" and precision == "fp32":
        return tuned(model)
    rule = for_cpu if precision == "fp32" else for_gpu
    return {layer.output: rule(layer) for layer in layers(model)}
