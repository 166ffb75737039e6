"""A `Source` as the ONNX model that is asked for: exported, rewritten, lowered in precision."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from gan_export.onnx_export import to_onnx
from gan_export.onnx_options import OnnxOptions
from gan_export.optimise import optimise
from gan_export.passes.activation_first import activation_first
from gan_export.precision.float16 import to_float16
from gan_export.precision.int8 import to_int8
from gan_export.precision.ranges import measure_ranges
from gan_export.precision.storage import store_float16
from gan_export.proof.reference import Reference


@dataclass(frozen=True)
class Made:
    """The model, the names of the passes that changed it, and of the layers that stayed in float32."""

    model: onnx.ModelProto
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
        quantised = to_int8(activation_first(model), reference)
        model, kept = quantised.model, quantised.kept
        passes += ("int8",)
    elif options.precision == "fp16":
        model, kept = to_float16(model, measure_ranges(model, reference.cases))
        passes += ("float16",)
    if options.store == "fp16":
        model = store_float16(model)
        passes += ("store_float16",)
    return Made(model, passes, kept)
