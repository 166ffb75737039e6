"""The generators of junyanz/pytorch-CycleGAN-and-pix2pix: an image in, another of the same size out.

cyclegan-resnet  `model.1` …: two strided convolutions, residual blocks, two transposed ones. Any size in multiples of 4
pix2pix-unet     `model.model.0` …: U-shaped, down to one pixel. One size

Their norms are instance norms, which leave no tensors, or BatchNorms. Files of PyTorch before 0.4 also hold running
statistics for instance norms, which the code leaves out when it loads them. With BatchNorms, the code's own test.py
normalises by the statistics of the image at hand, and drops out features by chance, unless --eval is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Literal, NamedTuple

from gan_core.fields import Shape
from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import DEEPEST, LEAKY, RELU, TANH, Family, NamedLayers, Network, Shapes, called, of_images

Norm = Literal["instance", "batch", "old"]
NORMS: tuple[Norm, ...] = ("instance", "batch", "old")
"""What they are: "old" are instance norms with running statistics, of PyTorch before 0.4."""
SIDE = 64
OLD = "the running statistics of the instance norms are left out, as the code does when it loads such a file"
BATCH = (
    "all BatchNorms use their running statistics, as the code's test.py does with --eval; without, it normalises by "
    "the image at hand and drops out features by chance"
)


class _Norms:
    """The norms of a network, and the keys of those that have tensors and do not use them."""

    def __init__(self, kind: Norm) -> None:
        self.kind = kind
        self.bias = kind != "batch"
        self.beside: dict[str, Shape] = {}

    def __call__(self, name: str, features: int) -> tuple[str, L.Layer]:
        if self.kind == "batch":
            return name, L.BatchNorm(features)
        if self.kind == "old":
            self.beside |= dict.fromkeys((f"{name}.running_mean", f"{name}.running_var"), (features,))
        return "", L.InstanceNorm(features)

    def network(self, layers: NamedLayers, interface: Interface) -> Network:
        notes, norms = (OLD,) if self.kind == "old" else (), BATCH if self.kind == "batch" else ""
        return of_images(layers, interface, beside=self.beside, notes=notes, norms=norms)


def norm_of(shapes: Shapes, name: str) -> Norm:
    """Which kind the norm called `name` is."""
    if shapes.rank(f"{name}.weight", 1):
        return "batch"
    return "old" if shapes.rank(f"{name}.running_mean", 1) else "instance"


class Resnet(NamedTuple):
    takes: int
    makes: int
    features: int
    blocks: int
    norm: Norm = "instance"
    dropout: bool = False


class CycleGan(Family[Resnet]):
    name = "cyclegan-resnet"
    source = "junyanz/pytorch-CycleGAN-and-pix2pix resnet"

    def numbers(self, shapes: Shapes) -> Iterator[Resnet]:
        first = shapes["model.1.weight"]
        blocks = len(shapes.row((f"model.{10 + block}.conv_block.1.weight" for block in range(DEEPEST)), 4))
        last = shapes[f"model.{17 + blocks}.weight"]
        if len(first) == len(last) == 4:
            dropout = shapes.rank("model.10.conv_block.6.weight", 4)
            yield Resnet(first[1], last[0], first[0], blocks, norm_of(shapes, "model.2"), dropout)

    def network(self, numbers: Resnet) -> Network:
        takes, makes, features, blocks, kind, dropout = numbers
        norm = _Norms(kind)
        layers: NamedLayers = [("", _reflect(3)), ("model.1", L.Conv(takes, features, 7, bias=norm.bias))]
        layers += [norm("model.2", features), ("", RELU)]
        for place, width in ((4, features), (7, 2 * features)):
            layers += [
                (f"model.{place}", L.Conv(width, 2 * width, 3, stride=2, padding=1, bias=norm.bias)),
                norm(f"model.{place + 1}", 2 * width),
                ("", L.Activation("relu", as_="b0" if place == 7 else "")),
            ]
        wide, second = 4 * features, 6 if dropout else 5
        for block in range(blocks):
            name = f"model.{10 + block}.conv_block"
            for place in (1, second):
                layers += [("", _reflect(1)), (f"{name}.{place}", L.Conv(wide, wide, 3, bias=norm.bias))]
                layers += [norm(f"{name}.{place + 1}", wide), *([("", RELU)] if place == 1 else [])]
            layers.append(("", L.Add(f"b{block}", as_=f"b{block + 1}")))
        for place, width in ((10 + blocks, wide), (13 + blocks, 2 * features)):
            up = L.ConvTranspose(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=norm.bias)
            layers += [(f"model.{place}", up), norm(f"model.{place + 1}", width // 2), ("", RELU)]
        layers += [("", _reflect(3)), (f"model.{17 + blocks}", L.Conv(features, makes, 7)), ("", TANH)]
        least = 8 if blocks else 4  # what is reflected is larger than its border
        taken = ImageInput(takes, (-1.0, 1.0), multiple_of=4, minimum=least)
        return norm.network(layers, Interface(0, (makes, SIDE, SIDE), input=taken))

    def sample(self, random: Random) -> Resnet:
        channels = random.choice(IMAGE_CHANNELS), random.choice(IMAGE_CHANNELS)
        sizes = random.randint(1, 6), random.randint(1, 4)
        return Resnet(*channels, *sizes, random.choice(NORMS), random.random() < 0.5)


def _reflect(border: int) -> L.Pad:
    return L.Pad((border, border, border, border), mode="reflect")


class Unet(NamedTuple):
    """`widths` are the channels that each convolution down makes, from the outermost."""

    takes: int
    makes: int
    widths: tuple[int, ...]
    norm: Norm = "batch"


class Pix2Pix(Family[Unet]):
    name = "pix2pix-unet"
    source = "junyanz/pytorch-CycleGAN-and-pix2pix unet"

    def numbers(self, shapes: Shapes) -> Iterator[Unet]:
        downs = shapes.row((f"{place}.{0 if depth == 0 else 1}.weight" for depth, place in _places()), 4)
        last = shapes["model.model.3.weight"]
        if len(downs) > 1 and len(last) == 4:
            kind = norm_of(shapes, "model.model.1.model.6" if len(downs) > 2 else "model.model.1.model.4")
            yield Unet(downs[0][1], last[1], tuple(shape[0] for shape in downs), kind)

    def network(self, numbers: Unet) -> Network:
        takes, makes, widths, kind = numbers
        norm, depth = _Norms(kind), len(widths)
        places = [place for _, place in itertools.islice(_places(), depth)]
        outer = L.Conv(takes, widths[0], 4, stride=2, padding=1, bias=norm.bias, as_="d0")
        layers: NamedLayers = [(f"{places[0]}.0", outer)]
        for level in range(1, depth):
            innermost = level == depth - 1
            conv = L.Conv(widths[level - 1], widths[level], 4, stride=2, padding=1, bias=norm.bias)
            layers += [("", LEAKY), (f"{places[level]}.1", conv)]
            if not innermost:
                layers += called([norm(f"{places[level]}.2", widths[level])], f"d{level}")
        for level in reversed(range(1, depth)):
            innermost = level == depth - 1
            up = L.ConvTranspose(
                widths[level] * (1 if innermost else 2), widths[level - 1], 4, stride=2, padding=1, bias=norm.bias
            )
            at = 3 if innermost else 5
            layers += [
                ("", RELU),
                (f"{places[level]}.{at}", up),
                norm(f"{places[level]}.{at + 1}", widths[level - 1]),
                ("", L.Concat((f"d{level - 1}", "x"))),
            ]
        last = L.ConvTranspose(2 * widths[0], makes, 4, stride=2, padding=1)
        layers += [("", RELU), (f"{places[0]}.3", last), ("", TANH)]
        side = 2**depth
        return norm.network(layers, Interface(0, (makes, side, side), input=ImageInput(takes, (-1.0, 1.0), fixed=True)))

    def sample(self, random: Random) -> Unet:
        widths = tuple(random.randint(1, 6) for _ in range(random.randint(3, 6)))
        return Unet(random.choice(IMAGE_CHANNELS), random.choice(IMAGE_CHANNELS), widths, random.choice(NORMS))


def _places() -> Iterator[tuple[int, str]]:
    """Depth → the Sequential there: each one but the first has the next inner one at 3, the first at 1."""
    place = "model.model"
    for depth in range(DEEPEST):
        yield depth, place
        place += ".1.model" if depth == 0 else ".3.model"
