"""How z and the label become the first vector: alone, beside an embedding, times an embedding, beside a one-hot."""

from __future__ import annotations

from dataclasses import dataclass

from gan_core.spec.layers import LabelEmbedding, LabelOneHot, Layer
from gan_export.draft import Choice, Evidence
from gan_export.understanding.units import Unit

CLASSES = 10
"""Classes assumed for a one-hot label, which leaves no tensor: those of MNIST, Fashion-MNIST and CIFAR-10."""
ROUND_LATENTS = (10, 16, 20, 32, 50, 62, 64, 100, 128, 256)
"""Lengths of z that people choose; only one of these plus `CLASSES` raises the question of a one-hot label."""


@dataclass(frozen=True)
class Head:
    """What comes before the first step: z of `z_dim`, a label layer of `n_classes` or none, and what is open in it."""

    z_dim: int
    layer: Layer | None = None
    n_classes: int = 0
    embedding: Unit | None = None
    choices: tuple[Choice, ...] = ()
    cost: float = 0.0
    notes: tuple[str, ...] = ()


def heads(latent: int, embedding: Unit | None) -> list[Head]:
    """The heads that make a vector of `latent`, likeliest first; none when the embedding does not fit."""
    if embedding is None:
        found = [Head(latent)]
        if latent - CLASSES in ROUND_LATENTS and latent not in ROUND_LATENTS:
            found.append(_one_hot(latent))
        return found
    n_classes, dim = embedding.shape
    if dim == latent:
        layer = LabelEmbedding(n_classes, dim, merge="multiply")
        reason = f"{embedding.first_key} is as wide ({dim}) as the first layer's input, so it is multiplied with z"
        merge = Choice(0, "merge", "multiply", Evidence.PROVED, reason)
        return [Head(latent, layer, n_classes, embedding, (merge,))]
    if dim > latent:
        return []
    reason = f"{embedding.first_key} adds {dim} numbers to z; whether before or after it, shapes do not show"
    merge = Choice(0, "merge", "z_label", Evidence.NONE, reason, ("label_z",))
    return [Head(latent - dim, LabelEmbedding(n_classes, dim, merge="z_label"), n_classes, embedding, (merge,))]


def _one_hot(latent: int) -> Head:
    z_dim = latent - CLASSES
    note = f"the first layer takes {latent} numbers: read here as z of {z_dim} and a one-hot label of {CLASSES} classes"
    merge = Choice(0, "merge", "z_label", Evidence.NONE, "a one-hot label leaves no tensor", ("label_z",))
    return Head(z_dim, LabelOneHot(CLASSES, merge="z_label"), CLASSES, None, (merge,), cost=2.5, notes=(note,))
