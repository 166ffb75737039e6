"""Transposed convolutions in other words: each form computes the same numbers with other operators.

    keep       ConvTranspose as it is
    gemm       on a 1x1 input: one matrix product
    phases     s x s small convolutions
    subpixel   one convolution with s x s times the channels, then DepthToSpace
    winograd   nine products where sixteen were, for kernel 4, stride 2 (`winograd`)

Which one is fast depends on the layer, the batch and the machine; `rules` and `tune` choose. `rewrite` applies a
choice to a graph, chain by chain, so that neighbours hand their values on in the layout they both like.
"""

from __future__ import annotations

from gan_export.passes.transposed.forms import FORMS
from gan_export.passes.transposed.layer import Transposed, layers
from gan_export.passes.transposed.rewrite import Choice, rewrite, to_convs

__all__ = ["FORMS", "Choice", "Transposed", "layers", "rewrite", "to_convs"]
