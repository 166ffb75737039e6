"""Super-resolvers: networks that take an image of any size and make a larger one of it.

rrdb        ESRGAN and Real-ESRGAN (xinntao/ESRGAN, XPixelGroup/BasicSR): dense blocks within residual ones. Three
            generations of code name the same layers in three ways, eriklindernoren's and aladdinpersson's in two more
srvgg       SRVGGNetCompact (xinntao/Real-ESRGAN): a row of convolutions, a pixel shuffle, the enlarged input added
msrresnet   MSRResNet (XPixelGroup/BasicSR): residual blocks without norms
srgan       SRGAN (leftthomas, eriklindernoren, aladdinpersson): residual blocks with BatchNorms
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, ClassVar, NamedTuple

import torch

from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import DEEPEST, RELU, TANH, Family, Folded, NamedLayers, Network, Shapes, of_images, scaled

RESIDUAL = 0.2
"""What ESRGAN's code multiplies each residual by."""
LEAKY_01 = L.Activation("leaky_relu", slope=0.1)
SIDE = 32
"""Of the example that shapes are given for."""


def enlarging(
    layers: NamedLayers, channels: int, scale: int, multiple_of: int = 1, black: float = 0.0, **about: Any
) -> Network:
    """A super-resolver with input values in [0, 1] and output values in [`black`, 1]; `about` are of the network."""
    taken, side = ImageInput(channels, (0.0, 1.0), scale, multiple_of), SIDE * scale
    return of_images(layers, Interface(0, (channels, side, side), value_range=(black, 1.0), input=taken), **about)


def normalised(layers: NamedLayers) -> NamedLayers:
    """`layers` of a network whose code normalises images by ImageNet's mean and deviation, for images in [0, 1]."""
    mean, deviation = torch.tensor([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)])

    def each(scale: torch.Tensor, offset: torch.Tensor) -> tuple[Folded, L.Layer]:
        made = {"weight": scale.reshape(3, 1, 1, 1), "bias": offset}
        return Folded({}, lambda _: made), L.Conv(3, 3, 1, groups=3)

    return [each(1 / deviation, -mean / deviation), *layers, each(deviation, mean)]


class Dialect(NamedTuple):
    """How a code names its layers: `block` takes a block's number, `dense` one of its three parts and the number of a
    convolution, from 1 and from 0. `shuffles`: whether it enlarges by a pixel shuffle after a convolution, and not by
    nearest upsampling before it, and normalises its images."""

    first: str
    block: str
    dense: str
    trunk: str
    ups: tuple[str, ...]
    last: tuple[str, str]
    slope: float = 0.2
    shuffles: bool = False


KINDS = ("model", "RRDB_trunk", "body", "res_blocks", "residuals")
"""What the codes call the blocks: xinntao's first three, PyTorch-GAN's, aladdinpersson's."""


def dialect(kind: str, blocks: int, ups: int) -> Dialect:
    """The names for so many blocks and upsamplings."""
    if kind == "model":  # one Sequential: an upsampling, its convolution and its activation are three places in it
        numbers = [f"model.{3 + 3 * up}" for up in range(ups)]
        last = (f"model.{2 + 3 * ups}", f"model.{4 + 3 * ups}")
        return Dialect("model.0", "model.1.sub.{}", "RDB{0}.conv{1}.0", f"model.1.sub.{blocks}", tuple(numbers), last)
    if kind == "RRDB_trunk":
        names = tuple(f"upconv{1 + up}" for up in range(ups))
        return Dialect("conv_first", "RRDB_trunk.{}", "RDB{0}.conv{1}", "trunk_conv", names, ("HRconv", "conv_last"))
    if kind == "res_blocks":
        names = tuple(f"upsampling.{3 * up}" for up in range(ups))
        last = ("conv3.0", "conv3.2")
        return Dialect("conv1", "res_blocks.{}", "dense_blocks.{2}.b{1}.0", "conv2", names, last, 0.01, shuffles=True)
    if kind == "residuals":
        names, last = tuple(f"upsamples.{up}.conv" for up in range(ups)), ("final.0", "final.2")
        return Dialect("initial", "residuals.{}", "rrdb.{2}.blocks.{3}.cnn", "conv", names, last)
    names = tuple(f"conv_up{1 + up}" for up in range(ups))
    return Dialect("conv_first", "body.{}", "rdb{0}.conv{1}", "conv_body", names, ("conv_hr", "conv_last"))


