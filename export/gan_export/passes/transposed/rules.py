"""Which form a transposed convolution is to have, by rule.

- 1x1 inputs are one matrix product, everywhere.
- On CPUs, in float32, the large middle layers go as Winograd products: nine multiplications for sixteen, on matrix
  products that read each weight once a batch instead of once an image. Below 12x12 pixels a single image waits longer
  for its many small products than it saves; below 32 channels the additions outweigh the products. Where it does not
  fit, phases are the next best for kernels from 4 on.
- Layers to a few channels (grey, RGB) stay as they are: onnxruntime's col2im is better than anything written in graph
  operators.
- In fp16 the file is for GPUs, whose libraries have transposed convolutions of their own.

The thresholds come from timing every form on layers of many sizes, batches 1 and 8, one thread (docs/optimisation.md).
"""

from __future__ import annotations

from gan_export.passes.transposed.layer import Transposed
from gan_export.passes.transposed.rewrite import FORMS

MIN_PIXELS = 144
"""Below, a single image that all threads draw together waits longer for them at many small products than it saves."""
MIN_CHANNELS = 32
MIN_MACS = 8_000_000
"""Multiplications per image below which a layer's form hardly matters, and more operators cost more than they save."""
MAX_WEIGHTS = 4_000_000
"""Numbers in a kernel above which a single image waits for memory, whatever the form; ConvTranspose reads it best."""


def for_cpu(layer: Transposed) -> str:
    """The form of `layer` for float32 on CPUs."""
    if FORMS["gemm"].fits(layer):
        return "gemm"
    if layer.macs < MIN_MACS or min(layer.c_in, layer.c_out) < MIN_CHANNELS or layer.groups > 1:
        return "keep"
    if FORMS["winograd"].fits(layer) and layer.height * layer.width >= MIN_PIXELS:
        return "winograd"
    if FORMS["phases"].fits(layer) and min(layer.kernel) >= 4 and layer.weight.size <= MAX_WEIGHTS:
        return "phases"
    return "keep"


def for_gpu(layer: Transposed) -> str:
    """The form of `layer` for GPUs."""
    return "gemm" if FORMS["gemm"].fits(layer) else "keep"
