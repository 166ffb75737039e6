"""Which form each part of a graph is to have: by rule (`auto`), by measuring here (`tune`), or as it came (`none`).

Merging upsampling with the convolution behind it saves work on CPUs in float32; there the kernels that it needs are
derived at loading, which runtimes do in no other precision, so that files of lower precision keep the two apart. How a
transposed convolution is written is a matter of the layer and of where the file runs
(`gan_export.passes.transposed.rules`).
"""

from __future__ import annotations

from typing import Literal

import onnx

from gan_export.passes import TIDY, run_passes
from gan_export.passes.merge_upsampling import merge_upsampling
from gan_export.passes.plain_cast import plain_cast
from gan_export.passes.transposed import layers, rewrite, to_convs
from gan_export.passes.transposed.rewrite import by_output
from gan_export.passes.transposed.rules import for_cpu, for_gpu
from gan_export.passes.transposed.tune import tuned

Mode = Literal["auto", "tune", "none"]


def optimise(model: onnx.ModelProto, mode: Mode, precision: str = "fp32") -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """`model` optimised for where files of `precision` run, and the names of what changed it.

    "none" changes nothing. "tune" takes seconds: it times the forms on this machine. `model` itself is not touched; the
    result draws the same images up to float32 rounding.
    """
    if mode == "none":
        return model, ()
    model, applied = run_passes(model, {"merge_upsampling": merge_upsampling} if precision == "fp32" else {})
    if precision == "int8":
        changed = to_convs(model)
        used: tuple[str, ...] = ("to_convs",) if changed != model else ()
    else:
        choice = _choose(model, mode, precision)
        changed = rewrite(model, by_output(choice))
        used = tuple(dict.fromkeys(f"transposed_{form}" for form in choice.values() if form != "keep"))
    if precision == "fp32":
        changed, shorter = run_passes(changed, {"plain_cast": plain_cast})
        used += shorter
    return run_passes(changed, TIDY)[0], (*applied, *used)


def _choose(model: onnx.ModelProto, mode: Mode, precision: str) -> dict[str, str]:
    """The form of each layer, by the name of the layer's output."""
    if mode == "tune" and precision == "fp32":
        return tuned(model)
    rule = for_cpu if precision == "fp32" else for_gpu
    return {layer.output: rule(layer) for layer in layers(model)}
