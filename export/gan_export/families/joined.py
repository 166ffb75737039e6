"""Conditional networks of two branches, one for z and one for the one-hot label: znxlwm's cGAN and cDCGAN, and copies.

`fc1_1` or `deconv1_1` takes z, `…1_2` the label. Each has a BatchNorm, `…_bn`, and an activation; what both make is
concatenated, z's first, and goes on through `…2`, `…3` …. Both are read as one layer (`understanding.branches`). Copies
have ReLU or LeakyReLU 0.2, so the BatchNorms are asked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import LEAKY, RELU, TANH, Family, Folded, NamedLayers, Network, Shapes, images_of
from gan_export.understanding.branches import side_by_side


class Branches(NamedTuple):
    """`widths` are those of z's branch, of the label's, and of the layers behind both but the last."""

    z_dim: int
    n_classes: int
    widths: tuple[int, ...]
    image: tuple[int, int, int]
    bias: bool = True


class ZnxlwmCgan(Family[Branches]):
    """Linear layers, the last of them makes the numbers of an image."""

    name = "znxlwm-cgan"
    source = "znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN"
    layer: ClassVar[str] = "fc"
    rank: ClassVar[int] = 2

    def numbers(self, shapes: Shapes) -> Iterator[Branches]:
        first, label = shapes[f"{self.layer}1_1.weight"], shapes[f"{self.layer}1_2.weight"]
        behind = shapes.row((f"{self.layer}{number}.weight" for number in itertools.count(2)), self.rank)
        if len(first) == len(label) == self.rank and len(behind) > 1:
            yield from self._numbers(first, label, behind, f"{self.layer}2.bias" in shapes)

    def _numbers(self, first: L.Shape, label: L.Shape, behind: list[L.Shape], bias: bool) -> Iterator[Branches]:
        widths = (first[0], label[0], *(shape[0] for shape in behind[:-1]))
        for image in images_of(behind[-1][0]):
            yield Branches(first[1], label[1], widths, image, bias)

    def _made(self, takes: int, makes: int, stride: int, *, bias: bool) -> L.Layer:
        if self.rank == 2:
            return L.Linear(takes, makes, bias=bias)
        return L.ConvTranspose(takes, makes, 4, stride, stride // 2, bias=bias)

    def network(self, numbers: Branches) -> Network:
        z_dim, classes, (z_width, label_width, *widths), image, bias = numbers
        act = "", LEAKY if self.rank == 4 and len(widths) > 2 else RELU
        takes, width = z_dim + classes, z_width + label_width
        parts = self._made(z_dim, z_width, 1, bias=bias), self._made(classes, label_width, 1, bias=bias)
        layers: NamedLayers = [("", L.LabelOneHot(classes))]
        layers += [("", L.Reshape((takes, 1, 1)))] if self.rank == 4 else []
        layers += [
            (_both(self.layer, "", *parts), self._made(takes, width, 1, bias=bias)),
            (_both(self.layer, "_bn", L.BatchNorm(z_width), L.BatchNorm(label_width)), L.BatchNorm(width)),
            act,
        ]
        ends = image[0] if self.rank == 4 else math.prod(image)
        for number, (given, makes) in enumerate(itertools.pairwise((width, *widths, ends)), 2):
            layers.append((f"{self.layer}{number}", self._made(given, makes, 2, bias=bias)))
            if number < len(widths) + 2:
                layers += [(f"{self.layer}{number}_bn", L.BatchNorm(makes)), act]
        layers += [("", TANH)] if self.rank == 4 else [("", TANH), ("", L.Reshape(image))]
        return Network(layers, Interface(z_dim, image, n_classes=classes), questions=("activation",))

    def sample(self, random: Random) -> Branches:
        widths, side = tuple(random.randint(1, 12) for _ in range(random.randint(3, 5))), random.randint(2, 32)
        image = (random.choice((1, 3)), side, side)
        return Branches(random.randint(1, 40), random.randint(2, 12), widths, image, random.random() < 0.7)


class ZnxlwmCdcgan(ZnxlwmCgan):
    """Transposed convolutions: k4 s1 p0 of each branch, then k4 s2 p1. The code for 64x64 images has LeakyReLU."""

    name = "znxlwm-cdcgan"
    layer = "deconv"
    rank = 4

    def _numbers(self, first: L.Shape, label: L.Shape, behind: list[L.Shape], bias: bool) -> Iterator[Branches]:
        widths, side = (first[1], label[1], *(shape[1] for shape in behind[:-1])), 4 << len(behind)
        yield Branches(first[0], label[0], widths, (behind[-1][1], side, side), bias)

    def sample(self, random: Random) -> Branches:
        numbers = super().sample(random)
        side = 4 << (len(numbers.widths) - 1)
        return numbers._replace(image=(numbers.image[0], side, side))


def _both(layer: str, what: str, z: L.Layer, label: L.Layer) -> Folded:
    """The tensors of one layer that does what `z` and `label` do, which are called `…1_1` and `…1_2` and `what`."""
    names = f"{layer}1_1{what}", f"{layer}1_2{what}"
    named = zip(names, (z, label), strict=True)
    takes = {f"{name}.{own}": shape for name, one in named for own, shape in one.tensors().items()}

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pairs = {own: [held[f"{name}.{own}"] for name in names] for own in z.tensors()}
        return {own: side_by_side(*pair) if pair[0].ndim > 1 else torch.cat(pair) for own, pair in pairs.items()}

    return Folded(takes, make)
