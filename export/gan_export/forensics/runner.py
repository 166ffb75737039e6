"""Runs candidates from BatchNorm to BatchNorm, sharing what they have in common, and solves for the latent's moments.

Where only linear layers stand before the first BatchNorm, the mean of every channel is a known multiple of E[z] plus a
constant, and its variance a known multiple of Var[z] (components independent, one law) plus what its places differ by
on average. So a law that is neither N(0, 1) nor U(-1, 1) can be named: U(0, 1) has mean 0.5 and variance 0.083.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_core.spec.layers import Activation, Conv, ConvTranspose, Layer, Linear, PixelShuffle, Reshape, Shape, Upsample
from gan_export.draft import Draft
from gan_export.forensics.statistics import (
    Moments,
    apply_layer,
    label_batch,
    latent_batch,
    layer_weights,
    median_misfit,
    moments,
    remembered,
    symmetric_kl,
    witnesses,
)

SOME_CHANNELS = 64
"""Channels of a BatchNorm that a rough run computes where there are more: the median over them is about the same."""


class Runner:
    """Runs candidates over one segment: from the latent, or from what arrived at a BatchNorm, to the next BatchNorm.

    arrived  float32 (N, …), what arrived at layer `start`; None for the first segment, which starts with the latent
    rows     how many of those (or of the latents from `seed` on) to run

    The path of the last candidate is kept; the next one starts where its layers first differ. So run them in an
    order in which neighbours share their first layers. With `rough`, the last convolution computes some of its
    channels only, about `channels`, and convolutions that differ in their padding alone are run once, with all there
    is, and cut: right for many candidates on few rows.
    """

    def __init__(
        self, arrived: Tensor | None, start: int, rows: int, seed: int, *, rough: bool = False,
        channels: int = SOME_CHANNELS,
    ) -> None:  # fmt: skip
        self._rough, self._channels = rough, channels
        self._arrived = None if arrived is None else arrived[:rows]
        self._moments: Moments | None = None if arrived is None else moments(arrived, correction=0)
        self._start, self._rows, self._seed = start, rows, seed
        self._path: list[tuple[object, Tensor]] = []

    def misfits(self, draft: Draft, stop: int) -> Tensor:
        """How far what arrives at the BatchNorm at layer `stop` lies from what it remembers: float64 (channels run,),
        in nats, infinite where a number is not finite."""
        arrived, memory = moments(self.run(draft, stop)), remembered(draft, stop)
        every = len(memory.mean) // len(arrived.mean)
        memory = Moments(memory.mean[::every], memory.var[::every])
        return symmetric_kl(arrived, memory).nan_to_num(nan=float("inf"))

    def run(self, draft: Draft, stop: int) -> Tensor:
        """What arrives at layer `stop` in `draft`: float32 (rows, *shape), with `rough` every so manieth channel."""
        spec = draft.spec
        parts: list[_Part] = []
        thin = _last_convolution(spec.layers, self._start, stop) if self._rough else None
        every = 1
        for i in range(self._start, stop):
            layer, shape = spec.layers[i], spec.shapes[i]
            if i == thin:
                every = _every(layer, self._channels)
                layer = _thinned(layer, every)
            elif every > 1:
                shape = (shape[0] // every, *shape[1:])
            cut = widest(layer) if self._rough else None
            parts.append(_Part(i, shape, cut[0] if cut else layer, every=every if i == thin else 1))
            if cut:
                parts.append(_Part(i, shape, layer, cut[1], every if i == thin else 1))
        keys: list[object] = [(spec.interface.latent, spec.interface.z_dim), *parts]
        common = 0
        while common < min(len(keys), len(self._path)) and keys[common] == self._path[common][0]:
            common += 1
        del self._path[common:]
        if not self._path:
            x = self._arrived
            if x is None:
                x = latent_batch(spec.interface.z_dim, spec.interface.latent, self._rows, self._seed)
            self._path.append((keys[0], x))
        labels = label_batch(spec.interface.n_classes, self._rows)
        for part in parts[len(self._path) - 1 :]:
            x = self._path[-1][1]
            weights = _thinned_weights(part.layer, layer_weights(draft, part.index), part.every)
            if part.cut is not None:
                x = cut_out(x, part.cut, weights.get("bias"))
            else:
                arrived = self._moments if part.index == self._start else None
                x = apply_layer(part.layer, part.shape, weights, x, labels, arrived)
            self._path.append((part, x))
        return self._path[-1][1]


@dataclass(frozen=True)
class _Part:
    """One layer, or what is cut off (places at the start, at the end) of a convolution run with more padding; of the
    layer's channels each `every`th."""

    index: int
    shape: Shape
    layer: Layer
    cut: tuple[int, int] | None = None
    every: int = 1


