"""StyleGAN 2 as rosinality writes it in PyTorch, trained there or converted from NVlabs' TensorFlow files.

Sizes, depths and filters are in the shapes; that the mapping network learns at 0.01 of the rate is the code's default.
A converted file has the mean of w beside the generator (latent_avg); of another it is computed, as its generate.py does
each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import NamedTuple

from gan_core.interface import Interface, Styles
from gan_core.spec import layers as L
from gan_core.spec.layers import Shape
from gan_export.families import Family, Folded, NamedLayers, Network, Shapes, called
from gan_export.families.styles import EPS, MEAN_NOTE, STYLES, Own, dense, kernel, mean_w, noisy, part, times

RATE = 0.01
AVERAGE = "latent_avg"
ACTIVATION = L.Activation("leaky_relu", slope=0.2, gain=math.sqrt(2))


class Numbers(NamedTuple):
    """depth: layers of the mapping network; channels: at 4x4, 8x8 and so on; taps: of the filters, a side."""

    w_dim: int
    depth: int
    channels: tuple[int, ...]
    taps: int = 4
    average: bool = False


class Rosinality(Family[Numbers]):
    """Generator of model.py."""

    name, source = "stylegan2-rosinality", "rosinality/stylegan2-pytorch"

    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        mapping = shapes.row((f"style.{n + 1}.weight" for n in range(64)), 2)
        convs = shapes.row((f"convs.{2 * n + 1}.conv.weight" for n in range(9)), 5)
        taps = shapes["convs.0.conv.blur.kernel"]
        if mapping and convs and len(taps) == 2 and shapes.rank("input.input", 4):
            channels = (shapes["input.input"][1], *(shape[1] for shape in convs))
            yield Numbers(mapping[0][1], len(mapping), channels, taps[0], shapes.rank(AVERAGE, 1))

    def network(self, numbers: Numbers) -> Network:
        n, w_dim, side = numbers, numbers.w_dim, 2 << len(numbers.channels)
        count, first = 2 * len(n.channels), n.channels[0]
        interface = Interface(w_dim, (3, side, side), styles=Styles(w_dim, count), noise=True)
        mapping: NamedLayers = [("", L.PixelNorm(EPS))]
        for index in range(n.depth):
            mapping += [dense(f"style.{index + 1}", w_dim, w_dim, RATE), ("", ACTIVATION)]
        styles = L.Styles(w_dim, count, as_=STYLES)
        average = part(styles, w_avg=Own(AVERAGE, (w_dim,))) if n.average else (mean_w(mapping, interface), styles)
        layers: NamedLayers = [
            *mapping,
            average,
            part(L.Constant((first, 4, 4)), value=Own("input.input", (1, first, 4, 4))),
            *called(_conv("conv1", 0, n, first, first, 4), "x4"),
            *_rgb("to_rgb1", 1, n, first),
        ]
        for index, (before, out) in enumerate(pairwise(n.channels)):
            side, row = 8 << index, 2 * index + 1
            upsampled = part(_up(n.taps), filter=Own(f"to_rgbs.{index}.upsample.kernel", (n.taps, n.taps)))
            layers += called([upsampled], f"rgb{side // 2}")
            layers.append(("", L.Load(f"x{side // 2}")))
            layers += _conv(f"convs.{2 * index}", row, n, before, out, side, up=True)
            layers += called(_conv(f"convs.{2 * index + 1}", row + 1, n, out, out, side), f"x{side}")
            layers += [*_rgb(f"to_rgbs.{index}", row + 2, n, out), ("", L.Add(f"rgb{side // 2}"))]
        learnt = f"the learning rate {RATE:g} of the mapping network is the default of {self.source}"
        return noisy(layers, interface, notes=(learnt, *([] if n.average else [MEAN_NOTE])))

    def sample(self, random: Random) -> Numbers:
        channels = tuple(random.randint(1, 6) for _ in range(random.randint(2, 4)))
        return Numbers(
            random.randint(2, 9), random.randint(1, 3), channels, random.choice((2, 4)), random.random() < 0.5
        )


def _up(taps: int) -> L.Fir:
    return L.Fir(taps, up=2, borders=((taps - 1) // 2 + 1, (taps - 2) // 2) * 2)


def _conv(name: str, row: int, n: Numbers, before: int, out: int, side: int, *, up: bool = False) -> NamedLayers:
    layers = [_modulated(name, L.ModulatedConv(before, out, 3, STYLES, row, n.w_dim, up=2 if up else 1))]
    if up:
        over = n.taps - 4
        fir = L.Fir(n.taps, borders=((over + 1) // 2 + 1, over // 2 + 1) * 2)
        layers.append(part(fir, filter=Own(f"{name}.conv.blur.kernel", (n.taps, n.taps))))
    index = 0 if name == "conv1" else int(name.removeprefix("convs.")) + 1
    noise = Own(f"noises.noise_{index}", (1, 1, side, side))
    return [
        *layers,
        part(L.Noise(side, side), strength=Own(f"{name}.noise.weight", (1,)), map=noise),
        part(L.Bias(out), bias=Own(f"{name}.activate.bias", (out,))),
        ("", ACTIVATION),
    ]


def _rgb(name: str, row: int, n: Numbers, before: int) -> NamedLayers:
    made = L.ModulatedConv(before, 3, 1, STYLES, row, n.w_dim, demodulate=False)
    return [_modulated(name, made), part(L.Bias(3), bias=Own(f"{name}.bias", (1, 3, 1, 1)))]


def _modulated(name: str, made: L.ModulatedConv) -> tuple[Folded, L.Layer]:
    k, before = made.kernel, made.in_channels
    shape: Shape = (1, made.out_channels, before, k, k)
    return part(
        made,
        weight=Own(f"{name}.conv.weight", shape, kernel(made, 1 / math.sqrt(before * k * k))),
        affine_weight=Own(f"{name}.conv.modulation.weight", (before, made.w_dim), times(1 / math.sqrt(made.w_dim))),
        affine_bias=Own(f"{name}.conv.modulation.bias", (before,)),
    )
