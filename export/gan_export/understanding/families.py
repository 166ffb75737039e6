"""Known families: generators of widely used code, recognised by all of their keys and shapes.

A family is a function that reads the few free numbers (nz, ngf, channels …) out of the shapes and writes down the
whole network again, each layer with the name its module has there. It matches when that gives the file's keys and
shapes exactly, nothing missing and nothing over. Then what the code does beyond its tensors (eps, activations, how
z and label are joined, the law of z) is strong evidence; forensics may still contradict it, since people edit code.

`catalogue` lists them; `family_dcgan` and `family_pytorch_gan` hold most. Each was read in its repository: the layouts
are facts about that code. This module matches them and makes drafts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from gan_core.interface import Interface
from gan_core.latents import LatentLaw
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Shape
from gan_export.draft import Choice, Draft, Evidence
from gan_export.understanding import slots
from gan_export.understanding.units import COUNTER

Plan = list[tuple[str, L.Layer]]
"""The layers in the order they run, each with its module's dotted name in the family ("" where it owns no tensors)."""


@dataclass(frozen=True)
class Reading:
    """What a family makes of a file.

    source     where the code is, for people
    evidence   how surely these keys and shapes are that code's: strong, or weak where others use them too
    structure  the same for strides and paddings alone
    latent     the law of z that the code draws
    """

    plan: Plan
    z_dim: int
    image: tuple[int, int, int]
    source: str
    evidence: Evidence = Evidence.STRONG
    structure: Evidence = Evidence.STRONG
    latent: LatentLaw = "normal"
    n_classes: int = 0
    value_range: tuple[float, float] = (-1.0, 1.0)
    notes: tuple[str, ...] = ()


class Shapes(dict[str, Shape]):
    """Key → shape of a file, step counters left out; a key that is missing has shape ()."""

    def __missing__(self, key: str) -> Shape:
        return ()

    def rank(self, key: str, ndim: int) -> bool:
        """Whether the file has `key` with that many dimensions."""
        return len(self[key]) == ndim


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return Shapes({key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)})


def images_of(numbers: int) -> list[tuple[int, int, int]]:
    """The square images of 1 or 3 channels that have so many numbers."""
    found = []
    for channels in (1, 3):
        side = math.isqrt(numbers // channels)
        if side and channels * side**2 == numbers:
            found.append((channels, side, side))
    return found


def matches(reading: Reading, shapes: Shapes) -> bool:
    """Whether the plan's keys and shapes are the file's, all of them."""
    planned = {f"{name}.{local}": shape for name, layer in reading.plan for local, shape in layer.tensors().items()}
    return planned == shapes


def draft_reading(family: str, reading: Reading, tensors: Mapping[str, Tensor]) -> Draft:
    """The draft of a reading that matches. Raises `SpecError` when its layers do not make its image."""
    spec = GeneratorSpec(
        Interface(
            reading.z_dim,
            reading.image,
            latent=reading.latent,
            value_range=reading.value_range,
            n_classes=reading.n_classes,
        ),
        tuple(layer for _, layer in reading.plan),
        name=f"{family}-{reading.image[1]}",
    )
    weights = tuple({own: tensors[f"{name}.{own}"] for own in layer.tensors()} for name, layer in reading.plan)
    return Draft(spec, weights, tuple(_choices(reading)), family=family, notes=reading.notes)


def _choices(reading: Reading) -> Iterable[Choice]:
    said, evidence = f"as {reading.source} has it", reading.evidence
    size = "x".join(map(str, reading.image))
    kernels = [layer for _, layer in reading.plan if isinstance(layer, (L.Conv, L.ConvTranspose))]
    words = {"conv": "conv", "conv_transpose": "convT"}
    text = ", ".join(f"{words[layer.kind]} k{layer.kernel} s{layer.stride} p{layer.padding}" for layer in kernels)
    yield Choice(None, "structure", f"{text} → {size}" if text else size, reading.structure, said)
    yield Choice(None, "latent", reading.latent, evidence, said, slots.others(reading.latent, ("normal", "uniform")))
    last = max(i for i, (_, layer) in enumerate(reading.plan) if isinstance(layer, L.Activation))
    for index, (_, layer) in enumerate(reading.plan):
        if isinstance(layer, L.LabelEmbedding):
            merges = () if layer.merge == "multiply" else slots.others(layer.merge, ("z_label", "label_z"))
            yield Choice(index, "merge", layer.merge, evidence, said, merges)
        elif isinstance(layer, L.BatchNorm):
            yield Choice(index, "eps", layer.eps, evidence, said, slots.others(layer.eps, slots.EPS_VALUES))
        elif isinstance(layer, L.Upsample):
            value = {"mode": layer.mode, "align_corners": layer.align_corners}
            yield Choice(index, "upsample", value, evidence, said, slots.others(value, slots.UPSAMPLE_VALUES))
        elif isinstance(layer, L.Activation) and index != last:
            value = slots.value_of(layer)
            yield Choice(index, "activation", value, evidence, said, slots.others(value, slots.ACTIVATION_VALUES))
        elif isinstance(layer, L.Activation):
            value = slots.value_of(layer) | {"value_range": list(reading.value_range)}
            yield Choice(index, "output", value, evidence, said, slots.others(value, slots.OUTPUT_VALUES))
