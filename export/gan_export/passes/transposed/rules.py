"""Which form a transposed convolution is to have, by rule.

- 1x1 inputs are one matrix product, everywhere.
- On CPUs, in float32, the middle layers go as phases: a few convolutions that run near the processor's limit, for one
  image and for many.
- The widest of them go as Winograd products: nine multiplications for sixteen, in a hundred operators. Where each of
  those is short, a single image, which all threads draw together, waits longer for them at the end of every operator
  than it saves.
- Layers to a few channels (grey, RGB) stay as they are: onnxruntime's col2im is better than anything written in graph
  operators.
- In fp16 the file is for GPUs, whose libraries have transposed convolutions of their own.

The thresholds come from timing the forms on layers of many sizes, alone and in whole networks, for a single image and
for batches (docs/optimisation.md).
"""

from __future__ import annotations

from gan_export.passes.transposed.forms import FORMS
from gan_export.passes.transposed.layer import Transposed

MIN_MACS = 8_000_000
"""Multiplications per image below which a layer's form hardly matters, and more operators cost more than they save."""
MIN_CHANNELS, MIN_KERNEL = 16, 3
WINOGRAD_MACS, WINOGRAD_CHANNELS, WINOGRAD_PIXELS = 64_000_000, 128, 64
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
