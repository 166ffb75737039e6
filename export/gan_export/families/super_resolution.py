"""Super-resolvers: networks that take an image of any size and make a larger one of it.

rrdb        ESRGAN and Real-ESRGAN (xinntao/ESRGAN, XPixelGroup/BasicSR): dense blocks within residual ones. Three
            generations of code name the same layers in three ways
srvgg       SRVGGNetCompact (xinntao/Real-ESRGAN): a row of convolutions, a pixel shuffle, the enlarged input added
msrresnet   MSRResNet (XPixelGroup/BasicSR): residual blocks without norms
srgan       leftthomas/SRGAN: residual blocks with BatchNorms
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import (
    DEEPEST,
    LEAKY,
    RELU,
    TANH,
    Family,
    NamedLayers,
    Network,
    Shapes,
    of_images,
    scaled,
)

RESIDUAL = 0.2
"""What ESRGAN's code multiplies each residual by."""
LEAKY_01 = L.Activation("leaky_relu", slope=0.1)
SIDE = 32
"""Of the example that shapes are given for."""


def enlarging(layers: NamedLayers, channels: tuple[int, int], scale: int, *, multiple_of: int = 1) -> Network:
    """A super-resolver with input and output values in [0, 1]; `channels` that it takes and makes."""
    taken = ImageInput(channels[0], (0.0, 1.0), scale, multiple_of)
    return of_images(
        layers, Interface(0, (channels[1], SIDE * scale, SIDE * scale), value_range=(0.0, 1.0), input=taken)
    )


class Dialect(NamedTuple):
    """How a generation of the code names its layers: `block` takes a block's number, `dense` one of its three parts and
    the number of a convolution."""

    first: str
    block: str
    dense: str
    trunk: str
    ups: tuple[str, ...]
    last: tuple[str, str]


def dialect(kind: str, blocks: int, ups: int) -> Dialect:
    """The names for so many blocks and upsamplings."""
    if kind == "model":  # one Sequential: an upsampling, its convolution and its activation are three places in it
        numbers = [f"model.{3 + 3 * up}" for up in range(ups)]
        last = (f"model.{2 + 3 * ups}", f"model.{4 + 3 * ups}")
        return Dialect("model.0", "model.1.sub.{}", "RDB{}.conv{}.0", f"model.1.sub.{blocks}", tuple(numbers), last)
    if kind == "RRDB_trunk":
        names = tuple(f"upconv{1 + up}" for up in range(ups))
        return Dialect("conv_first", "RRDB_trunk.{}", "RDB{}.conv{}", "trunk_conv", names, ("HRconv", "conv_last"))
    names = tuple(f"conv_up{1 + up}" for up in range(ups))
    return Dialect("conv_first", "body.{}", "rdb{}.conv{}", "conv_body", names, ("conv_hr", "conv_last"))


class Rrdb(NamedTuple):
    """`unshuffle` is 2 or 4 where the input's pixels become channels first, so that x2 and x1 take no more work."""

    kind: str
    channels: int
    made: int
    features: int
    growth: int
    blocks: int
    ups: int = 2
    unshuffle: int = 1


