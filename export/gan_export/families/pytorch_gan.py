"""The families of eriklindernoren/PyTorch-GAN, and what grew out of its code.

pytorch-gan-mlp            gan, wgan_gp and others: four Linears with BN eps 0.8 and LeakyReLU 0.2
pytorch-gan-cgan           the same after cat((label_emb(labels), noise)): the label first
pytorch-gan-dcgan          Linear to 128 x s x s, BN, then twice up 2, conv, BN eps 0.8, LeakyReLU 0.2
pytorch-gan-acgan          the same after label_emb(labels) * noise
mnist-conditional-wgan-gp  HayatoHongo/MNIST-Conditional-WGAN-gp: the same with ReLU, after cat((noise, label_emb))
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from random import Random
from typing import ClassVar, NamedTuple

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families.family import LEAKY, RELU, TANH, Family, NamedLayers, Network, Shapes, images_of

FIRST_NORM_EPS = 1e-5
PYTORCH_GAN_EPS = 0.8
"""The code writes BatchNorm2d(n, 0.8) and means momentum; the second argument is eps."""
INFOGAN = "z of 74 may be PyTorch-GAN's infogan: 62 of noise, a one-hot label of 10, a code of 2"


class Mlp(NamedTuple):
    z_dim: int
    image: tuple[int, int, int]
    n_classes: int
    label_dim: int


class PytorchGanMlp(Family[Mlp]):
    name = "pytorch-gan-mlp"
    source = "eriklindernoren/PyTorch-GAN gan, wgan_gp"
    widths = (128, 256, 512, 1024)
    labelled: ClassVar[bool] = False

    def numbers(self, shapes: Shapes) -> Iterator[Mlp]:
        label = shapes["label_emb.weight"] if self.labelled else (0, 0)
        if len(label) != 2 or not shapes.rank("model.0.weight", 2) or not shapes.rank("model.11.weight", 2):
            return
        for image in images_of(shapes["model.11.weight"][0]):
            yield Mlp(shapes["model.0.weight"][1] - label[1], image, *label)

    def network(self, numbers: Mlp) -> Network:
        z_dim, image, n_classes, label_dim = numbers
        layers: NamedLayers = []
        if n_classes:
            layers.append(("label_emb", L.LabelEmbedding(n_classes, label_dim, merge="label_z")))
        layers += [("model.0", L.Linear(z_dim + label_dim, self.widths[0])), ("", LEAKY)]
        for index, (takes, makes) in enumerate(itertools.pairwise(self.widths)):
            layers += [
                (f"model.{2 + 3 * index}", L.Linear(takes, makes)),
                (f"model.{3 + 3 * index}", L.BatchNorm(makes, eps=PYTORCH_GAN_EPS)),
                ("", LEAKY),
            ]
        layers += [("model.11", L.Linear(self.widths[-1], math.prod(image))), ("", TANH), ("", L.Reshape(image))]
        return Network(layers, Interface(z_dim, image, n_classes=n_classes))

    def sample(self, random: Random) -> Mlp:
        side, classes = random.randint(4, 32), random.randint(2, 12) if self.labelled else 0
        return Mlp(random.randint(1, 128), (random.choice((1, 3)), side, side), classes, classes)


class PytorchGanCgan(PytorchGanMlp):
    name = "pytorch-gan-cgan"
    source = "eriklindernoren/PyTorch-GAN cgan"
    labelled = True


class Conv(NamedTuple):
    z_dim: int
    side: int
    channels: int
    body: str
    label: tuple[int, int] = (0, 0)


class PytorchGanDcgan(Family[Conv]):
    """`l1.0` Linear to 128 x s x s, then BN, up 2, conv, BN 0.8, activation, up 2, conv, BN 0.8, activation, conv."""

    name = "pytorch-gan-dcgan"
    source = "eriklindernoren/PyTorch-GAN dcgan"
    activation: ClassVar[L.Activation] = LEAKY
    merge: ClassVar[L.Merge | None] = None

    def numbers(self, shapes: Shapes) -> Iterator[Conv]:
        first, label = shapes["l1.0.weight"], shapes["label_emb.weight"] if self.merge else (0, 0)
        if len(first) != 2 or len(label) != 2:
            return
        z_dim = first[1] - (label[1] if self.merge != "multiply" else 0)
        for body in ("conv_blocks", "conv_model"):
            if shapes.rank(f"{body}.9.weight", 4) and z_dim > 0:
                channels = shapes[f"{body}.9.weight"][0]
                yield Conv(z_dim, math.isqrt(first[0] // 128), channels, body, (label[0], label[1]))

    def network(self, numbers: Conv) -> Network:
        z_dim, side, channels, body, (n_classes, label_dim) = numbers
        layers: NamedLayers = []
        if self.merge:
            layers.append(("label_emb", L.LabelEmbedding(n_classes, label_dim, merge=self.merge)))
        takes = z_dim + (label_dim if self.merge != "multiply" else 0)
        layers += [
            ("l1.0", L.Linear(takes, 128 * side**2)),
            ("", L.Reshape((128, side, side))),
            (f"{body}.0", L.BatchNorm(128, eps=FIRST_NORM_EPS)),
            ("", L.Upsample(2)),
            (f"{body}.2", L.Conv(128, 128, 3, padding=1)),
            (f"{body}.3", L.BatchNorm(128, eps=PYTORCH_GAN_EPS)),
            ("", self.activation),
            ("", L.Upsample(2)),
            (f"{body}.6", L.Conv(128, 64, 3, padding=1)),
            (f"{body}.7", L.BatchNorm(64, eps=PYTORCH_GAN_EPS)),
            ("", self.activation),
            (f"{body}.9", L.Conv(64, channels, 3, padding=1)),
            ("", TANH),
        ]
        interface = Interface(z_dim, (channels, 4 * side, 4 * side), n_classes=n_classes)
        return Network(layers, interface, notes=(INFOGAN,) if z_dim == 74 and not self.merge else ())

    def sample(self, random: Random) -> Conv:
        z_dim, classes = random.randint(1, 80), random.randint(2, 12)
        label = {None: (0, 0), "multiply": (classes, z_dim)}.get(self.merge, (classes, random.randint(1, 12)))
        body = random.choice(("conv_blocks", "conv_model"))
        return Conv(z_dim, random.randint(1, 8), random.choice((1, 3)), body, label)


class PytorchGanAcgan(PytorchGanDcgan):
    name = "pytorch-gan-acgan"
    source = "eriklindernoren/PyTorch-GAN acgan"
    merge = "multiply"


class MnistConditionalWganGp(PytorchGanDcgan):
    name = "mnist-conditional-wgan-gp"
    source = "HayatoHongo/MNIST-Conditional-WGAN-gp"
    activation = RELU
    merge = "z_label"
