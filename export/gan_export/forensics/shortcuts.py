"""Shortcuts for many candidates on few rows: some channels and some places of the last convolution, and one run for all
convolutions that differ in their padding alone.

A BatchNorm remembers a mean and a variance per channel, over all places of all images. The places of one image are
much alike, so a few of each image tell nearly as much as all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.spec.layers import Activation, Conv, ConvTranspose, Layer, Shape, Upsample


@dataclass(frozen=True)
class Few:
    """That some places of an image are enough, where it has `least` or more: at least `side` rows and columns of it, or
    each second one where it is smaller."""

    least: int
    side: int


WORTH = 1e7
"""Products of a convolution from which it pays to compute some places only, in a few runs."""
SOME, MOST = Few(64, 14), Few(56**2, 28)
"""For few latents, and for all."""


def last_convolution(layers: tuple[Layer, ...], start: int, stop: int) -> int | None:
    """The last convolution before layer `stop`, where only what keeps channels apart follows it; None where not."""
    for i in reversed(range(start, stop)):
        layer = layers[i]
        if isinstance(layer, (Conv, ConvTranspose)):
            return i if layer.groups == 1 else None
        apart = isinstance(layer, Activation) and layer.features == 1 and "softmax" not in layer.name
        if not (apart or isinstance(layer, Upsample)):
            return None
    return None


@functools.lru_cache(1024)
def every(layer: Layer, channels: int) -> int:
    """Each how manieth channel of a convolution a rough run computes, for `channels` of them or a few more."""
    assert isinstance(layer, (Conv, ConvTranspose))
    least = max(1, layer.out_channels // channels)
    return next(n for n in range(least, 0, -1) if layer.out_channels % n == 0)


@functools.lru_cache(1024)
def thinned(layer: Layer, every: int) -> Layer:
    assert isinstance(layer, (Conv, ConvTranspose))
    return layer if every == 1 else replace(layer, out_channels=layer.out_channels // every)


def thinned_weights(layer: Layer, weights: dict[str, Tensor], every: int) -> dict[str, Tensor]:
    """Each `every`th output channel of a convolution's tensors."""
    if every == 1:
        return weights
    transposed = isinstance(layer, ConvTranspose)
    return {
        name: tensor[:, ::every] if transposed and name == "weight" else tensor[::every]
        for name, tensor in weights.items()
    }


@functools.lru_cache(1024)
def widest(layer: Layer) -> tuple[Layer, tuple[int, int]] | None:
    """The convolution with the largest output that `layer` is a part of, and what to cut; None where there is none."""
    if isinstance(layer, ConvTranspose) and (layer.padding or layer.output_padding):
        cut = layer.padding, layer.padding - layer.output_padding
        return replace(layer, padding=0, output_padding=0), cut
    if isinstance(layer, Conv) and layer.stride == 1 and layer.padding_mode == "zeros":
        most = layer.dilation * (layer.kernel - 1)
        if layer.padding < most:
            return replace(layer, padding=most), (most - layer.padding,) * 2
    return None


def cut_out(x: Tensor, cut: tuple[int, int], bias: Tensor | None) -> Tensor:
    """`x` without the first `cut[0]` rows and columns and the last `cut[1]`; where that is negative, with as many more
    that hold the bias alone, as an output padding beyond the padding makes them."""
    first, last = cut
    if last >= 0:
        return x[..., first : x.shape[-2] - last, first : x.shape[-1] - last]
    blank = torch.zeros(x.shape[1]) if bias is None else bias
    wider = blank.to(x).reshape(-1, 1, 1).repeat(len(x), 1, x.shape[-2] - last, x.shape[-1] - last)
    wider = wider.reshape(len(x), x.shape[1], *wider.shape[-2:])
    wider[..., : x.shape[-2], : x.shape[-1]] = x
    return wider[..., first:, first:]


@dataclass(frozen=True)
class Places:
    """Some places of what a convolution makes, others in each share of the images.

    parts  float32 (N, C, h, w) each, with the first row and column that are in it; from there on, each `step`th
    side   (H, W) of what they are of
    """

    parts: tuple[tuple[Tensor, int, int], ...]
    step: int
    side: tuple[int, int]

    def cut(self, cut: tuple[int, int]) -> Tensor:
        """What is left without the first `cut[0]` rows and columns and the last `cut[1]`: float32 (1, C, places)."""
        left = []
        for x, top, across in self.parts:
            rows, columns = (
                slice(max(0, -(-(cut[0] - at) // self.step)), -(-(side - cut[1] - at) // self.step))
                for at, side in zip((top, across), self.side, strict=True)
            )
            left.append(x[..., rows, columns].transpose(0, 1).flatten(1))
        return torch.cat(left, dim=1).unsqueeze(0)


def sampled(
    layer: Layer, shape: Shape, cut: tuple[int, int] | None, rows: int, behind: Sequence[Layer], few: Few
) -> bool:
    """Whether to compute some places only of `layer`, a convolution run on `rows` images of `shape`, with `behind` up
    to the BatchNorm."""
    assert isinstance(layer, (Conv, ConvTranspose))
    if any(isinstance(other, Upsample) for other in behind) or (cut is not None and cut[1] < 0):
        return False
    if isinstance(layer, Conv):
        usual = layer.stride == 1 and layer.padding_mode == "zeros"
    else:
        usual = layer.dilation == 1 and layer.kernel >= layer.stride and not (layer.padding or layer.output_padding)
    _, height, width = layer.out_shape(shape)
    return usual and height * width >= few.least and rows >= _step(layer, min(height, width), rows, few) ** 2


def _step(layer: Conv | ConvTranspose, side: int, rows: int, few: Few) -> int:
    """Each how manieth row and column of what `layer` makes is computed."""
    unit = layer.stride if isinstance(layer, ConvTranspose) else 1
    least = max(2, unit)
    larger = range(least, side // few.side + 1)
    return max((step for step in larger if step % unit == 0 and step**2 <= rows), default=least)


def places(
    layer: Layer,
    weights: dict[str, Tensor],
    x_NCHW: Tensor,
    shape: Shape,
    few: Few,
    before: Callable[[Tensor], Tensor] | None,
) -> Places:
    """Some places of `layer` (see `sampled`), run on images of `shape`: those `before` makes of `x_NCHW`, a few at a
    time, or `x_NCHW` itself."""
    assert isinstance(layer, (Conv, ConvTranspose))
    weight, bias = weights["weight"], weights.get("bias")
    _, height, width = layer.out_shape(shape)
    step = _step(layer, min(height, width), len(x_NCHW), few)
    share = len(x_NCHW) // step**2
    apart, dilation = 1, 1
    if isinstance(layer, ConvTranspose):  # a place sees each `apart`th row and column of the kernel
        weight, apart = weight.transpose(0, 1).flip(2, 3), layer.stride
    else:
        dilation = layer.dilation
    last = weight.shape[-1] - 1
    parts: list[tuple[Tensor, int, int]] = []
    for top in range(step):
        for across in range(step):
            x = x_NCHW[len(parts) * share : (len(parts) + 1) * share]
            x = x if before is None else before(x)
            kernel = weight[:, :, (last - top) % apart :: apart, (last - across) % apart :: apart]
            down, right = (layer.padding,) * 2 if isinstance(layer, Conv) else (n - 1 for n in kernel.shape[2:])
            x = F.pad(x, (right - across // apart, right, down - top // apart, down))
            parts.append((F.conv2d(x, kernel, bias, step // apart, dilation=dilation), top, across))
    return Places(tuple(parts), step, (height, width))
