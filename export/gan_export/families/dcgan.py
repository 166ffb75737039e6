"""The DCGAN families: transposed convolutions from 1x1, told apart by how the modules are named.

pytorch-examples-dcgan  pytorch/examples dcgan/main.py, and the tutorials that kept its keys (DCGAN faces,
                        pytorch-book's 96x96 anime faces with k5 s3 p1 last, 28x28 with k1 p2 last)
zeleni9-wgan            Zeleni9/pytorch-wgan
znxlwm-dcgan            znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN
yunjey-dcgan            yunjey/pytorch-tutorial 03-advanced/deep_convolutional_gan
wgan-arjovsky-dcgan     martinarjovsky/WassersteinGAN models/dcgan.py
emilien-dupont-wgan-gp  EmilienDupont/wgan-gp
deeplearning-ai-dcgan   the GAN specialisation's notebooks: DCGAN, and its conditional form deeplearning-ai-cgan
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from random import Random
from typing import ClassVar, NamedTuple

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import RELU, SIGMOID, TANH, Family, NamedLayers, Network, Shapes


class Stack(NamedTuple):
    """Transposed convolutions from 1x1: `widths` are their channels but the last's, `last` its (kernel, stride,
    padding)."""

    z_dim: int
    widths: tuple[int, ...]
    channels: int
    last: tuple[int, int, int] = (4, 2, 1)

    @property
    def steps(self) -> list[tuple[int, int, int, int, int]]:
        """(channels in, channels out, kernel, stride, padding) of each: k4 s1 p0, then k4 s2 p1 up to the last."""
        sizes = [(4, 1, 0), *[(4, 2, 1)] * (len(self.widths) - 1), self.last]
        pairs = itertools.pairwise((self.z_dim, *self.widths, self.channels))
        return [(*pair, *size) for pair, size in zip(pairs, sizes, strict=True)]

    @property
    def image(self) -> tuple[int, int, int]:
        before = 4 * 2 ** (len(self.widths) - 1)
        size = L.ConvTranspose(1, self.channels, *self.last).out_shape((1, before, before))[1]
        return self.channels, size, size


def _stack(random: Random, *lasts: tuple[int, int, int]) -> Stack:
    widths = tuple(random.randint(1, 12) for _ in range(random.randint(2, 4)))
    return Stack(random.randint(1, 40), widths, random.choice((1, 3)), random.choice(lasts))


class PytorchExamplesDcgan(Family[Stack]):
    """`main.0` ConvT, `.1` BN, `.2` ReLU, `.3` ConvT …: k4 s1 p0, then k4 s2 p1, the last of kernel 4, 5 or 1."""

    name = "pytorch-examples-dcgan"
    source = "pytorch/examples dcgan"
    prefix: ClassVar[str] = "main"
    bias: ClassVar[bool] = False

    def numbers(self, shapes: Shapes) -> Iterator[Stack]:
        weights = shapes.row((f"{self.prefix}.{3 * index}.weight" for index in itertools.count()), 4)
        if len(weights) < 2:
            return
        _, makes, kernel, _ = weights[-1]
        ones = ((1, 1, 2), (1, 1, 0)) if makes == 1 else ((1, 1, 0),)
        for last in {4: ((4, 2, 1),), 5: ((5, 3, 1),), 1: ones}.get(kernel, ()):
            yield Stack(weights[0][0], tuple(weight[1] for weight in weights[:-1]), makes, last)

    def network(self, numbers: Stack) -> Network:
        layers: NamedLayers = [("", L.Reshape((numbers.z_dim, 1, 1)))]
        for index, step in enumerate(numbers.steps):
            layers.append((f"{self.prefix}.{3 * index}", L.ConvTranspose(*step, bias=self.bias)))
            if index < len(numbers.widths):
                layers += [(f"{self.prefix}.{3 * index + 1}", L.BatchNorm(step[1])), ("", RELU)]
        # With a last kernel of 1, shapes do not tell 28x28 (padding 2) from 32x32.
        questions = ("structure",) if numbers.last[0] == 1 else ()
        return Network([*layers, ("", TANH)], Interface(numbers.z_dim, numbers.image), questions=questions)

    def sample(self, random: Random) -> Stack:
        return _stack(random, (4, 2, 1), (5, 3, 1), (1, 1, 0))


class Zeleni9(PytorchExamplesDcgan):
    name = "zeleni9-wgan"
    source = "Zeleni9/pytorch-wgan"
    prefix = "main_module"
    bias = True


class ZnxlwmDcgan(Family[Stack]):
    """`deconv1`, `deconv1_bn` …, k4 s1 p0 then k4 s2 p1, ReLU, tanh, biases everywhere."""

    name = "znxlwm-dcgan"
    source = "znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN"

    def numbers(self, shapes: Shapes) -> Iterator[Stack]:
        weights = shapes.row((f"deconv{number}.weight" for number in itertools.count(1)), 4)
        if len(weights) >= 3:
            yield Stack(weights[0][0], tuple(weight[1] for weight in weights[:-1]), weights[-1][1])

    def network(self, numbers: Stack) -> Network:
        layers: NamedLayers = [("", L.Reshape((numbers.z_dim, 1, 1)))]
        for number, step in enumerate(numbers.steps, 1):
            layers.append((f"deconv{number}", L.ConvTranspose(*step)))
            if number <= len(numbers.widths):
                layers += [(f"deconv{number}_bn", L.BatchNorm(step[1])), ("", RELU)]
        return Network([*layers, ("", TANH)], Interface(numbers.z_dim, numbers.image))

    def sample(self, random: Random) -> Stack:
        return _stack(random, (4, 2, 1))


class YunjeyDcgan(Family[tuple[int, int, tuple[int, ...]]]):
    """`fc.0` ConvT of the whole first image, then `deconvN.0`, `deconvN.1`: LeakyReLU 0.05, none after `fc`.

    Numbers: z_dim, the first image's side, the channels after `fc`, `deconv1` … `deconv4`.
    """

    name = "yunjey-dcgan"
    source = "yunjey/pytorch-tutorial deep_convolutional_gan"

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        weights = shapes.row(("fc.0.weight", *(f"deconv{number}.0.weight" for number in range(1, 5))), 4)
        if len(weights) == 5:
            yield weights[0][0], weights[0][2], tuple(weight[1] for weight in weights)

    def network(self, numbers: tuple[int, int, tuple[int, ...]]) -> Network:
        z_dim, side, widths = numbers
        layers: NamedLayers = [("", L.Reshape((z_dim, 1, 1))), ("fc.0", L.ConvTranspose(z_dim, widths[0], side))]
        for number, (takes, makes) in enumerate(itertools.pairwise(widths), 1):
            layers.append((f"deconv{number}.0", L.ConvTranspose(takes, makes, 4, 2, 1)))
            if number < 4:
                layers += [(f"deconv{number}.1", L.BatchNorm(makes)), ("", L.Activation("leaky_relu", slope=0.05))]
        return Network([*layers, ("", TANH)], Interface(z_dim, (widths[-1], 16 * side, 16 * side)))

    def sample(self, random: Random) -> tuple[int, int, tuple[int, ...]]:
        widths = tuple(random.randint(1, 12) for _ in range(4))
        return random.randint(1, 40), random.randint(1, 5), (*widths, random.choice((1, 3)))


class ArjovskyNumbers(NamedTuple):
    stack: Stack
    extra_layers: int
    separator: str


class ArjovskyDcgan(Family[ArjovskyNumbers]):
    """`main.pyramid.512-256.convt` or with colons; ReLU after each BN, extra 3x3 convolutions before the last."""

    name = "wgan-arjovsky-dcgan"
    source = "martinarjovsky/WassersteinGAN"

    def numbers(self, shapes: Shapes) -> Iterator[ArjovskyNumbers]:
        weights, extra_layers, separator = [], 0, ""
        for key in shapes:
            found = re.fullmatch(r"main[.](initial|pyramid|final)([.:])\d+-\d+\2convt[.]weight", key)
            if found and shapes.rank(key, 4):
                weights.append((("initial", "pyramid", "final").index(found[1]), -shapes[key][0], shapes[key]))
                separator = found[2]
            extra_layers += bool(re.fullmatch(r"main[.]extra-layers-\d+[.:]\d+[.:]conv[.]weight", key))
        weights.sort()  # a file may have sorted its keys; the widths halve
        if len(weights) >= 2:
            widths = tuple(shape[1] for *_, shape in weights)
            yield ArjovskyNumbers(Stack(weights[0][2][0], widths[:-1], widths[-1]), extra_layers, separator)

    def network(self, numbers: ArjovskyNumbers) -> Network:
        stack, extra_layers, _ = numbers
        layers: NamedLayers = [("", L.Reshape((stack.z_dim, 1, 1)))]

        def add(part: str, between: object, own: str, layer: L.Layer) -> None:
            layers.append(("main." + numbers.separator.join((part, str(between), own)), layer))

        *steps, last = stack.steps
        for index, step in enumerate(steps):
            part = "pyramid" if index else "initial"
            add(part, f"{step[0]}-{step[1]}", "convt", L.ConvTranspose(*step, bias=False))
            add(part, step[1], "batchnorm", L.BatchNorm(step[1]))
            layers.append(("", RELU))
        for index in range(extra_layers):
            width = stack.widths[-1]
            add(f"extra-layers-{index}", width, "conv", L.Conv(width, width, 3, padding=1, bias=False))
            add(f"extra-layers-{index}", width, "batchnorm", L.BatchNorm(width))
            layers.append(("", RELU))
        add("final", f"{last[0]}-{last[1]}", "convt", L.ConvTranspose(*last, bias=False))
        return Network([*layers, ("", TANH)], Interface(stack.z_dim, stack.image))

    def sample(self, random: Random) -> ArjovskyNumbers:
        widths = (16, 8, 4, 2)[random.randint(0, 3) :]
        stack = Stack(random.randint(1, 40), widths, random.choice((1, 3)))
        return ArjovskyNumbers(stack, random.randint(0, 2), random.choice(".:"))


class EmilienDupont(Family[tuple[int, int, tuple[int, ...]]]):
    """Linear, ReLU, then ConvT, ReLU, BN in that order, sigmoid: images in [0, 1].

    Numbers: z_dim, the first image's side, the channels that the four transposed convolutions take, and the image's.
    """

    name = "emilien-dupont-wgan-gp"
    source = "EmilienDupont/wgan-gp"

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        first = shapes["latent_to_features.0.weight"]
        weights = shapes.row((f"features_to_image.{3 * index}.weight" for index in range(4)), 4)
        if len(first) == 2 and len(weights) == 4:
            channels = (*(weight[0] for weight in weights), weights[-1][1])
            yield first[1], math.isqrt(first[0] // max(channels[0], 1)), channels

    def network(self, numbers: tuple[int, int, tuple[int, ...]]) -> Network:
        z_dim, side, channels = numbers
        start = (channels[0], side, side)
        layers: NamedLayers = [
            ("latent_to_features.0", L.Linear(z_dim, math.prod(start))),
            ("", RELU),
            ("", L.Reshape(start)),
        ]
        for index, (takes, makes) in enumerate(itertools.pairwise(channels)):
            name = f"features_to_image.{3 * index}"
            layers.append((name, L.ConvTranspose(takes, makes, 4, 2, 1)))
            if index < 3:
                layers += [("", RELU), (f"features_to_image.{3 * index + 2}", L.BatchNorm(makes))]
        image = (channels[-1], 16 * side, 16 * side)
        return Network([*layers, ("", SIGMOID)], Interface(z_dim, image, value_range=(0.0, 1.0)))

    def sample(self, random: Random) -> tuple[int, int, tuple[int, ...]]:
        channels = tuple(random.randint(1, 12) for _ in range(4))
        return random.randint(1, 40), random.randint(1, 4), (*channels, random.choice((1, 3)))


class DeepLearningAiDcgan(Family[tuple[int, tuple[int, ...]]]):
    """`gen.N.0`, `gen.N.1`: k3 s2, k4 s1, k3 s2, k4 s2, all without padding: 1, 3, 6, 13, 28.

    Numbers: z_dim, and the channels that each makes. A z of 74 is the conditional form's.
    """

    name = "deeplearning-ai-dcgan"
    source = "deeplearning.ai's DCGAN"
    one_hot: ClassVar[int] = 0

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, tuple[int, ...]]]:
        weights = shapes.row((f"gen.{index}.0.weight" for index in range(4)), 4)
        if len(weights) == 4 and (weights[0][0] == 74) == bool(self.one_hot):
            yield weights[0][0] - self.one_hot, tuple(weight[1] for weight in weights)

    def network(self, numbers: tuple[int, tuple[int, ...]]) -> Network:
        z_dim, channels = numbers
        layers: NamedLayers = [("", L.LabelOneHot(self.one_hot, merge="z_label"))] if self.one_hot else []
        takes = z_dim + self.one_hot
        layers.append(("", L.Reshape((takes, 1, 1))))
        for index, (makes, kernel, stride) in enumerate(zip(channels, (3, 4, 3, 4), (2, 1, 2, 2), strict=True)):
            layers.append((f"gen.{index}.0", L.ConvTranspose(takes, makes, kernel, stride)))
            layers += [(f"gen.{index}.1", L.BatchNorm(makes)), ("", RELU)] if index < 3 else [("", TANH)]
            takes = makes
        return Network(layers, Interface(z_dim, (channels[-1], 28, 28), n_classes=self.one_hot))

    def sample(self, random: Random) -> tuple[int, tuple[int, ...]]:
        z_dim = 64 if self.one_hot else random.randint(1, 73)
        return z_dim, (*(random.randint(1, 12) for _ in range(3)), random.choice((1, 3)))


class DeepLearningAiCgan(DeepLearningAiDcgan):
    name = "deeplearning-ai-cgan"
    source = "deeplearning.ai's conditional GAN (z of 64, one-hot of 10)"
    one_hot = 10