class Rrdb(NamedTuple):
    """`unshuffle` is 2 or 4 where the input's pixels become channels first, so that x2 and x1 take no more work."""

    kind: str
    channels: int
    features: int
    growth: int
    blocks: int
    ups: int = 2
    unshuffle: int = 1


class EsrGan(Family[Rrdb]):
    name = "esrgan"
    source = "xinntao/ESRGAN, Real-ESRGAN, PyTorch-GAN, aladdinpersson"

    def numbers(self, shapes: Shapes) -> Iterator[Rrdb]:
        for kind in KINDS:
            counted = dialect(kind, 0, 0)
            part = counted.dense.format(1, 1, 0, 0)
            blocks = len(shapes.row((f"{counted.block.format(i)}.{part}.weight" for i in range(DEEPEST)), 4))
            first, growth = shapes[f"{counted.first}.weight"], shapes[f"{counted.block.format(0)}.{part}.weight"]
            if not blocks or len(first) != 4:
                continue
            for ups in range(4):
                made = shapes[f"{dialect(kind, blocks, ups).last[1]}.weight"][:1]
                for unshuffle in (1, 2, 4):
                    channels, rest = divmod(first[1], unshuffle**2)
                    if not rest and (channels,) == made and (channels == 3 or not counted.shuffles):
                        yield Rrdb(kind, channels, first[0], growth[0], blocks, ups, unshuffle)

    def network(self, numbers: Rrdb) -> Network:
        kind, channels, features, growth, blocks, ups, unshuffle = numbers
        names = dialect(kind, blocks, ups)
        leaky = L.Activation("leaky_relu", slope=names.slope)
        layers: NamedLayers = [("", L.PixelUnshuffle(unshuffle))] if unshuffle > 1 else []
        layers.append((names.first, L.Conv(channels * unshuffle**2, features, 3, padding=1, as_="first")))
        entry = "first"
        for block in range(blocks):
            here = f"b{block}"
            for part in (1, 2, 3):
                places = [names.dense.format(part, n, part - 1, n - 1) for n in range(1, 6)]
                places = [f"{names.block.format(block)}.{place}" for place in places]
                layers += self._dense(places, leaky, entry, f"{here}r{part}", features, growth)
                entry = f"{here}r{part}"
            before = "first" if block == 0 else f"b{block - 1}"
            layers += [("", L.Load(before)), ("", L.Add(f"{here}r3", scale=RESIDUAL, as_=here))]
            entry = here
        layers += [(names.trunk, L.Conv(features, features, 3, padding=1)), ("", L.Add("first"))]
        for up in names.ups:
            wide = L.Conv(features, features * (4 if names.shuffles else 1), 3, padding=1)
            layers += [] if names.shuffles else [("", L.Upsample(2))]
            layers += [(up, wide), ("", leaky), *([("", L.PixelShuffle(2))] if names.shuffles else [])]
        layers += [(names.last[0], L.Conv(features, features, 3, padding=1)), ("", leaky)]
        layers.append((names.last[1], L.Conv(features, channels, 3, padding=1)))
        layers = normalised(layers) if names.shuffles else layers
        return enlarging(layers, channels, 2**ups // unshuffle, unshuffle)

    def _dense(
        self, names: Sequence[str], leaky: L.Activation, entry: str, here: str, features: int, growth: int
    ) -> NamedLayers:
        """Five convolutions, each of all that was made before; the last one's result is a residual."""
        layers: NamedLayers = []
        seen = [entry]
        for number, name in enumerate(names, 1):
            takes = features + (number - 1) * growth
            if number > 1:
                layers.append(("", L.Concat(tuple(seen))))
            conv = L.Conv(takes, growth if number < 5 else features, 3, padding=1)
            if number == 5:
                layers.append(scaled(name, conv, RESIDUAL, RESIDUAL))
                continue
            seen.append(f"{here}x{number}")
            layers += [(name, conv), ("", replace(leaky, as_=seen[-1]))]
        return [*layers, ("", L.Add(entry, as_=here))]

    def sample(self, random: Random) -> Rrdb:
        kind = random.choice(KINDS)
        unshuffle = random.choice((1, 2, 4)) if kind == "body" else 1
        ups = random.randint(0, 3) if kind in ("model", "res_blocks") else 2
        channels = 3 if kind == "res_blocks" else random.choice(IMAGE_CHANNELS)
        sizes = random.randint(2, 8), random.randint(1, 4), random.randint(1, 3)
        return Rrdb(kind, channels, *sizes, ups, unshuffle)


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
        last = L.Conv(features, channels * scale**2, 3, padding=1)
        layers += [(f"body.{2 * convs + 2}", last), ("", L.PixelShuffle(scale, as_="residual"))]
        layers += [("", L.Load("input")), ("", L.Upsample(scale)), ("", L.Add("residual"))]
        return enlarging(layers, channels, scale, questions=() if prelu else ("activation",))

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
        first, conv = (L.Conv(takes, features, 3, padding=1) for takes in (channels, features))
        layers: NamedLayers = [("conv_first", first), ("", replace(LEAKY_01, as_="b0"))]
        for block in range(blocks):
            layers += [(f"body.{block}.conv1", conv), ("", RELU), (f"body.{block}.conv2", conv)]
            layers.append(("", L.Add(f"b{block}", as_=f"b{block + 1}")))
        for number, factor in enumerate((2, 2) if scale == 4 else (scale,), 1):
            wide = L.Conv(features, features * factor**2, 3, padding=1)
            layers += [(f"upconv{number}", wide), ("", L.PixelShuffle(factor)), ("", LEAKY_01)]
        last = L.Conv(features, channels, 3, padding=1, as_="residual")
        layers += [("conv_hr", conv), ("", LEAKY_01), ("conv_last", last)]
        layers += [("", L.Load("input")), ("", L.Upsample(scale, "bilinear")), ("", L.Add("residual"))]
        return enlarging(layers, channels, scale)

    def sample(self, random: Random) -> Residual:
        scale = random.choice((2, 3, 4))
        return Residual(random.choice(IMAGE_CHANNELS), random.randint(2, 8), random.randint(1, 4), scale)


class Normed(NamedTuple):
    channels: int
    features: int
    ups: int
    blocks: int = 5


Names = tuple[tuple[str, ...], Sequence[tuple[str, ...]], tuple[str, ...], Sequence[tuple[str, ...]], str, list[str]]
"""(convolution, PReLU) of the stem, (convolution, norm, PReLU, convolution, norm) of each block, (convolution, norm)
after them, (convolution, norm or "", PReLU) of each upsampling, the last convolution, PReLUs that are not used."""


class LeftthomasSrGan(Family[Normed]):
    """`eps` are those of the norms but after upsamplings; with `each` the PReLUs have a slope for each channel, and the
    convolutions before norms no biases; with `normalises` the code normalises its images by ImageNet's values; `blocks`
    are as many as the code always has, or 0."""

    name = "leftthomas-srgan"
    source = "leftthomas/SRGAN"
    blocks: ClassVar[int] = 5
    eps: ClassVar[float] = 1e-5
    each: ClassVar[bool] = False
    normalises: ClassVar[bool] = False

    def names(self, ups: int, blocks: int) -> Names:
        parts = [f"block{2 + block}." for block in range(min(blocks, self.blocks))]
        inside = [(f"{b}conv1", f"{b}bn1", f"{b}prelu", f"{b}conv2", f"{b}bn2") for b in parts]
        doubled = [(f"block8.{up}.conv", "", f"block8.{up}.prelu") for up in range(ups)]
        return ("block1.0", "block1.1"), inside, ("block7.0", "block7.1"), doubled, f"block8.{ups}", []

    def numbers(self, shapes: Shapes) -> Iterator[Normed]:
        stem, inside, _, doubled, *_ = self.names(DEEPEST, DEEPEST)
        blocks, ups = (len(shapes.row((f"{names[0]}.weight" for names in row), 4)) for row in (inside, doubled))
        first = shapes[f"{stem[0]}.weight"]
        if blocks and len(first) == 4 and (first[1] == 3 or not self.normalises):
            yield Normed(first[1], first[0], ups, blocks)

    def network(self, numbers: Normed) -> Network:
        channels, features, ups, blocks = numbers
        stem, inside, middle, doubled, last, unused = self.names(ups, blocks)
        prelu = L.Activation("prelu", features=features if self.each else 1)
        conv, norm = L.Conv(features, features, 3, padding=1, bias=not self.each), L.BatchNorm(features, self.eps)
        first = L.Conv(channels, features, 9, padding=4)
        layers: NamedLayers = [(stem[0], first), (stem[1], replace(prelu, as_="b0"))]
        for block, names in enumerate(inside):
            layers += zip(names, (conv, norm, prelu, conv, norm), strict=True)
            layers.append(("", L.Add(f"b{block}", as_=f"b{block + 1}")))
        layers += [*zip(middle, (conv, norm), strict=True), ("", L.Add("b0"))]
        for wide, normed, slope in doubled:
            layers.append((wide, L.Conv(features, 4 * features, 3, padding=1)))
            layers += [(normed, L.BatchNorm(4 * features))] if normed else []
            layers += [("", L.PixelShuffle(2)), (slope, prelu)]
        layers += [(last, L.Conv(features, channels, 9, padding=4)), ("", TANH)]
        beside = {f"{name}.weight": (features,) for name in unused}
        layers, black = (normalised(layers), 0.0) if self.normalises else (layers, -1.0)
        return enlarging(layers, channels, 2**ups, black=black, beside=beside)

    def sample(self, random: Random) -> Normed:
        channels, blocks = random.choice((1, 3)), self.blocks or random.randint(1, 4)
        return Normed(3 if self.normalises else channels, random.randint(2, 8), random.randint(1, 3), blocks)


class PytorchGanSrGan(LeftthomasSrGan):
    name = "pytorch-gan-srgan"
    source = "eriklindernoren/PyTorch-GAN srgan"
    blocks, eps, normalises = 0, 0.8, True

    def names(self, ups: int, blocks: int) -> Names:
        parts = [f"res_blocks.{block}.conv_block." for block in range(blocks)]
        inside = [(f"{b}0", f"{b}1", f"{b}2", f"{b}3", f"{b}4") for b in parts]
        doubled = [(f"upsampling.{n}", f"upsampling.{n + 1}", f"upsampling.{n + 3}") for n in range(0, 4 * ups, 4)]
        return ("conv1.0", "conv1.1"), inside, ("conv2.0", "conv2.1"), doubled, "conv3.0", []


class AladdinSrGan(LeftthomasSrGan):
    name = "aladdin-srgan"
    source = "aladdinpersson/Machine-Learning-Collection SRGAN"
    blocks, each = 0, True

    def names(self, ups: int, blocks: int) -> Names:
        parts = [f"residuals.{block}.block" for block in range(blocks)]
        inside = [(f"{b}1.cnn", f"{b}1.bn", f"{b}1.act", f"{b}2.cnn", f"{b}2.bn") for b in parts]
        doubled = [(f"upsamples.{up}.conv", "", f"upsamples.{up}.act") for up in range(ups)]
        unused = ["convblock.act", *(f"{b}2.act" for b in parts)]
        middle = ("convblock.cnn", "convblock.bn")
        return ("initial.cnn", "initial.act"), inside, middle, doubled, "final", unused
