"""The families with few signs of their own: MLPs, and gan-train's presets.

znxlwm-gan           znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN, Udacity's MNIST GAN: fc1 … fc4
yunjey-gan           yunjey/pytorch-tutorial 03-advanced/generative_adversarial_network
deeplearning-ai-mlp  the GAN specialisation's first notebook
ganport              gan-train's presets, when the spec was lost
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.draft import Evidence
from gan_export.families.family import LEAKY, RELU, SIGMOID, TANH, Family, NamedLayers, Network, Shapes, images_of
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec


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
