"""Generators drawn at random from the spec family, with the running statistics that training would have left.

The truth is known, the state_dict shows none of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelEmbedding,
    Layer,
    Linear,
    Reshape,
    Upsample,
    UpsampleMode,
)
from gan_trainer.networks.build import SpecGenerator, build

ACTIVATIONS: tuple[tuple[str, float | None], ...] = (
    ("relu", None), ("leaky_relu", 0.01), ("leaky_relu", 0.1), ("leaky_relu", 0.2), ("leaky_relu", 0.3), ("elu", None),
    ("selu", None), ("gelu", None), ("silu", None), ("tanh", None), ("sigmoid", None), ("identity", None),
)  # fmt: skip
ACTIVATION_ODDS = (0.3, 0.06, 0.08, 0.22, 0.05, 0.06, 0.04, 0.05, 0.05, 0.04, 0.02, 0.03)
EPS = (1e-5, 1e-3, 0.1, 0.8)
EPS_ODDS = (0.55, 0.1, 0.1, 0.25)
KINDS = ("mlp", "dcgan", "upsample", "mixed")

BATCHES = 200
BATCH_SIZE = 64
LEARNING_RATE = 2e-4
"""Size of the random step every weight takes after each batch: the statistics lag behind the weights as in training."""

Rng = np.random.Generator


@dataclass(frozen=True)
class RandomGenerator:
    """`spec` is the truth and `module` has its weights."""

    kind: str
    spec: GeneratorSpec
    module: SpecGenerator

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """What a file would hold, in names that tell nothing of the layers without weights."""
        names: dict[str, str] = {}
        found: dict[str, Tensor] = {}
        for key, tensor in self.module.state_dict().items():
            _, index, tensor_name = key.split(".")
            layer = self.spec.layers[int(index)]
            stem = {"label_embedding": "label_emb", "batch_norm": "norm"}.get(layer.kind, "layer")
            found[f"{names.setdefault(index, f'{stem}{len(names)}')}.{tensor_name}"] = tensor
        return found


def random_generator(seed: int) -> RandomGenerator:
    """The generator of this seed, its BatchNorms fed for `BATCHES` batches of `BATCH_SIZE` in train mode."""
    rng = np.random.default_rng(seed)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    spec = random_spec(kind, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(spec)
        perturb(module)
        gather_statistics(module, rng)
    return RandomGenerator(kind, spec, module.eval())


def random_spec(kind: str, rng: Rng) -> GeneratorSpec:
    """A random member of the family: widths, latent law, labels, structure, activation and eps of every layer."""
    z_dim = int(rng.choice([16, 32, 64, 100]))
    size = int(rng.choice([28, 32]))
    channels = int(rng.choice([1, 3]))
    image = (channels, size, size)
    n_classes = 10 if rng.random() < 0.25 else 0
    head: tuple[Layer, ...] = (LabelEmbedding(n_classes, int(rng.choice([5, 10]))),) if n_classes else ()
    joined = z_dim + (head[0].dim if head and isinstance(head[0], LabelEmbedding) else 0)
    make = {"mlp": _mlp, "dcgan": _dcgan, "upsample": _upsample, "mixed": _mixed}[kind]
    return GeneratorSpec(
        Interface(z_dim, image, latent="normal" if rng.random() < 0.6 else "uniform", n_classes=n_classes),
        (*head, *make(joined, image, rng), *_output(image, flat=kind == "mlp")),
        name=f"random-{kind}",
    )


def _activation(rng: Rng) -> Activation:
    name, slope = ACTIVATIONS[int(rng.choice(len(ACTIVATIONS), p=ACTIVATION_ODDS))]
    return Activation(name, slope)  # type: ignore[arg-type]


class _Style:
    """One author's habits: usually the same activation and eps throughout, sometimes another in one place."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.usual = _activation(rng)
        self.eps = self._draw_eps()

    def activation(self) -> Activation:
        return self.usual if self.rng.random() < 0.75 else _activation(self.rng)

    def norm(self, features: int) -> BatchNorm:
        return BatchNorm(features, eps=self.eps if self.rng.random() < 0.8 else self._draw_eps())

    def _draw_eps(self) -> float:
        return float(self.rng.choice(EPS, p=EPS_ODDS))


