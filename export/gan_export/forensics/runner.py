"""Runs candidates from one BatchNorm to the next, sharing what they have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_export.draft import Draft
from gan_export.forensics.divergence import Moments
from gan_export.forensics.statistics import apply_layer, label_batch, latent_batch, layer_weights, moments
from gan_trainer.layers import Conv, ConvTranspose, Layer, Shape


class Runner:
    """Runs candidates over one segment: from the latent, or from what arrived at a BatchNorm, to the next BatchNorm.

    arrived  float32 (N, …), what arrived at layer `start`; None for the first segment, which starts with the latent
    rows     how many of those (or of the latents from `seed` on) to run

    The path of the last candidate is kept; the next one starts where its layers first differ. So run them in an
    order in which neighbours share their first layers. With `widest`, convolutions that differ in their padding alone
    are run once, with all there is, and cut: right for many candidates on few rows.
    """

    def __init__(self, arrived: Tensor | None, start: int, rows: int, seed: int, *, widest: bool = False) -> None:
        self._widest = widest
        self._arrived = None if arrived is None else arrived[:rows]
        self._moments: Moments | None = None if arrived is None else moments(arrived, correction=0)
        self._start, self._rows, self._seed = start, rows, seed
        self._path: list[tuple[object, Tensor]] = []

    def run(self, draft: Draft, stop: int) -> Tensor:
        """What arrives at layer `stop` in `draft`: float32 (rows, *shape)."""
        spec = draft.spec
        parts: list[_Part] = []
        for i in range(self._start, stop):
            cut = widest(spec.layers[i]) if self._widest else None
            parts.append(_Part(i, spec.shapes[i], cut[0] if cut else spec.layers[i]))
            if cut:
                parts.append(_Part(i, spec.shapes[i], spec.layers[i], cut[1]))
        keys: list[object] = [(spec.latent, spec.z_dim), *parts]
        common = 0
        while common < min(len(keys), len(self._path)) and keys[common] == self._path[common][0]:
            common += 1
        del self._path[common:]
        if not self._path:
            x = self._arrived
            if x is None:
                x = latent_batch(spec.z_dim, spec.latent, self._rows, self._seed)
            self._path.append((keys[0], x))
        labels = label_batch(spec.n_classes, self._rows)
        for part in parts[len(self._path) - 1 :]:
            x = self._path[-1][1]
            if part.cut is not None:
                x = cut_out(x, part.cut, layer_weights(draft, part.index).get("bias"))
            else:
                arrived = self._moments if part.index == self._start else None
                x = apply_layer(part.layer, part.shape, layer_weights(draft, part.index), x, labels, arrived)
            self._path.append((part, x))
        return self._path[-1][1]


@dataclass(frozen=True)
class _Part:
    """One layer, or what is cut off (places at the start, at the end) of a convolution run with more padding."""

    index: int
    shape: Shape
    layer: Layer
    cut: tuple[int, int] | None = None


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
