"""Conditional networks of two branches, one for z and one for the one-hot label: znxlwm's cGAN and cDCGAN, and copies.

`fc1_1` or `deconv1_1` takes z, `…1_2` the label. Each has a BatchNorm, `…_bn`, and an activation; what both make is
concatenated, z's first, and goes on through `…2`, `…3` …. A layer of a one-hot label is a table with a row per class.
The activation is asked of the BatchNorms: the code and its copies have ReLU, or LeakyReLU 0.2, throughout.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import ClassVar, NamedTuple

from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import LEAKY, RELU, TANH, Family, Folded, NamedLayers, Network, Shapes, called, images_of


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

    def _first(self, numbers: Branches, takes: int, makes: int) -> tuple[tuple[L.Layer, ...], L.Layer]:
        """(what shapes a vector for it, a layer that takes a vector)."""
        return (), L.Linear(takes, makes, bias=numbers.bias)

    def _behind(self, numbers: Branches, takes: int, makes: int) -> L.Layer:
        return L.Linear(takes, makes, bias=numbers.bias)

    def network(self, numbers: Branches) -> Network:
        z_width, label_width, *widths = numbers.widths
        act = "", LEAKY if self.rank == 4 and len(widths) > 2 else RELU
        shaping, first = self._first(numbers, numbers.z_dim, z_width)
        _, labelled = self._first(numbers, numbers.n_classes, label_width)
        layers: NamedLayers = [*(("", one) for one in shaping), (f"{self.layer}1_1", first)]
        layers = called([*layers, (f"{self.layer}1_1_bn", L.BatchNorm(z_width)), act], "latent")
        layers += _table(f"{self.layer}1_2", labelled, numbers.n_classes, label_width)
        layers += [(f"{self.layer}1_2_bn", L.BatchNorm(label_width)), act, ("", L.Concat(("latent", "x")))]
        ends = numbers.image[0] if self.rank > 2 else math.prod(numbers.image)
        for number, (takes, makes) in enumerate(itertools.pairwise((z_width + label_width, *widths, ends)), 2):
            layers += [(f"{self.layer}{number}", self._behind(numbers, takes, makes))]
            if number < len(widths) + 2:
                layers += [(f"{self.layer}{number}_bn", L.BatchNorm(makes)), act]
        layers += [("", TANH), ("", L.Reshape(numbers.image))] if self.rank == 2 else [("", TANH)]
        face = Interface(numbers.z_dim, numbers.image, n_classes=numbers.n_classes)
        return Network(layers, face, questions=("activation",))

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

    def _first(self, numbers: Branches, takes: int, makes: int) -> tuple[tuple[L.Layer, ...], L.Layer]:
        return (L.Reshape((takes, 1, 1)),), L.ConvTranspose(takes, makes, 4, bias=numbers.bias)

    def _behind(self, numbers: Branches, takes: int, makes: int) -> L.Layer:
        return L.ConvTranspose(takes, makes, 4, 2, 1, bias=numbers.bias)

    def sample(self, random: Random) -> Branches:
        widths = tuple(random.randint(1, 12) for _ in range(random.randint(3, 5)))
        side, channels = 4 << (len(widths) - 1), random.choice((1, 3))
        numbers = random.randint(1, 40), random.randint(2, 12)
        return Branches(*numbers, widths, (channels, side, side), random.random() < 0.7)


def _table(name: str, layer: L.Layer, classes: int, width: int) -> NamedLayers:
    """What `layer`, called `name`, makes of each class's one-hot vector, as a table of them."""
    own = layer.tensors()
    places = math.prod(own["weight"][2:])

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weight, bias = held[f"{name}.weight"], held.get(f"{name}.bias")
        rows = weight.T if weight.ndim == 2 else weight.flatten(1)
        return {"weight": rows.contiguous() if bias is None else rows + bias.repeat_interleave(places)}

    takes = {f"{name}.{key}": shape for key, shape in own.items()}
    table: NamedLayers = [(Folded(takes, make), L.LabelEmbedding(classes, width * places, merge="label"))]
    side = math.isqrt(places)
    return table if places == 1 else [*table, ("", L.Reshape((width, side, side)))]
