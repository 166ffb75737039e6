"""GFPGAN, clean architecture (TencentARC/GFPGAN: GFPGANv1Clean, the files v1.2 to v1.4): a face restored.

A U-Net makes of a blurred face a style for each layer of a StyleGAN 2, and maps that scale and shift half of its
features at each size (or all of them). The code multiplies what a modulated convolution makes by the root of 2; here
the activation after it does, and noise and bias are divided by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import LEAKY, Family, Folded, NamedLayers, Network, Shapes, called
from gan_export.families.styles import STYLES, Own, part, times

ROOT = math.sqrt(2)
SCALED = L.Activation("leaky_relu", slope=0.2, gain=ROOT)
DECODER = "stylegan_decoder"
NOTES = (
    "its noise is random each time the author's code runs: here it is the noise that the file has "
    "(randomize_noise=False)",
    "that the styles go into the layers as they are (input_is_latent=True) is what the author's scripts choose",
)


class Numbers(NamedTuple):
    """widths: channels of the U-Net at 4x4, 8x8 and so on, of which the decoder has twice as many; mlp: layers of the
    decoder's mapping network, which does not run; half: whether the maps are of half of the features."""

    w_dim: int
    widths: tuple[int, ...]
    mlp: int = 8
    half: bool = True


class GfpGan(Family[Numbers]):
    """GFPGANv1Clean of gfpganv1_clean_arch.py."""

    name, source = "gfpgan-clean", "TencentARC/GFPGAN clean"

    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        ups = shapes.row((f"conv_body_up.{n}.conv2.weight" for n in range(9)), 4)
        mapping = shapes.row((f"{DECODER}.style_mlp.{2 * n + 1}.weight" for n in range(64)), 2)
        first, scale = shapes["final_conv.weight"], shapes["condition_scale.0.2.weight"]
        if ups and mapping and len(first) == len(scale) == 4:
            widths = (first[0], *(shape[0] for shape in ups))
            yield Numbers(mapping[0][1], widths, len(mapping), scale[0] == widths[1])

    def network(self, numbers: Numbers) -> Network:
        n, side, first = numbers, 2 << len(numbers.widths), 2 * numbers.widths[0]
        beside: dict[str, L.Shape] = {}
        layers = [
            *_unet(n),
            part(L.Constant((first, 4, 4)), value=Own(f"{DECODER}.constant_input.weight", (1, first, 4, 4))),
            *called(_conv(f"{DECODER}.style_conv1", 0, n, first, first), "y4"),
            *_rgb(f"{DECODER}.to_rgb1", 1, n, first),
        ]
        for index, width in enumerate(n.widths[1:]):
            before, out, row, size = 2 * n.widths[index], 2 * width, 2 * index + 1, 8 << index
            conv = f"{DECODER}.style_convs.{{}}"
            layers += called([("", L.Upsample(2, "bilinear"))], f"rgb{size // 2}")
            layers += [*_maps(n, index), ("", L.Load(f"y{size // 2}")), ("", L.Upsample(2, "bilinear"))]
            layers += called(_conv(conv.format(2 * index), row, n, before, out), f"all{index}")
            layers += _shifted(n, index)
            layers += called(_conv(conv.format(2 * index + 1), row + 1, n, out, out), f"y{size}")
            layers += [*_rgb(f"{DECODER}.to_rgbs.{index}", row + 2, n, out), ("", L.Add(f"rgb{size // 2}"))]
            beside |= {f"toRGB.{index}.weight": (3, width, 1, 1), f"toRGB.{index}.bias": (3,)}
        for index in range(n.mlp):
            name = f"{DECODER}.style_mlp.{2 * index + 1}"
            beside |= {f"{name}.weight": (n.w_dim, n.w_dim), f"{name}.bias": (n.w_dim,)}
        interface = Interface(0, (3, side, side), noise=True, input=ImageInput(3, (-1.0, 1.0), fixed=True))
        return Network(layers, interface, beside=beside, notes=NOTES)

    def sample(self, random: Random) -> Numbers:
        widths = tuple(random.randint(1, 5) for _ in range(random.randint(2, 4)))
        return Numbers(random.randint(2, 9), widths, random.randint(1, 3), random.random() < 0.7)


