"""Plain networks of tutorials: MLPs, those of eriklindernoren/PyTorch-GAN, and gan-train's presets.

znxlwm-gan                 znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN, Udacity's MNIST GAN: fc1 … fc4
yunjey-gan                 yunjey/pytorch-tutorial 03-advanced/generative_adversarial_network
deeplearning-ai-mlp        the GAN specialisation's first notebook
ganport                    gan-train's presets, when the spec was lost
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
from gan_export.draft import Evidence
from gan_export.families import LEAKY, RELU, SIGMOID, TANH, Family, NamedLayers, Network, Shapes, images_of
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec

FIRST_NORM_EPS = 1e-5
PYTORCH_GAN_EPS = 0.8
"""The code writes BatchNorm2d(n, 0.8) and means momentum; the second argument is eps."""
INFOGAN = "z of 74 may be PyTorch-GAN's infogan: 62 of noise, a one-hot label of 10, a code of 2"


class Dense(NamedTuple):
    """Linear layers of `widths` after z, the last of them the numbers of `image`."""

    z_dim: int
    widths: tuple[int, ...]
    image: tuple[int, int, int]

    @property
    def linears(self) -> list[L.Linear]:
        return [L.Linear(*pair) for pair in itertools.pairwise((self.z_dim, *self.widths, math.prod(self.image)))]


def _dense(weights: list[L.Shape]) -> Iterator[Dense]:
    for image in images_of(weights[-1][0]):
        yield Dense(weights[0][1], tuple(weight[0] for weight in weights[:-1]), image)


def _square(random: Random) -> tuple[int, int, int]:
    side = random.randint(2, 32)
    return random.choice((1, 3)), side, side


class ZnxlwmGan(Family[Dense]):
    """`fc1` … `fc4`, LeakyReLU 0.2, tanh: also Udacity's, whose z is uniform, so that the distribution stays open."""

    name = "znxlwm-gan"
    source = "znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN and Udacity's MNIST GAN"

    def numbers(self, shapes: Shapes) -> Iterator[Dense]:
        weights = shapes.row((f"fc{number}.weight" for number in range(1, 5)), 2)
        if len(weights) == 4 and weights[1][0] == 2 * weights[0][0] and weights[2][0] == 4 * weights[0][0]:
            yield from _dense(weights)

    def network(self, numbers: Dense) -> Network:
        layers: NamedLayers = []
        for number, linear in enumerate(numbers.linears, 1):
            layers += [(f"fc{number}", linear), ("", LEAKY if number < 4 else TANH)]
        layers.append(("", L.Reshape(numbers.image)))
        return Network(layers, Interface(numbers.z_dim, numbers.image), Evidence.WEAK)

    def sample(self, random: Random) -> Dense:
        width = random.randint(1, 16)
        return Dense(random.randint(1, 40), (width, 2 * width, 4 * width), _square(random))


class YunjeyGan(Family[Dense]):
    """`0`, `2`, `4` of a bare Sequential, 64 → 256 → 256 → 784, ReLU, tanh. Any other MLP may have these keys."""

    name = "yunjey-gan"
    source = "yunjey/pytorch-tutorial generative_adversarial_network"

    def numbers(self, shapes: Shapes) -> Iterator[Dense]:
        weights = shapes.row((f"{number}.weight" for number in (0, 2, 4)), 2)
        if [weight[0] for weight in weights] == [256, 256, 784]:
            yield Dense(weights[0][1], (256, 256), (1, 28, 28))

    def network(self, numbers: Dense) -> Network:
        layers: NamedLayers = []
        for number, linear in zip((0, 2, 4), numbers.linears, strict=True):
            layers += [(str(number), linear), ("", RELU if number < 4 else TANH)]
        layers.append(("", L.Reshape(numbers.image)))
        return Network(layers, Interface(numbers.z_dim, numbers.image), Evidence.WEAK)

    def sample(self, random: Random) -> Dense:
        return Dense(random.randint(1, 100), (256, 256), (1, 28, 28))


class DeepLearningAiMlp(Family[Dense]):
    """`gen.N.0` Linear, `gen.N.1` BN, ReLU, four times doubling, `gen.4` Linear, sigmoid: images in [0, 1]."""

    name = "deeplearning-ai-mlp"
    source = "deeplearning.ai's first GAN"

    def numbers(self, shapes: Shapes) -> Iterator[Dense]:
        weights = shapes.row((*(f"gen.{index}.0.weight" for index in range(4)), "gen.4.weight"), 2)
        if len(weights) == 5:
            yield from _dense(weights)

    def network(self, numbers: Dense) -> Network:
        layers: NamedLayers = []
        *hidden, last = numbers.linears
        for index, linear in enumerate(hidden):
            layers += [(f"gen.{index}.0", linear), (f"gen.{index}.1", L.BatchNorm(linear.out_features)), ("", RELU)]
        layers += [("gen.4", last), ("", SIGMOID), ("", L.Reshape(numbers.image))]
        return Network(layers, Interface(numbers.z_dim, numbers.image, value_range=(0.0, 1.0)))

    def sample(self, random: Random) -> Dense:
        width = random.randint(1, 8)
        return Dense(random.randint(1, 40), (width, 2 * width, 4 * width, 8 * width), _square(random))


class Preset(NamedTuple):
    arch: str
    size: int
    channels: int
    width: int
    z_dim: int
    n_classes: int


class Ganport(Family[Preset]):
    """gan-train's own presets: `layers.N.weight`."""

    name = "ganport"
    source = "gan-train"

    def numbers(self, shapes: Shapes) -> Iterator[Preset]:
        if not all(key.startswith("layers.") for key in shapes):
            return
        label = shapes["layers.0.weight"] if "layers.0.bias" not in shapes else ()
        n_classes = label[0] if len(label) == 2 and label[0] == label[1] else 0
        weights = [shape for key, shape in shapes.items() if key.endswith("weight") and len(shape) in (2, 4)]
        weights = weights[1:] if n_classes else weights
        if len(weights) < 2:
            return
        dense = len(weights[0]) == 2
        z_dim = weights[0][1 if dense else 0] - n_classes
        residual = dense and len(weights[-1]) == 4
        # The inputs of the last convolution: a transposed one's weight has them first.
        last = weights[-1][1:2] if residual else (weights[0][0] // 2,) if dense else weights[-1][:2]
        widths = {width for inputs in last for width in (inputs, inputs // 2) if width}
        kinds = {"mlp": (True, False), "dcgan": (False, False), "resize": (False, False), "resnet": (True, True)}
        for arch, size, channels in itertools.product(ARCHITECTURES, SIZES, (1, 3)):
            for width in widths if (dense, residual) == kinds[arch] and z_dim > 0 else ():
                yield Preset(arch, size, channels, width, z_dim, n_classes)

    def network(self, numbers: Preset) -> Network:
        arch, size, channels, width, z_dim, n_classes = numbers
        spec = network_spec(arch, size, channels, width=width, z_dim=z_dim, n_classes=n_classes)
        return Network([(f"layers.{index}", layer) for index, layer in enumerate(spec.layers)], spec.interface)

    def sample(self, random: Random) -> Preset:
        channels, width = random.choice((1, 3)), random.randint(1, 8)
        classes = random.choice((0, random.randint(2, 12)))
        arch, size = random.choice(ARCHITECTURES), random.choice(SIZES[:3])
        return Preset(arch, size, channels, width, random.randint(1, 40), classes)


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
