"""Mean and variance of the latent, solved from the first BatchNorm where only linear layers stand before it.

There the mean of every channel is a known multiple of E[z] plus a constant, and its variance a known multiple of
Var[z] (components independent, one law) plus what its places differ by on average. So a law that is neither N(0, 1) nor
U(-1, 1) can be named: U(0, 1) has mean 0.5 and variance 0.083.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_core.spec.layers import Activation, Conv, ConvTranspose, Linear, PixelShuffle, Reshape, Upsample
from gan_export.draft import Draft
from gan_export.forensics.divergence import Moments, median_misfit
from gan_export.forensics.runner import Runner
from gan_export.forensics.statistics import apply_layer, layer_weights, moments, remembered, witnesses

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
