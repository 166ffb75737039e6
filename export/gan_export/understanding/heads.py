"""How z and the label become the first vector of a chain: what shapes allow, what is told, what the columns show."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gan_core.spec.layers import LabelEmbedding, LabelOneHot, Layer
from gan_export.draft import Choice, Evidence
from gan_export.understanding.label_columns import Columns, columns_of
from gan_export.understanding.units import Unit

CLASSES = 10
"""Classes assumed for a one-hot label, which leaves no tensor: those of MNIST, Fashion-MNIST and CIFAR-10."""
COLUMNS_COST = 6.0
"""What it costs to read a label's columns, which stand out plainly, as more of z."""
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


@dataclass(frozen=True)
class Told:
    """What something outside the chain says of its inputs: an encoder, a discriminator. None and 0: nothing.

    latent   numbers of z
    classes  of a one-hot label
    by       who says so, for people
    """

    latent: int | None = None
    classes: int = 0
    by: str = ""


def heads(latent: int, embedding: Unit | None, told: Told = Told(), first: Unit | None = None) -> list[Head]:
    """The heads that make a vector of `latent` for the unit `first`, likeliest first; none when the embedding or what
    is told does not fit."""
    columns = columns_of(first.tensors["weight"]) if first is not None and first.kind in ("linear", "conv") else None
    if embedding is None:
        if told.latent is not None:
            beside = latent - told.latent
            return [Head(latent)] if not beside else [_one_hot(latent, beside, columns, told.by)] if beside > 1 else []
        if 0 < told.classes < latent:
            return [_one_hot(latent, told.classes, columns, told.by)]
        seen = None if columns is None else columns.label()
        if seen is not None:
            plain = replace(Head(latent), cost=COLUMNS_COST)
            return [_one_hot(latent, seen[0], columns, "the first layer's columns"), plain]
        found = [Head(latent)]
        if latent - CLASSES in ROUND_LATENTS and latent not in ROUND_LATENTS:
            found.append(_one_hot(latent, CLASSES, columns))
        return found
    n_classes, dim = embedding.shape
    if told.latent not in (None, latent - dim, latent):
        return []
    if dim == latent:
        layer = LabelEmbedding(n_classes, dim, merge="multiply")
        reason = f"{embedding.first_key} is as wide ({dim}) as the first layer's input, so it is multiplied with z"
        merge = Choice(0, "merge", "multiply", Evidence.PROVED, reason)
        return [Head(latent, layer, n_classes, embedding, (merge,))]
    if dim > latent:
        return []
    reason = f"{embedding.first_key} adds {dim} numbers to z; whether before or after it, shapes do not show"
    merge = _merge(dim, columns, reason)
    return [Head(latent - dim, LabelEmbedding(n_classes, dim, merge=merge.value), n_classes, embedding, (merge,))]


def _one_hot(latent: int, classes: int, columns: Columns | None, by: str = "") -> Head:
    z_dim = latent - classes
    said = f", as {by} show{'' if by.endswith('s') else 's'}" if by else ""
    note = (
        f"the first layer takes {latent} numbers: read as z of {z_dim} and a one-hot label of {classes} classes{said}"
    )
    merge = _merge(classes, columns, "a one-hot label leaves no tensor")
    layer = LabelOneHot(classes, merge=merge.value)
    return Head(z_dim, layer, classes, None, (merge,), cost=0.0 if by else 2.5, notes=(note,))


def _merge(wide: int, columns: Columns | None, reason: str) -> Choice:
    """Whether a label of `wide` numbers stands behind z or before it."""
    nats = 0.0 if columns is None else columns.behind(wide)
    if not nats:
        return Choice(0, "merge", "z_label", Evidence.NONE, reason, ("label_z",))
    order = ("z_label", "label_z") if nats > 0 else ("label_z", "z_label")
    odds = math.exp(abs(nats))
    where = "behind" if nats > 0 else "before"
    reason += f"; the columns of the first layer that stand out are those {where} the others, {odds:.2g} : 1"
    return Choice(0, "merge", order[0], Evidence.STRONG if odds >= 100 else Evidence.WEAK, reason, order[1:], odds)
