"""The generators of lucidrains: stylegan2_pytorch, without attention layers, and lightweight-gan.

stylegan2-lucidrains  its checkpoint holds the mapping network (SE) beside the generator (GE)
lightweight-gan       pixel shuffles, a blur, convolutions and gated linear units; attention at chosen sizes. From 16
                      pixels on, what a small image says of each channel multiplies the image 16 times as large: by a
                      softmax over its places (GlobalContext), or by its cosine transform (FCANet)

The noise that both add is a new image each time they run, from no seed: here it is one image for all, of seed 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface, Styles
from gan_core.latents import latents
from gan_core.spec import layers as L
from gan_export.families import IDENTITY, LEAKY, Family, Folded, NamedLayers, Network, Shapes, called, scaled
from gan_export.families.styles import EPS, MEAN_NOTE, STYLES, Own, mean_w, noisy, part, times

RATE = 0.1
NOISE = (
    "its noise is another for each picture, from no seed: here it is one image of {} for all, or that of "
    "each seed with gan-gen --noise seed"
)


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
            NOISE.format("U(0, 1)"),
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


HEADS, HEAD = 8, 64
"""Of each attention, and the channels of a head."""
ATTENDED = HEADS * HEAD
EXCITED = {index: index + 3 for index in range(1, 5)}
"""Blocks whose image multiplies that of a later one, which is 16 times as large."""


class LightNumbers(NamedTuple):
    """channels: after each block, the first makes 8x8; attention: the blocks with it; cosine: whether the excitations
    are FCANet's."""

    z_dim: int
    channels: tuple[int, ...]
    image_channels: int
    attention: tuple[int, ...] = ()
    cosine: bool = False