class EsrGan(Family[Rrdb]):
    name = "esrgan"
    source = "xinntao/ESRGAN, Real-ESRGAN"

    def numbers(self, shapes: Shapes) -> Iterator[Rrdb]:
        for kind in ("model", "RRDB_trunk", "body"):
            counted = dialect(kind, 0, 0)
            part = counted.dense.format(1, 1)
            blocks = len(shapes.row((f"{counted.block.format(i)}.{part}.weight" for i in range(DEEPEST)), 4))
            first, growth = shapes[f"{counted.first}.weight"], shapes[f"{counted.block.format(0)}.{part}.weight"]
            if not blocks or len(first) != 4:
                continue
            for ups in range(4):
                made = shapes[f"{dialect(kind, blocks, ups).last[1]}.weight"]
                if len(made) != 4:
                    continue
                for unshuffle in (1, 2, 4):
                    channels, rest = divmod(first[1], unshuffle**2)
                    if not rest and channels == made[0]:
                        yield Rrdb(kind, channels, made[0], first[0], growth[0], blocks, ups, unshuffle)

    def network(self, numbers: Rrdb) -> Network:
        kind, channels, made, features, growth, blocks, ups, unshuffle = numbers
        names = dialect(kind, blocks, ups)
        layers: NamedLayers = [("", L.PixelUnshuffle(unshuffle))] if unshuffle > 1 else []
        layers.append((names.first, L.Conv(channels * unshuffle**2, features, 3, padding=1, as_="first")))
        entry = "first"
        for block in range(blocks):
            here = f"b{block}"
            for part in (1, 2, 3):
                layers += self._dense(f"{names.block.format(block)}.{names.dense}", part, entry, here, features, growth)
                entry = f"{here}r{part}"
            before = "first" if block == 0 else f"b{block - 1}"
            layers += [("", L.Load(before)), ("", L.Add(f"{here}r3", scale=RESIDUAL, as_=here))]
            entry = here
        layers += [(names.trunk, L.Conv(features, features, 3, padding=1)), ("", L.Add("first"))]
        for up in names.ups:
            layers += [("", L.Upsample(2)), (up, L.Conv(features, features, 3, padding=1)), ("", LEAKY)]
        layers += [
            (names.last[0], L.Conv(features, features, 3, padding=1)),
            ("", LEAKY),
            (names.last[1], L.Conv(features, made, 3, padding=1)),
        ]
        return enlarging(layers, (channels, made), 2**ups // unshuffle, multiple_of=unshuffle)

    def _dense(self, name: str, part: int, entry: str, here: str, features: int, growth: int) -> NamedLayers:
        """Five convolutions, each of all that was made before; the last one's result is a residual."""
        layers: NamedLayers = []
        seen = [entry]
        for number in range(1, 6):
            takes = features + (number - 1) * growth
            if number > 1:
                layers.append(("", L.Concat(tuple(seen))))
            conv = L.Conv(takes, growth if number < 5 else features, 3, padding=1)
            if number == 5:
                layers.append(scaled(name.format(part, number), conv, RESIDUAL, RESIDUAL))
                continue
            seen.append(f"{here}r{part}x{number}")
            act = L.Activation("leaky_relu", slope=0.2, as_=seen[-1])
            layers += [(name.format(part, number), conv), ("", act)]
        return [*layers, ("", L.Add(entry, as_=f"{here}r{part}"))]

    def sample(self, random: Random) -> Rrdb:
        kind = random.choice(("model", "RRDB_trunk", "body"))
        unshuffle = random.choice((1, 2, 4)) if kind == "body" else 1
        ups = random.randint(0, 3) if kind == "model" else 2
        channels = random.choice(IMAGE_CHANNELS)
        sizes = random.randint(2, 8), random.randint(1, 4), random.randint(1, 3)
        return Rrdb(kind, channels, channels, *sizes, ups, unshuffle)


class Compact(NamedTuple):
    channels: int
    features: int
    convs: int
    scale: int
    prelu: bool = True


class SrVgg(Family[Compact]):
    name = "srvgg"
    source = "xinntao/Real-ESRGAN SRVGGNetCompact"

    def numbers(self, shapes: Shapes) -> Iterator[Compact]:
        convs = shapes.row((f"body.{2 * number}.weight" for number in range(DEEPEST)), 4)
        if len(convs) < 2:
            return
        channels, scale = convs[0][1], math.isqrt(max(convs[-1][0] // max(convs[0][1], 1), 1))
        yield Compact(channels, convs[0][0], len(convs) - 2, scale, shapes.rank("body.1.weight", 1))

    def network(self, numbers: Compact) -> Network:
        channels, features, convs, scale, prelu = numbers
        activation = L.Activation("prelu", features=features) if prelu else RELU
        layers: NamedLayers = []
        for number in range(convs + 1):
            takes = features if number else channels
            layers.append((f"body.{2 * number}", L.Conv(takes, features, 3, padding=1)))
            layers.append((f"body.{2 * number + 1}" if prelu else "", activation))
        layers += [
            (f"body.{2 * convs + 2}", L.Conv(features, channels * scale**2, 3, padding=1)),
            ("", L.PixelShuffle(scale, as_="residual")),
            ("", L.Load("input")),
            ("", L.Upsample(scale)),
            ("", L.Add("residual")),
        ]
        return replace(enlarging(layers, (channels, channels), scale), questions=() if prelu else ("activation",))

    def sample(self, random: Random) -> Compact:
        sizes = random.randint(2, 12), random.randint(0, 4), random.randint(1, 4)
        return Compact(random.choice(IMAGE_CHANNELS), *sizes, random.random() < 0.8)


class Residual(NamedTuple):
    channels: int
    features: int
    blocks: int
    scale: int


class MsrResNet(Family[Residual]):
    name = "msrresnet"
    source = "XPixelGroup/BasicSR MSRResNet"

    def numbers(self, shapes: Shapes) -> Iterator[Residual]:
        first, up = shapes["conv_first.weight"], shapes["upconv1.weight"]
        blocks = len(shapes.row((f"body.{number}.conv1.weight" for number in range(DEEPEST)), 4))
        if len(first) == len(up) == 4 and blocks and first[0]:
            scale = 4 if shapes.rank("upconv2.weight", 4) else math.isqrt(up[0] // first[0])
            yield Residual(first[1], first[0], blocks, scale)

    def network(self, numbers: Residual) -> Network:
        channels, features, blocks, scale = numbers
        layers: NamedLayers = [
            ("conv_first", L.Conv(channels, features, 3, padding=1)),
            ("", L.Activation("leaky_relu", slope=0.1, as_="b0")),
        ]
        for block in range(blocks):
            layers += [
                (f"body.{block}.conv1", L.Conv(features, features, 3, padding=1)),
                ("", RELU),
                (f"body.{block}.conv2", L.Conv(features, features, 3, padding=1)),
                ("", L.Add(f"b{block}", as_=f"b{block + 1}")),
            ]
        for number, factor in enumerate((2, 2) if scale == 4 else (scale,), 1):
            layers += [
                (f"upconv{number}", L.Conv(features, features * factor**2, 3, padding=1)),
                ("", L.PixelShuffle(factor)),
                ("", LEAKY_01),
            ]
        layers += [
            ("conv_hr", L.Conv(features, features, 3, padding=1)),
            ("", LEAKY_01),
            ("conv_last", L.Conv(features, channels, 3, padding=1, as_="residual")),
            ("", L.Load("input")),
            ("", L.Upsample(scale, "bilinear")),
            ("", L.Add("residual")),
        ]
        return enlarging(layers, (channels, channels), scale)

    def sample(self, random: Random) -> Residual:
        scale = random.choice((2, 3, 4))
        return Residual(random.choice(IMAGE_CHANNELS), random.randint(2, 8), random.randint(1, 4), scale)


class LeftthomasSrGan(Family[Sequence[int]]):
    """`numbers` are the channels, the features, and how many times it doubles."""

    name = "leftthomas-srgan"
    source = "leftthomas/SRGAN"

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, int, int]]:
        first = shapes["block1.0.weight"]
        ups = len(shapes.row((f"block8.{number}.conv.weight" for number in range(DEEPEST)), 4))
        if len(first) == 4 and shapes.rank("block7.1.running_mean", 1):
            yield first[1], first[0], ups

    def network(self, numbers: Sequence[int]) -> Network:
        channels, features, ups = numbers
        prelu = L.Activation("prelu")
        layers: NamedLayers = [
            ("block1.0", L.Conv(channels, features, 9, padding=4)),
            ("block1.1", L.Activation("prelu", as_="b1")),
        ]
        for block in range(2, 7):
            layers += [
                (f"block{block}.conv1", L.Conv(features, features, 3, padding=1)),
                (f"block{block}.bn1", L.BatchNorm(features)),
                (f"block{block}.prelu", prelu),
                (f"block{block}.conv2", L.Conv(features, features, 3, padding=1)),
                (f"block{block}.bn2", L.BatchNorm(features)),
                ("", L.Add(f"b{block - 1}", as_=f"b{block}")),
            ]
        layers += [
            ("block7.0", L.Conv(features, features, 3, padding=1)),
            ("block7.1", L.BatchNorm(features)),
            ("", L.Add("b1")),
        ]
        for up in range(ups):
            layers += [
                (f"block8.{up}.conv", L.Conv(features, 4 * features, 3, padding=1)),
                ("", L.PixelShuffle(2)),
                (f"block8.{up}.prelu", prelu),
            ]
        layers += [(f"block8.{ups}", L.Conv(features, channels, 9, padding=4)), ("", TANH)]
        taken = ImageInput(channels, (0.0, 1.0), 2**ups)
        return of_images(layers, Interface(0, (channels, SIDE * 2**ups, SIDE * 2**ups), input=taken))

    def sample(self, random: Random) -> tuple[int, int, int]:
        return random.choice((1, 3)), random.randint(2, 8), random.randint(1, 3)
