"""StyleGAN 2 as lucidrains writes it: stylegan2_pytorch, without attention layers.

Its checkpoint holds the mapping network (SE) beside the generator (GE). Its noise is an image of U(0, 1) for each
picture, from no seed: here it is one image for all, of seed 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface, Styles
from gan_core.latents import latents
from gan_core.spec import layers as L
from gan_export.families import LEAKY, Family, Folded, NamedLayers, Network, Shapes
from gan_export.families.styles import EPS, MEAN_NOTE, STYLES, Own, called, mean_w, noisy, part, times

RATE = 0.1


class Numbers(NamedTuple):
    """channels: of the start, and after each block."""

    w_dim: int
    depth: int
    image_channels: int
    channels: tuple[int, ...]


class Lucidrains(Family[Numbers]):
    """Generator and StyleVectorizer of stylegan2_pytorch.py."""

    name, source = "stylegan2-lucidrains", "lucidrains/stylegan2-pytorch"

    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        mapping = shapes.row((f"S.net.{2 * n}.weight" for n in range(64)), 2)
        blocks = shapes.row((f"blocks.{n}.conv2.weight" for n in range(10)), 4)
        rgb = shapes["blocks.0.to_rgb.conv.weight"]
        if mapping and blocks and len(rgb) == 4 and shapes.rank("initial_block", 4):
            channels = (shapes["initial_block"][1], *(shape[0] for shape in blocks))
            yield Numbers(mapping[0][1], len(mapping), rgb[0], channels)

    def network(self, numbers: Numbers) -> Network:
        n, w_dim, count = numbers, numbers.w_dim, len(numbers.channels) - 1
        side, first = 2 << count, n.channels[0]
        interface = Interface(
            w_dim, (n.image_channels, side, side), value_range=(0.0, 1.0), styles=Styles(w_dim, count), noise=True
        )
        mapping: NamedLayers = [("", L.PixelNorm(EPS))]
        for index in range(n.depth):
            key, unit = f"S.net.{2 * index}", 1 / math.sqrt(w_dim) if index == 0 else 1.0
            weight = Own(f"{key}.weight", (w_dim, w_dim), times(RATE * unit))
            mapping.append(part(L.Linear(w_dim, w_dim), weight=weight, bias=Own(f"{key}.bias", (w_dim,), times(RATE))))
            mapping.append(("", LEAKY))
        layers: NamedLayers = [
            *mapping,
            (mean_w(mapping, interface), L.Styles(w_dim, count, as_=STYLES)),
            part(L.Constant((first, 4, 4)), value=Own("initial_block", (1, first, 4, 4))),
            ("initial_conv", L.Conv(first, first, 3, padding=1)),
        ]
        for index in range(count):
            layers += _block(n, index, side)
        notes = (
            f"the learning rate {RATE:g} of the mapping network is the default of {self.source}",
            "its noise is another for each picture, from no seed: here it is one image of U(0, 1) for all, or that of "
            "each seed with gan-gen --noise seed",
            MEAN_NOTE,
        )
        return noisy(layers, interface, "uniform", notes=notes)

    def sample(self, random: Random) -> Numbers:
        channels = tuple(random.randint(2, 6) for _ in range(random.randint(3, 4)))
        return Numbers(random.randint(2, 9), random.randint(1, 3), random.choice((3, 4)), channels)


def _block(n: Numbers, index: int, side: int) -> NamedLayers:
    name, before, out, last = f"blocks.{index}", n.channels[index], n.channels[index + 1], index == len(n.channels) - 2
    upsampled, layers, size = L.Upsample(2, "bilinear"), NamedLayers(), 4 << index
    if index:
        layers += [("", L.Load(f"x{index - 1}")), ("", upsampled)]
    for number, width in ((1, before), (2, out)):
        made = L.ModulatedConv(width, out, 3, STYLES, index, n.w_dim)
        noise = L.Noise(size, size, channels=out)
        layers += [
            _modulated(f"{name}.conv{number}", f"{name}.to_style{number}", made),
            (_noise(f"{name}.to_noise{number}.weight", side, noise), noise),
            part(L.Bias(out), bias=Own(f"{name}.to_noise{number}.bias", (out,))),
            ("", LEAKY),
        ]
    layers = called(layers, f"x{index}")
    rgb = L.ModulatedConv(out, n.image_channels, 1, STYLES, index, n.w_dim, demodulate=False)
    layers.append(_modulated(f"{name}.to_rgb.conv", f"{name}.to_rgb.to_style", rgb))
    if index:
        layers.append(("", L.Add(f"rgb{index - 1}")))
    if not last:
        blur = part(
            L.Fir(3, separable=True), filter=Own(f"{name}.to_rgb.upsample.1.f", (3,), lambda taps: taps / taps.sum())
        )
        layers += [("", upsampled), ("", L.Pad((1, 1, 1, 1), "reflect")), *called([blur], f"rgb{index}")]
    return layers


def _modulated(conv: str, style: str, made: L.ModulatedConv) -> tuple[Folded, L.Layer]:
    return part(
        made,
        weight=Own(f"{conv}.weight", made.tensors()["weight"]),
        affine_weight=Own(f"{style}.weight", (made.in_channels, made.w_dim)),
        affine_bias=Own(f"{style}.bias", (made.in_channels,), lambda bias: bias + 1),
    )


def _noise(key: str, side: int, layer: L.Noise) -> Folded:
    """The strengths of the file, and the corner of the image of noise that a layer of its size takes, transposed."""

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = torch.from_numpy(latents([0], side * side, "uniform")).reshape(side, side) / 2 + 0.5
        return {"strength": held[key].reshape(-1), "map": image[: layer.height, : layer.width].T.contiguous()}

    return Folded({key: (layer.channels, 1)}, make)