def _mlp(features: int, image: tuple[int, int, int], rng: Rng) -> list[Layer]:
    style = _Style(rng)
    layers: list[Layer] = []
    norm_everywhere = rng.random() < 0.5
    for index in range(int(rng.integers(2, 5))):
        width = int(rng.choice([64, 96, 128, 192, 256]))
        layers.append(Linear(features, width))
        if index or norm_everywhere:
            layers.append(style.norm(width))
        layers.append(style.activation())
        features = width
    return [*layers, Linear(features, math.prod(image))]


def _dcgan(features: int, image: tuple[int, int, int], rng: Rng) -> list[Layer]:
    style = _Style(rng)
    layers: list[Layer] = [Reshape((features, 1, 1))]
    width = int(rng.choice([8, 12, 16]))
    bias = bool(rng.random() < 0.3)
    first = (7, 1, 0) if image[1] == 28 else (4, 1, 0)
    steps = [first, *[(4, 2, 1)] * (1 if image[1] == 28 else 2)]
    if rng.random() < 0.3:
        steps.insert(int(rng.integers(1, len(steps) + 1)), (3, 1, 1))
    for index, (kernel, stride, padding) in enumerate(steps):
        out = width * 2 ** (len(steps) - 1 - index)
        layers.append(ConvTranspose(features, out, kernel, stride, padding, bias=bias))
        if kernel != 3 or rng.random() < 0.5:
            layers.append(style.norm(out))
        layers.append(style.activation())
        features = out
    return [*layers, ConvTranspose(features, image[0], 4, 2, 1, bias=bias)]


def _upsample(features: int, image: tuple[int, int, int], rng: Rng) -> list[Layer]:
    style = _Style(rng)
    layers: list[Layer] = []
    width, side = int(rng.choice([8, 16, 24])), image[1] // 4
    layers += [Linear(features, 2 * width * side * side), Reshape((2 * width, side, side)), style.norm(2 * width)]
    if rng.random() < 0.5:
        layers.append(style.activation())
    mode: UpsampleMode = "bilinear" if rng.random() < 0.2 else "nearest"
    for features, channels in ((2 * width, 2 * width), (2 * width, width)):
        layers += [Upsample(2, mode), Conv(features, channels, 3, 1, 1), style.norm(channels), style.activation()]
    return [*layers, Conv(width, image[0], 3, 1, 1)]


def _mixed(features: int, image: tuple[int, int, int], rng: Rng) -> list[Layer]:
    style = _Style(rng)
    layers: list[Layer] = []
    width, side = int(rng.choice([8, 12, 16])), image[1] // 4
    layers += [Linear(features, 4 * width * side * side), Reshape((4 * width, side, side)), style.norm(4 * width)]
    if rng.random() < 0.7:
        layers.append(style.activation())
    if rng.random() < 0.5:
        norms = [style.norm(4 * width)] if rng.random() < 0.5 else []
        layers += [Conv(4 * width, 4 * width, 3, 1, 1), *norms, style.activation()]
    kernel, padding = ((4, 1), (2, 0))[int(rng.integers(2))]
    layers += [ConvTranspose(4 * width, 2 * width, kernel, 2, padding), style.norm(2 * width), style.activation()]
    return [*layers, ConvTranspose(2 * width, image[0], 4, 2, 1)]


def _output(image: tuple[int, int, int], *, flat: bool) -> tuple[Layer, ...]:
    return (Activation("tanh"), Reshape(image)) if flat else (Activation("tanh"),)


def perturb(module: nn.Module) -> None:
    """Moves BatchNorms and biases off their initial values, as training does."""
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                child.weight.copy_(1.0 + 0.2 * torch.randn_like(child.weight))
                child.bias.copy_(0.3 * torch.randn_like(child.bias))
            elif isinstance(child, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) and child.bias is not None:
                child.bias.add_(0.05 * torch.randn_like(child.bias))


def gather_statistics(module: SpecGenerator, rng: Rng) -> None:
    spec = module.spec
    module.train()
    first = int(rng.integers(1 << 40))
    with torch.no_grad():
        for batch in range(BATCHES):
            seeds = np.arange(first + batch * BATCH_SIZE, first + (batch + 1) * BATCH_SIZE)
            z = torch.from_numpy(spec.interface.latents(seeds))
            label = (
                torch.from_numpy(rng.integers(spec.interface.n_classes, size=BATCH_SIZE))
                if spec.interface.n_classes
                else None
            )
            module(z, label)
            for parameter in module.parameters():
                parameter.add_(LEARNING_RATE * torch.randn_like(parameter))
