"""What families with styles share: layers made of tensors that the file has in another form, and the mean of w.

The codes of StyleGANs multiply weights by constants each time they run (equalised learning rates); here they are
multiplied once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface, NoiseMaps
from gan_core.latents import LatentLaw
from gan_core.spec import layers as L
from gan_core.spec.layers import Shape
from gan_export.families import Folded, NamedLayers, Network
from gan_trainer.networks.generator import build_layer

STYLES = "styles"
EPS = 1e-8
W_SAMPLES = 10_000
"""Latents whose w are averaged for a file without their mean."""
MEAN_NOTE = f"the mean of w, for psi, is not in the file: computed from the latents of {W_SAMPLES:,} seeds"

Fold = Callable[[Tensor], Tensor]


class Own(NamedTuple):
    """One tensor of a layer: the key and the shape that the file has it under, and what it is made by."""

    key: str
    shape: Shape
    fold: Fold | None = None


def part(layer: L.Layer, **own: Own) -> tuple[Folded, L.Layer]:
    """A layer with its tensors, each of one tensor of the file and as large as it."""

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = {name: held[key] if fold is None else fold(held[key]) for name, (key, _, fold) in own.items()}
        return {name: made[name].reshape(shape).contiguous() for name, shape in layer.tensors().items()}

    return Folded({each.key: each.shape for each in own.values()}, make), layer


def times(factor: float) -> Fold | None:
    """What multiplies a tensor."""
    return None if factor == 1 else lambda tensor: tensor * factor


def kernel(layer: L.ModulatedConv, factor: float = 1.0) -> Fold:
    """What makes the weight of `layer` of one (…, out, in, k, k), times a factor."""

    def made(weight: Tensor) -> Tensor:
        return (weight.transpose(-4, -3) if layer.up > 1 else weight) * factor

    return made


def dense(key: str, before: int, after: int, rate: float = 1.0) -> tuple[Folded, L.Layer]:
    """A linear layer with an equalised learning rate, times `rate`."""
    weight = Own(f"{key}.weight", (after, before), times(rate / math.sqrt(before)))
    return part(L.Linear(before, after), weight=weight, bias=Own(f"{key}.bias", (after,), times(rate)))


def noisy(layers: NamedLayers, interface: Interface, law: LatentLaw = "normal", **about: Any) -> Network:
    """A network with the noise of all layers as an input of this distribution, so that each image may have its own.
    `about` are further fields of it."""
    made, at = NamedLayers(), 0
    for where, layer in layers:
        if isinstance(layer, L.Noise):
            made.append((where, replace(layer, at=at)))
            at += layer.height * layer.width
        else:
            made.append((where, layer))
    return Network(made, replace(interface, noise_maps=NoiseMaps(at, law)) if at else interface, **about)


def mean_w(mapping: NamedLayers, interface: Interface) -> Folded:
    """w_avg of a file that lacks it: the mean over the latents of the first seeds, their classes in turn."""

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x = torch.from_numpy(interface.latents(range(W_SAMPLES)))
        label = torch.arange(W_SAMPLES) % max(interface.n_classes, 1)
        with torch.no_grad():
            for own, (_, layer) in zip(Network(mapping, interface).weights(held), mapping, strict=True):
                module = build_layer(layer, tuple(x.shape[1:]))
                module.load_state_dict(own)
                x = layer.apply(torch, module, x, *([label] if layer.classes else []))
        return {"w_avg": x.mean(dim=0)}

    return Folded({}, make)
