"""Residual networks that take an image and make another of the same size.

They have a stem, strided convolutions, residual blocks, upsamplings and a head, and take any size in multiples
of what they halve it to. Their authors differ in names, in how they halve and double, and in norms:

cyclegan-resnet       junyanz/pytorch-CycleGAN-and-pix2pix, aitorzip/PyTorch-CycleGAN, NVIDIA/pix2pixHD (global),
                      and taesungp/contrastive-unpaired-translation, which blurs to halve and double the image
pytorch-gan-cyclegan  eriklindernoren/PyTorch-GAN: nearest upsampling
aladdin-cyclegan      aladdinpersson's tutorial
animegan2             bryandlee/animegan2-pytorch: depthwise convolutions, group norms

Instance norms leave no tensors. Files of PyTorch before 0.4 also hold running statistics for them, which junyanz's code
leaves out when it loads them. With BatchNorms, its test.py normalises by the statistics of the image at hand, and drops
out features by chance, unless --eval is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar, Literal, NamedTuple

from gan_core.fields import Shape
from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import DEEPEST, RELU, Family, Folded, NamedLayers, Network, RefusedError, Shapes, of_images

Norm = Literal["instance", "batch", "old", "none", "biased_batch", "unbiased"]
NORMS: tuple[Norm, ...] = ("instance", "batch", "old", "none")
"""What they are: "old" are instance norms with running statistics, of PyTorch before 0.4; "biased_batch" and
"unbiased" are BatchNorms and instance norms where the convolutions before them have a bias, or none."""
SIDE = 64
OLD = "the running statistics of the instance norms are left out, as the code does when it loads such a file"
BATCH = (
    "all BatchNorms use their running statistics, as the code's test.py does with --eval; without, it normalises by "
    "the image at hand and drops out features by chance"
)


class Norms:
    """The norms of a network, and the keys of those that have tensors and do not use them."""

    def __init__(self, kind: Norm) -> None:
        self.kind = kind
        self.biased = kind not in ("batch", "none", "unbiased")
        self.beside: dict[str, Shape] = {}

    def __call__(self, name: str, conv: L.Conv | L.ConvTranspose) -> NamedLayers:
        """`conv` and its norm, which comes next in a Sequential."""
        features, norm = conv.out_channels, _after(name)
        conv = replace(conv, bias=self.biased)
        if self.kind in ("batch", "biased_batch"):
            return [(name, conv), (norm, L.BatchNorm(features))]
        if self.kind == "old":
            self.beside |= dict.fromkeys((f"{norm}.running_mean", f"{norm}.running_var"), (features,))
        return [(name, conv), *([("", L.InstanceNorm(features))] if self.kind != "none" else [])]

    def network(self, layers: NamedLayers, interface: Interface) -> Network:
        notes, norms = (OLD,) if self.kind == "old" else (), BATCH if "batch" in self.kind else ""
        return of_images(layers, interface, beside=self.beside, notes=notes, norms=norms)


def _after(name: str, by: int = 1) -> str:
    """The place after one in a Sequential: "model.1" → "model.2"."""
    place, _, number = name.rpartition(".")
    return f"{place}.{int(number) + by}"


def norm_of(shapes: Shapes, conv: str) -> Norm:
    """Which kind the norm after `conv` is. The codes give a convolution before an instance norm a bias."""
    biased = shapes.rank(f"{conv}.bias", 1)
    if shapes.rank(f"{_after(conv)}.weight", 1):
        return "biased_batch" if biased else "batch"
    if not biased:
        return "none"
    return "old" if shapes.rank(f"{_after(conv)}.running_mean", 1) else "instance"


class Resnet(NamedTuple):
    """`blurs`: whether it blurs before it halves, and after it doubles."""

    takes: int
    makes: int
    features: int
    blocks: int
    norm: Norm = "instance"
    dropout: bool = False
    downs: int = 2
    blurs: tuple[bool, bool] = (False, False)


Names = tuple[str, Sequence[str], Sequence[tuple[str, str]], Sequence[str], str]
"""Of the convolutions: of the stem, down, two of each block, up, and of the head."""


class CycleGan(Family[Resnet]):
    """One Sequential. `block` is what a residual block calls its own one, `norms` which the code has, `blurs` where it
    may; `nearest` is for upsampling before a convolution, `down_padding` for that of strided ones."""

    name = "cyclegan-resnet"
    source = "junyanz/pytorch-CycleGAN-and-pix2pix resnet"
    block: ClassVar[str] = "conv_block"
    norms: ClassVar[tuple[Norm, ...]] = (*NORMS, "biased_batch")
    nearest: ClassVar[bool] = False
    blurs: ClassVar[tuple[tuple[bool, bool], ...]] = ((False, False), (True, True), (True, False), (False, True))
    channels: ClassVar[tuple[int, ...]] = IMAGE_CHANNELS
    deepest: ClassVar[int] = 4
    down_padding: ClassVar[L.PaddingMode] = "zeros"

    def names(self, numbers: Resnet) -> Names:
        down, up = (4 if blur else 3 for blur in (numbers.blurs[0], numbers.blurs[1] or self.nearest))
        first, second = 4 + down * numbers.downs, 6 if numbers.dropout else 5
        blocks = [f"model.{first + block}.{self.block}" for block in range(numbers.blocks)]
        last = first + numbers.blocks
        downs = [f"model.{4 + down * level}" for level in range(numbers.downs)]
        ups = [f"model.{last + up * level + up - 3}" for level in range(numbers.downs)]
        halves = [(f"{block}.1", f"{block}.{second}") for block in blocks]
        return "model.1", downs, halves, ups, f"model.{last + up * numbers.downs + 1}"

    def numbers(self, shapes: Shapes) -> Iterator[Resnet]:
        for blurs in self.blurs:
            most = Resnet(1, 1, 1, DEEPEST, downs=DEEPEST, blurs=blurs)
            downs = len(shapes.row((f"{name}.weight" for name in self.names(most)[1]), 4))
            if not 1 <= downs <= self.deepest:
                continue
            most = most._replace(downs=downs)
            blocks = len(shapes.row((f"{half}.weight" for half, _ in self.names(most)[2]), 4))
            most = most._replace(blocks=blocks)
            stem, _, halves, _, head = self.names(most)
            first, last = shapes[f"{stem}.weight"], shapes[f"{head}.weight"]
            if blocks and len(first) == len(last) == 4:
                second = self.names(most._replace(dropout=True))[2][0][1]
                dropout, norm = second != halves[0][1] and shapes.rank(f"{second}.weight", 4), norm_of(shapes, stem)
                yield most._replace(takes=first[1], makes=last[0], features=first[0], norm=norm, dropout=dropout)

    def network(self, numbers: Resnet) -> Network:
        normed, (stem, downs, blocks, ups, head) = Norms(numbers.norm), self.names(numbers)
        blur_down, blur_up = numbers.blurs
        width = numbers.features
        layers = [("", _reflect(3)), *normed(stem, L.Conv(numbers.takes, width, 7)), ("", RELU)]
        for name in downs:
            stride, padding = 1 if blur_down else 2, self.down_padding
            conv = L.Conv(width, 2 * width, 3, stride=stride, padding=1, padding_mode=padding)
            layers += [*normed(name, conv), ("", RELU)]
            width *= 2
            if blur_down:
                layers += [("", _reflect(1)), _blur(_after(name, 3), L.Conv(width, width, 3))]
        layers[-1] = (layers[-1][0], replace(layers[-1][1], as_="b0"))
        for number, halves in enumerate(blocks):
            for half in halves:
                layers += [("", _reflect(1)), *normed(half, L.Conv(width, width, 3))]
                layers += [("", RELU)] if half == halves[0] else []
            layers.append(("", L.Add(f"b{number}", as_=f"b{number + 1}")))
        for name in ups:
            width //= 2
            wide: L.Conv | L.ConvTranspose = L.Conv(2 * width, width, 3, padding=1)
            if blur_up:
                double = L.ConvTranspose(2 * width, 2 * width, 4, padding=3)  # of which a pixel on each side is cut
                layers += [("", L.Pad((1, 1, 1, 1), mode="replicate")), _blur(_after(name, -1), double)]
            elif self.nearest:
                layers.append(("", L.Upsample(2)))
            else:
                wide = L.ConvTranspose(2 * width, width, 3, stride=2, padding=1, output_padding=1)
            layers += [*normed(name, wide), ("", RELU)]
        layers += [("", _reflect(3)), (head, L.Conv(width, numbers.makes, 7)), ("", L.Activation("tanh"))]
        halved, known = 2**numbers.downs, {numbers.takes, numbers.makes} <= set(self.channels)
        takes, makes = (numbers.takes, numbers.makes) if known else (3, 3)
        taken = ImageInput(takes, (-1.0, 1.0), multiple_of=halved, minimum=2 * halved)
        face = Interface(0, (makes, SIDE, SIDE), input=taken)
        if known:
            return normed.network(layers, face)
        refused = RefusedError(
            f"it is a network as {self.source} has it and takes {numbers.takes} channels and makes {numbers.makes}, "
            f"expected images of {' or '.join(map(str, self.channels))}",
            hint="give code that makes label maps and the like of an image: `module` file.py:Class",
        )
        return Network(layers, face, beside=normed.beside, refused=refused)

    def sample(self, random: Random) -> Resnet:
        channels = random.choice(self.channels), random.choice(self.channels)
        norm, dropout = random.choice(self.norms), "batch" in self.norms and random.random() < 0.5
        downs, blurs = random.randint(1, self.deepest), random.choice(self.blurs)
        return Resnet(*channels, random.randint(1, 6), random.randint(1, 4), norm, dropout, downs, blurs)


def _reflect(border: int) -> L.Pad:
    return L.Pad((border, border, border, border), mode="reflect")


def _blur(name: str, conv: L.Conv | L.ConvTranspose) -> tuple[Folded, L.Layer]:
    """A fixed filter over each channel, which the file has as `filt`, that halves or doubles the image."""
    key = f"{name}.filt"
    conv = replace(conv, stride=2, groups=conv.in_channels, bias=False)
    return Folded({key: conv.tensors()["weight"]}, lambda held: {"weight": held[key]}), conv


class PytorchGanCycleGan(CycleGan):
    """The code pads by as many pixels as the image has channels, so that only RGB images keep their size."""

    name = "pytorch-gan-cyclegan"
    source = "eriklindernoren/PyTorch-GAN cyclegan"
    block, norms, blurs, nearest, channels = "block", ("instance",), ((False, False),), True, (3,)


class AladdinCycleGan(CycleGan):
    """Lists of blocks, each with its convolution at `conv.0`."""

    name = "aladdin-cyclegan"
    source = "aladdinpersson/Machine-Learning-Collection CycleGAN"
    norms, blurs, down_padding = ("instance",), ((False, False),), "reflect"

    def names(self, numbers: Resnet) -> Names:
        downs, ups = ([f"{way}_blocks.{n}.conv.0" for n in range(numbers.downs)] for way in ("down", "up"))
        blocks = [f"res_blocks.{block}.block" for block in range(numbers.blocks)]
        halves = [(f"{block}.0.conv.0", f"{block}.1.conv.0") for block in blocks]
        return "initial.0", downs, halves, ups, "last"


class AnimeGan2(Family[tuple[int, int]]):
    """`numbers` are the features and the inverted residual blocks."""

    name = "animegan2"
    source = "bryandlee/animegan2-pytorch"
    first = ("a.0", 1, 7, 1), ("a.1", 2, 3, 2), ("a.2", 2, 3, 1), ("b.0", 4, 3, 2), ("b.1", 4, 3, 1), ("c.0", 4, 3, 1)
    last = ("d.0", 4, 3, 1), ("d.1", 4, 3, 1), ("e.0", 2, 3, 1), ("e.1", 2, 3, 1), ("e.2", 1, 7, 1)
    """Before and after the blocks: a module, the features that it makes, as a multiple, its kernel and stride."""
    align: ClassVar[str] = (
        "bilinear upsampling aligns corners, as in the code's hub and where the network is called without options; "
        "its test.py does so with --upsample_align"
    )

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, int]]:
        first = shapes["block_a.0.1.weight"]
        blocks = len(shapes.row((f"block_c.{1 + block}.layers.0.1.weight" for block in range(DEEPEST)), 4))
        if len(first) == 4 and blocks:
            yield first[0], blocks

    def network(self, numbers: tuple[int, int]) -> Network:
        features, blocks = numbers
        takes = 3
        layers: NamedLayers = []

        def add(name: str, makes: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
            border = (0, 1, 0, 1) if stride == 2 else (kernel // 2,) * 4
            conv = L.Conv(makes if groups > 1 else takes, makes, kernel, stride=stride, groups=groups, bias=groups > 1)
            layers.extend([("", L.Pad(border, mode="reflect"))] if kernel > 1 else [])
            layers.extend(
                [(f"{name}.1", conv), (f"{name}.2", L.GroupNorm(1, makes)), ("", L.Activation("leaky_relu", slope=0.2))]
            )

        inside = [(f"c.{1 + block}.layers", 8, 1, 1) for block in range(blocks)]
        parts = (*self.first, *inside, (f"c.{1 + blocks}", 4, 3, 1), *self.last)
        for number, (place, width, kernel, stride) in enumerate(parts):
            name, makes = f"block_{place}", width * features
            if place in ("d.0", "e.0"):
                layers.append(("", L.Upsample(2, "bilinear", align_corners=True)))
            if kernel > 1:
                add(name, makes, kernel, stride)
            else:
                add(f"{name}.0", 2 * takes, 1)
                add(f"{name}.1", 2 * takes, groups=2 * takes)
                layers.append((f"{name}.2", L.Conv(2 * takes, makes, 1, bias=False)))
                layers.append((f"{name}.3", L.GroupNorm(1, makes, as_="" if takes == makes else f"b{number}")))
                layers += [("", L.Add(f"b{number - 1}", as_=f"b{number}"))] if takes == makes else []
            takes = makes
        layers += [("out_layer.0", L.Conv(takes, 3, 1, bias=False)), ("", L.Activation("tanh"))]
        taken = ImageInput(3, (-1.0, 1.0), multiple_of=4, minimum=8)
        return of_images(layers, Interface(0, (3, SIDE, SIDE), input=taken), notes=(self.align,))

    def sample(self, random: Random) -> tuple[int, int]:
        return random.randint(1, 6), random.randint(1, 4)
