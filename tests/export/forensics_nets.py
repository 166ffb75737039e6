"""Small generators whose BatchNorms were trained, and drafts of them that know nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from export.foreign_networks import feed
from gan_core.interface import Interface, with_interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, BatchNorm, ConvTranspose, LabelEmbedding, Layer, Linear, Reshape
from gan_export.draft import Choice, Draft, Evidence
from gan_trainer.networks.generator import build

Sampler = Callable[[int, int], Tensor]
ENOUGH = 100
"""Batches after which a running statistic of momentum 0.1 has forgotten where it began: 0.9 ** 100 is 3e-5."""
RELU: dict[str, Any] = {"name": "relu", "slope": None}
TANH: dict[str, Any] = {"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}
IDENTITY: dict[str, Any] = {"name": "identity", "slope": None}


def normal(n: int, z_dim: int) -> Tensor:
    return torch.randn(n, z_dim)


def uniform(n: int, z_dim: int) -> Tensor:
    return 2 * torch.rand(n, z_dim) - 1


def half_uniform(n: int, z_dim: int) -> Tensor:
    """U(0, 1)."""
    return torch.rand(n, z_dim)


def leaky(slope: float) -> dict[str, Any]:
    return {"name": "leaky_relu", "slope": slope}


def activation(value: dict[str, Any]) -> Activation:
    return Activation(value["name"], value["slope"])


def mlp(*values: dict[str, Any], eps: float = 1e-5, widths: tuple[int, ...] = (64, 96, 64), z_dim: int = 16) -> Any:
    """Linear, BatchNorm, activation for every value, then Linear, tanh: 1x4x4 images."""
    layers: list[Layer] = []
    features = z_dim
    for value, width in zip(values, widths, strict=False):
        layers += [Linear(features, width), BatchNorm(width, eps=eps), activation(value)]
        features = width
    return GeneratorSpec(
        Interface(z_dim, (1, 4, 4)), (*layers, Linear(features, 16), Activation("tanh"), Reshape((1, 4, 4)))
    )


def dcgan(first: dict[str, Any], second: dict[str, Any], *, n_classes: int = 0, eps: float = 1e-5) -> GeneratorSpec:
    """z 12 → 4x4 → 8x8 → 16x16 in two blocks and an output layer."""
    embedding = (LabelEmbedding(n_classes, 6),) if n_classes else ()
    joined = 12 + (6 if n_classes else 0)
    layers: tuple[Layer, ...] = (
        *embedding,
        Reshape((joined, 1, 1)),
        ConvTranspose(joined, 32, 4, 1, 0, bias=False),
        BatchNorm(32, eps=eps),
        activation(first),
        ConvTranspose(32, 24, 4, 2, 1, bias=False),
        BatchNorm(24, eps=eps),
        activation(second),
        ConvTranspose(24, 1, 4, 2, 1),
        Activation("tanh"),
    )
    return GeneratorSpec(Interface(12, (1, 16, 16), n_classes=n_classes), layers)


def trained(
    spec: GeneratorSpec, z: Sampler = normal, *, batches: int = ENOUGH, gain: float = 1.0, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of `spec` at random (`gain` times torch's), BatchNorms off their initial values, fed in train mode with
    batches of 64 of `z`."""
    return {name: tensor.clone() for name, tensor in _trained(spec, z, batches, gain, seed).items()}


@functools.lru_cache(16)
def _trained(spec: GeneratorSpec, z: Sampler, batches: int, gain: float, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(spec)
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    part.weight.copy_(1 + 0.2 * torch.randn_like(part.weight))
                    part.bias.copy_(0.3 * torch.randn_like(part.bias))
                elif isinstance(part, nn.Linear):
                    part.weight.mul_(gain)
        classes = spec.interface.n_classes
        labels = (torch.randint(classes, (64,)) if classes else None for _ in range(batches))
        feed(module, ((z(64, spec.interface.z_dim), label) for label in labels))
    return {name: tensor for name, tensor in module.state_dict().items() if "num_batches" not in name}


def blank(spec: GeneratorSpec, weights: dict[str, Tensor], evidence: Evidence = Evidence.NONE) -> Draft:
    """A draft that says ReLU, eps 1e-5, normal latents and tanh everywhere, all of it open."""
    layers = list(spec.layers)
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, Activation))
    choices = [Choice(None, "latent", "normal", evidence, "said before", ("uniform",))]
    for i, layer in enumerate(layers):
        if isinstance(layer, LabelEmbedding):
            choices.append(Choice(i, "merge", "z_label", evidence, "said before", ("label_z",)))
            layers[i] = replace(layer, merge="z_label")
        elif isinstance(layer, BatchNorm):
            choices.append(Choice(i, "eps", 1e-5, evidence, "said before", (0.8,)))
            layers[i] = replace(layer, eps=1e-5)
        elif isinstance(layer, Activation) and i == last:
            choices.append(Choice(i, "output", TANH, evidence, "said before"))
            layers[i] = Activation("tanh")
        elif isinstance(layer, Activation):
            choices.append(Choice(i, "activation", RELU, evidence, "said before"))
            layers[i] = Activation("relu")
    said = with_interface(replace(spec, layers=tuple(layers)), latent="normal")
    return Draft(said, spec.by_layer(weights), tuple(choices))


def found(draft: Draft, field: str) -> list[tuple[Any, Evidence]]:
    """(value, evidence) of every choice on `field`, in order."""
    return [(choice.value, choice.evidence) for choice in draft.choices if choice.field == field]