class Lightweight(Family[LightNumbers]):
    """Generator of lightweight_gan.py."""

    name, source = "lightweight-gan", "lucidrains/lightweight-gan"

    def numbers(self, shapes: Shapes) -> Iterable[LightNumbers]:
        start, last = shapes["initial_conv.0.weight"], shapes["out_conv.weight"]
        convs = shapes.row((f"layers.{n}.0.2.1.weight" for n in range(9)), 4)
        if len(start) == len(last) == 4 and len(convs) > 1:
            attention = tuple(n for n in range(1, len(convs)) if shapes.rank(f"layers.{n}.2.norm.g", 4))
            cosine = shapes.rank("layers.1.1.dct_weights", 4)
            yield LightNumbers(start[0], tuple(conv[0] // 2 for conv in convs), last[0], attention, cosine)

    def network(self, numbers: LightNumbers) -> Network:
        n, side = numbers, 4 << len(numbers.channels)
        layers: NamedLayers = [
            ("", L.Reshape((n.z_dim, 1, 1))),
            ("initial_conv.0", L.ConvTranspose(n.z_dim, 2 * n.z_dim, 4)),
            ("initial_conv.1", L.BatchNorm(2 * n.z_dim)),
            ("", L.Glu()),
            ("", L.PixelNorm(0.0)),  # the code divides by the norm, which is larger by the root of z_dim
        ]
        excited = [(small, large) for small, large in EXCITED.items() if large < len(n.channels)]
        before = n.z_dim
        for index, out in enumerate(n.channels):
            if index in n.attention:
                layers = [*called(layers, f"a{index}in"), *_attention(f"layers.{index}.2", before, f"a{index}")]
            layers += _doubled(index, before, out)
            for small, large in excited:
                if small == index:
                    layers = called(layers, f"up{index}")
                    layers += _excitation(n, index, large)
                    layers.append(("", L.Load(f"up{index}")))
            layers += [("", L.Multiply(f"gate{small}")) for small, large in excited if large == index]
            before = out
        layers += [("out_conv", L.Conv(before, n.image_channels, 3, padding=1)), ("", IDENTITY)]
        interface = Interface(n.z_dim, (n.image_channels, side, side), value_range=(0.0, 1.0), noise=True)
        return noisy(layers, interface, notes=(NOISE.format("N(0, 1)"),))

    def sample(self, random: Random) -> LightNumbers:
        count = random.choice((2, 5, 6))
        channels = tuple(random.randint(1, 5) for _ in range(count))
        attention = (random.randint(1, min(count - 1, 2)),) if random.random() < 0.5 else ()
        z_dim = random.randint(2, 9)
        return LightNumbers(z_dim, channels, random.choice((1, 3, 4)), attention, count > 4 and random.random() < 0.5)


def _doubled(index: int, before: int, out: int) -> NamedLayers:
    """What doubles the image, from the shuffle of its pixels to the gated linear unit."""
    name, side = f"layers.{index}.0", 8 << index
    shuffled, made = L.Conv(before, 4 * before, 1), L.Noise(side, side)
    key = f"{name}.0.net.0"

    def noise(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = torch.from_numpy(latents([0], side * side)).reshape(side, side)
        return {"strength": held[f"{name}.3.weight"].reshape(()), "map": image}

    return [
        scaled(key, shuffled, 1 / math.sqrt(before)) if index == 0 else (key, shuffled),
        ("", L.Activation("silu")),
        ("", L.PixelShuffle(2)),
        ("", L.Pad((1, 1, 1, 1), "reflect")),
        part(L.Fir(3, separable=True), filter=Own(f"{name}.1.f", (3,), lambda taps: taps / taps.abs().sum())),
        ("", L.Pad((2, 1, 2, 1))),
        (f"{name}.2.1", L.Conv(before, 2 * out, 4)),
        (Folded({f"{name}.3.weight": (1,)}, noise), made),
        (f"{name}.4", L.BatchNorm(2 * out)),
        ("", L.Glu()),
    ]


def _excitation(n: LightNumbers, index: int, large: int) -> NamedLayers:
    """Of the running image, called "up…": what multiplies each channel of the block `large`, called "gate…"."""
    name, side, takes, makes = f"layers.{index}.1", 8 << index, n.channels[index], n.channels[large]
    between = max(3, makes // (4 if n.cosine else 2))
    pooled: NamedLayers
    if n.cosine:
        pooled = [part(L.Constant((takes, side, side)), value=Own(f"{name}.dct_weights", (1, takes, side, side)))]
    else:
        pooled = [
            (f"{name}.to_k", L.Conv(takes, 1, 1)),
            ("", L.Reshape((side * side,))),
            ("", L.Activation("softmax")),
            ("", L.Reshape((1, side, side))),
        ]
    return [
        *pooled,
        ("", L.Multiply(f"up{index}")),
        ("", L.AdaptivePool("avg", (1, 1))),
        scaled(f"{name}.net.0", L.Conv(takes, between, 1), side * side),  # a sum, not a mean
        ("", L.Activation("leaky_relu", slope=0.1)),
        (f"{name}.net.2", L.Conv(between, makes, 1)),
        ("", L.Activation("sigmoid", as_=f"gate{index}")),
    ]


def _attention(name: str, width: int, at: str) -> NamedLayers:
    """Two attentions beside each other, of the normed image, added to it (called "…in"): to
    all places, and to the nearest."""
    norm = part(
        L.ChannelNorm(width, as_=f"{at}norm"),
        weight=Own(f"{name}.norm.g", (1, width, 1, 1)),
        bias=Own(f"{name}.norm.b", (1, width, 1, 1)),
    )
    query, both = L.Conv(width, ATTENDED, 1, bias=False), L.Conv(width, 2 * ATTENDED, 1, bias=False)
    halves, kv = (("k", 0), ("v", ATTENDED)), both.tensors()["weight"]

    def values_scaled(weight: Tensor) -> Tensor:
        return torch.cat((weight[:ATTENDED], weight[ATTENDED:] * HEAD**-0.5))

    return [
        norm,
        (f"{name}.fn.to_lin_kv.net.0", L.Conv(width, width, 3, padding=1, groups=width, bias=False)),
        *called([part(both, weight=Own(f"{name}.fn.to_lin_kv.net.1.weight", kv, values_scaled))], f"{at}all"),
        *[("", L.Slice(start, start + ATTENDED, f"{at}all", as_=f"{at}all{own}")) for own, start in halves],
        ("", L.Load(f"{at}norm")),
        (f"{name}.fn.to_lin_q", query),
        ("", L.LinearAttention(HEADS, f"{at}allk", f"{at}allv")),
        ("", L.Activation("gelu", as_=f"{at}far")),
        ("", L.Load(f"{at}norm")),
        (f"{name}.fn.to_kv", replace(both, as_=f"{at}near")),
        *[("", L.Slice(start, start + ATTENDED, f"{at}near", as_=f"{at}near{own}")) for own, start in halves],
        ("", L.Load(f"{at}norm")),
        scaled(f"{name}.fn.to_q", query, HEAD**-0.5),
        ("", L.LocalAttention(HEADS, f"{at}neark", f"{at}nearv")),
        ("", L.Concat((f"{at}far", "x"))),
        (f"{name}.fn.to_out", L.Conv(2 * ATTENDED, width, 1)),
        ("", L.Add(f"{at}in")),
    ]