def _unet(n: Numbers) -> NamedLayers:
    """From the face to the styles; the features on the way up are called f4, f8 …"""
    last, first = len(n.widths) - 1, n.widths[0]
    layers: NamedLayers = [("conv_body_first", L.Conv(3, n.widths[last], 1)), *called([("", LEAKY)], "first")]
    halved, doubled = L.Pool("avg", (2, 2), (2, 2)), L.Upsample(2, "bilinear")  # both are bilinear interpolations
    for index in range(last):
        place, entry = last - index, f"d{4 << (last - index)}" if index else "first"
        down = f"conv_body_down.{index}"
        layers += _block(down, n.widths[place], n.widths[place - 1], halved, entry, f"d{2 << place}")
    layers += [("final_conv", L.Conv(first, first, 3, padding=1)), *called([("", LEAKY)], "f4")]
    for index in range(last):
        entry, up = f"u{4 << index}", f"conv_body_up.{index}"
        layers.append(("", L.Add(f"d{4 << index}", as_=entry)))
        layers += _block(up, n.widths[index], n.widths[index + 1], doubled, entry, f"f{8 << index}")
    rows = 2 * len(n.widths)
    layers += [("", L.Load("f4")), ("", L.Reshape((16 * first,)))]
    layers.append(("final_linear", L.Linear(16 * first, rows * n.w_dim)))
    return [*layers, ("", L.Reshape((rows, n.w_dim), as_=STYLES))]


def _block(name: str, before: int, out: int, resized: L.Layer, entry: str, made: str) -> NamedLayers:
    """A residual block that changes the size, of the running value, which is called `entry`."""
    return [
        (f"{name}.conv1", L.Conv(before, before, 3, padding=1)),
        ("", LEAKY),
        ("", resized),
        (f"{name}.conv2", L.Conv(before, out, 3, padding=1)),
        *called([("", LEAKY)], f"{made}main"),
        ("", L.Load(entry)),
        ("", resized),
        (f"{name}.skip", L.Conv(before, out, 1, bias=False)),
        *called([("", L.Add(f"{made}main"))], made),
    ]


def _maps(n: Numbers, index: int) -> NamedLayers:
    """The maps that scale and shift the decoder's features at a size."""
    width, layers = n.widths[index + 1], NamedLayers()
    makes = width if n.half else 2 * width
    for what in ("scale", "shift"):
        name = f"condition_{what}.{index}"
        layers += [
            ("", L.Load(f"f{8 << index}")),
            (f"{name}.0", L.Conv(width, width, 3, padding=1)),
            ("", LEAKY),
            (f"{name}.2", L.Conv(width, makes, 3, padding=1, as_=f"{what}{index}")),
        ]
    return layers


def _shifted(n: Numbers, index: int) -> NamedLayers:
    """The running features, called "all…", of which the second half, or all, are scaled and shifted."""
    width, moved = n.widths[index + 1], NamedLayers([("", L.Multiply(f"scale{index}")), ("", L.Add(f"shift{index}"))])
    if not n.half:
        return moved
    same = f"same{index}"
    return [
        ("", L.Slice(0, width, as_=same)),
        ("", L.Slice(width, 2 * width, f"all{index}")),
        *moved,
        ("", L.Concat((same, "x"))),
    ]


def _conv(name: str, row: int, n: Numbers, before: int, out: int) -> NamedLayers:
    index = 0 if name.endswith("style_conv1") else int(name.rpartition(".")[2]) + 1
    side = 4 << (index + 1) // 2
    made = L.ModulatedConv(before, out, 3, STYLES, row, n.w_dim)
    noise = Own(f"{DECODER}.noises.noise{index}", (1, 1, side, side))
    return [
        _modulated(name, made),
        part(L.Noise(side, side), strength=Own(f"{name}.weight", (1,), times(1 / ROOT)), map=noise),
        part(L.Bias(out), bias=Own(f"{name}.bias", (1, out, 1, 1), times(1 / ROOT))),
        ("", SCALED),
    ]


def _rgb(name: str, row: int, n: Numbers, before: int) -> NamedLayers:
    made = L.ModulatedConv(before, 3, 1, STYLES, row, n.w_dim, demodulate=False)
    return [_modulated(name, made), part(L.Bias(3), bias=Own(f"{name}.bias", (1, 3, 1, 1)))]


def _modulated(name: str, made: L.ModulatedConv) -> tuple[Folded, L.Layer]:
    style, k = f"{name}.modulated_conv.modulation", made.kernel
    return part(
        made,
        weight=Own(f"{name}.modulated_conv.weight", (1, made.out_channels, made.in_channels, k, k)),
        affine_weight=Own(f"{style}.weight", (made.in_channels, made.w_dim)),
        affine_bias=Own(f"{style}.bias", (made.in_channels,)),
    )
