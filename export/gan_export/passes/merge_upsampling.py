"""Nearest-neighbour upsampling and the convolution behind it, as one transposed convolution.

An upsampling by s repeats every value s times, so a k x k convolution of the result meets each input value with sums
of its taps: the same as a transposed convolution of stride s whose kernel, k + s - 1 wide, is the flipped kernel spread
by a box of s ones; padding p becomes k - 1 - p. For s = 2, k = 3: 16 products per input pixel where 36 were.
The file keeps the k x k kernel, and the graph derives the wider one (`passes.transposed.layer`): it does not grow.
(Odena et al. 2016, "Deconvolution and checkerboard artifacts", set the two side by side.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gan_export.passes.graph import F32, constant, infer_shapes, maker_of, nodes_of, replace, shape_of
from gan_export.passes.transposed.layer import Derived, derive


class MergeUpsampling(ir.passes.InPlacePass):
    """Makes every Resize (nearest, by one whole factor both ways) + Conv (stride 1) a ConvTranspose.

    Left alone: another Resize, one whose result somebody else takes, weights that are not constant float32, dilation,
    and padding wider than the kernel. The result draws the same images up to float32 rounding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        infer_shapes(model)
        made: dict[tuple[object, ...], ir.Value] = {}
        merged = [_merge(model, conv, made) for conv in nodes_of(model, "Conv")]
        return ir.passes.PassResult(model, any(merged))


def _factor(resize: ir.Node) -> int | None:
    """By what a Resize repeats its input's values, None when it does anything else."""
    given = resize.attributes
    if given.get_string("mode", "nearest") != "nearest" or given.get_int("antialias", False) or "axes" in given:
        return None
    before, after = shape_of(resize.inputs[0]), shape_of(resize.outputs[0])
    if before is None or after is None or len(before) != 4 or len(after) != 4:
        return None
    if before[1] != after[1] or None in (*before[1:], *after[1:]):
        return None
    factors = {int(new) / int(old) for old, new in zip(before[2:], after[2:], strict=True) if old and new}
    if len(factors) != 1 or not (factor := factors.pop()).is_integer() or factor < 2:
        return None
    return int(factor) if _repeats(resize, int(factor)) else None


def _repeats(resize: ir.Node, factor: int) -> bool:
    """Whether output o takes input o // factor: with a whole factor both usual conventions do, rounded as they are."""
    given = resize.attributes
    transformation = given.get_string("coordinate_transformation_mode", "half_pixel")
    output = np.arange(4 * factor)
    if transformation == "asymmetric":
        source = output / factor
    elif transformation in ("half_pixel", "pytorch_half_pixel"):
        source = (output + 0.5) / factor - 0.5
    else:
        return False
    rounded: dict[str, npt.NDArray[np.float64]] = {
        "floor": np.floor(source),
        "ceil": np.ceil(source),
        "round_prefer_floor": np.ceil(source - 0.5),
        "round_prefer_ceil": np.floor(source + 0.5),
    }
    rounding = given.get_string("nearest_mode", "round_prefer_floor")
    return rounding in rounded and bool(np.array_equal(rounded[rounding], output // factor))


def _merge(model: ir.Model, conv: ir.Node, made: dict[tuple[object, ...], ir.Value]) -> bool:
    """Whether `conv` and the Resize before it are one. `made` holds the weights made so far: layers may share one."""
    resize, origin, given = maker_of(conv.inputs[0], "Resize"), conv.inputs[1], conv.attributes
    factor, weight = _factor(resize) if resize is not None else None, constant(origin)
    if (
        resize is None
        or factor is None
        or origin is None
        or weight is None
        or weight.ndim != 4
        or weight.dtype != np.float32
        or any(v != 1 for v in (*given.get_ints("strides", ()), *given.get_ints("dilations", ())))
        or given.get_string("auto_pad", "NOTSET") != "NOTSET"
    ):
        return False
    kernel = weight.shape[2:]
    pads = [kernel[index % 2] - 1 - pad for index, pad in enumerate(given.get_ints("pads", (0, 0, 0, 0)))]
    if min(pads) < 0:
        return False
    groups, wide = given.get_int("group", 1), [k + factor - 1 for k in kernel]
    mixing = np.kron(spread(kernel[0], factor), spread(kernel[1], factor))
    key, new = (conv.graph, origin, groups, *wide), []
    if key not in made:
        new = derive(model, Derived(origin, mixing), groups, wide)
        made[key] = new[-1].outputs[0]
    attributes: dict[str, Any] = {"kernel_shape": wide, "strides": [factor, factor], "pads": pads, "group": groups}
    inputs = [resize.inputs[0], made[key], *conv.inputs[2:]]
    output = ir.Value(name=f"{conv.outputs[0].name}.merged")
    new.append(ir.node("ConvTranspose", inputs, attributes, outputs=[output], name=conv.name))
    replace([resize, conv], new, conv.outputs[0], by=output)
    return True


def spread(kernel: int, factor: int) -> F32:
    """Along one axis, which taps each place of the wide kernel is the sum of: 0 or 1, (kernel, kernel + factor - 1)."""
    narrow, wide = np.indices((kernel, kernel + factor - 1))
    start = kernel - 1 - narrow
    return ((start <= wide) & (wide < start + factor)).astype(np.float32)