def _last_convolution(layers: tuple[Layer, ...], start: int, stop: int) -> int | None:
    """The last convolution before layer `stop`, where only what keeps channels apart follows it; None where not."""
    for i in reversed(range(start, stop)):
        layer = layers[i]
        if isinstance(layer, (Conv, ConvTranspose)):
            return i if layer.groups == 1 else None
        apart = isinstance(layer, Activation) and layer.features == 1 and "softmax" not in layer.name
        if not (apart or isinstance(layer, Upsample)):
            return None
    return None


def _every(layer: Layer, channels: int) -> int:
    """Each how manieth channel of a convolution a rough run computes, for `channels` of them or a few more."""
    assert isinstance(layer, (Conv, ConvTranspose))
    least = max(1, layer.out_channels // channels)
    return next(n for n in range(least, 0, -1) if layer.out_channels % n == 0)


def _thinned(layer: Layer, every: int) -> Layer:
    assert isinstance(layer, (Conv, ConvTranspose))
    return layer if every == 1 else replace(layer, out_channels=layer.out_channels // every)


def _thinned_weights(layer: Layer, weights: dict[str, Tensor], every: int) -> dict[str, Tensor]:
    """Each `every`th output channel of a convolution's tensors."""
    if every == 1:
        return weights
    transposed = isinstance(layer, ConvTranspose)
    return {
        name: tensor[:, ::every] if transposed and name == "weight" else tensor[::every]
        for name, tensor in weights.items()
    }


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


_LINEAR = (Linear, Conv, ConvTranspose, Reshape, Upsample, PixelShuffle)


def latent_moments(draft: Draft, samples: int, seed: int) -> tuple[float, float, float] | None:
    """(mean, variance, misfit) of a component of z by least squares over channels and the median over channels, and how
    the first witness fits latents of these moments; None where it does not show them: an activation, a norm or a label
    stands before it."""
    spec, stop = draft.spec, witnesses(draft)[0]
    for layer in spec.layers[:stop]:
        if not isinstance(layer, _LINEAR) and not (isinstance(layer, Activation) and layer.name == "identity"):
            return None
    memory = remembered(draft, stop)

    def answer(value: float) -> Tensor:
        """What reaches each channel at each place, (C, places), when every component of z is `value`."""
        x = torch.full((1, spec.interface.z_dim), value)
        for i in range(stop):
            x = apply_layer(spec.layers[i], spec.shapes[i], layer_weights(draft, i), x, None, None)
        return x.transpose(0, 1).flatten(1).double()

    constant = answer(0.0)
    slope = answer(1.0) - constant
    means = slope.mean(dim=1)
    gap = memory.mean.double() - constant.mean(dim=1)
    mean = float((gap * means).sum() / means.square().sum().clamp_min(1e-30))

    def between_places(value: float) -> Tensor:
        """The part of a channel's variance that comes from its places differing on average."""
        return (constant + value * slope).var(dim=1, correction=0)

    arrived = moments(Runner(None, 0, samples, seed).run(draft, stop))
    unit = {"normal": 1.0, "uniform": 1.0 / 3.0}[spec.interface.latent]
    ratio = (memory.var.double() - between_places(mean)) / (arrived.var - between_places(0.0))
    times = float(ratio.median())
    var = between_places(mean) + times * (arrived.var - between_places(0.0))
    return mean, unit * times, median_misfit(Moments(constant.mean(dim=1) + mean * means, var), memory)
