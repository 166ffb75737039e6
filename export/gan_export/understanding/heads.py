"""How z and the label become the first vector of a chain: what shapes allow, what is told, what the columns show."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

from torch import Tensor

from gan_core.spec.layers import LabelEmbedding, LabelOneHot, Layer
from gan_export.draft import Choice, Evidence
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
    joined   in words, that two layers take z and the label, which were made one: z comes first
    """

    latent: int | None = None
    classes: int = 0
    by: str = ""
    joined: str = ""


def heads(latent: int, embedding: Unit | None, told: Told = Told(), first: Unit | None = None) -> list[Head]:
    """The heads that make a vector of `latent` for the unit `first`, likeliest first; none when the embedding or what
    is told does not fit."""
    if told.joined and told.latent is not None:
        return [Head(told.latent, LabelOneHot(told.classes), told.classes, notes=(told.joined,))]
    columns = columns_of(first.tensors["weight"]) if first is not None and first.kind in ("linear", "conv") else None
    if embedding is None:
        if told.latent is not None:
            beside = latent - told.latent
            return [Head(latent)] if not beside else [_one_hot(latent, beside, columns, told.by)] if beside > 1 else []
        if 0 < told.classes < latent:
            return [_one_hot(latent, told.classes, columns, told.by)]
        seen = None if columns is None else columns.label
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
        reason = f"{embedding.first_key} is as wide ({dim}) as the first layer's input: multiplied with z, or added"
        merge = Choice(0, "merge", "multiply", Evidence.NONE, reason, ("add",))
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


SPREAD = 1e-4
"""Variance of log norms below which it counts as this."""
TRUST = 0.5
"""Share of the nats that is believed: columns are trained together and so not independent."""
CLEAR = 40.0
"""Nats from which a label is seen where nothing else says that there is one …"""
SHARP = 2.0
"""… if its boundary wins by this many over the next place but one."""
FEWEST, MOST = 5, 100
"""Columns of a label that is seen so; fewer may be a few components of z that the network uses most."""
MOST_NATS = 9.0


@dataclass(frozen=True)
class Columns:
    """The columns of a first layer. `norms` are their log norms: float tensor (inputs,).

    Components of z are alike: each brings numbers of one distribution, so the columns that take them grow alike. The
    few columns that take a label decide what is generated, and stand out. The log norms of all columns, as two normal
    groups instead of one, say where the group of the label is and how wide. On 20 conditional generators of other
    people the right place won by 30 to 400 nats wherever z and label differ in width.
    """

    norms: Tensor

    def behind(self, wide: int) -> float:
        """How much likelier a label of `wide` columns stands behind z than before it, in nats; 0 where both are as
        wide."""
        inputs = len(self.norms)
        if not 0 < wide < inputs or 2 * wide == inputs:
            return 0.0
        nats = TRUST * (self._apart(inputs - wide, inputs) - self._apart(0, wide))
        return max(-MOST_NATS, min(MOST_NATS, nats))

    @functools.cached_property
    def label(self) -> tuple[int, bool] | None:
        """(columns of a label, whether they stand behind z), where one is plainly there; None where not."""
        inputs = len(self.norms)
        if inputs < 12:
            return None
        places = [
            (self._apart(inputs - wide, inputs), wide, True) for wide in range(FEWEST, min(MOST, inputs // 2) + 1)
        ]
        places += [(self._apart(0, wide), wide, False) for wide in range(FEWEST, min(MOST, inputs // 2) + 1)]
        places.sort(reverse=True)
        nats, wide, behind = places[0]
        others = [place[0] for place in places if place[2] != behind or abs(place[1] - wide) > 1]
        if nats < CLEAR or nats - max(others) < SHARP or not self._larger(wide, behind=behind):
            return None
        return wide, behind

    def _larger(self, wide: int, *, behind: bool) -> bool:
        inside = self.norms[-wide:] if behind else self.norms[:wide]
        outside = self.norms[:-wide] if behind else self.norms[wide:]
        return bool(inside.median() > outside.median())

    def _apart(self, start: int, stop: int) -> float:
        """How much better two groups, `start` … `stop` and the rest, say the norms than one, in nats."""
        inside = self.norms[start:stop]
        outside = self.norms[[i for i in range(len(self.norms)) if not start <= i < stop]]
        return _fit(inside) + _fit(outside) - _fit(self.norms)


@functools.lru_cache(8)
def columns_of(weight: Tensor) -> Columns:
    """The columns of a linear layer's weight (out, in), or of a transposed convolution's (in, out, k, k). Kept, by the
    tensor itself: every draft of a file asks for the same."""
    norms = weight.float().flatten(1).norm(dim=1) if weight.dim() == 4 else weight.float().norm(dim=0)
    return Columns(norms.double().clamp_min(1e-12).log())


def _fit(values: Tensor) -> float:
    """The log-likelihood of `values` as one normal group, up to what all groups of a set share."""
    variance = float(values.var(correction=0)) if len(values) > 1 else 0.0
    return -0.5 * len(values) * math.log(variance + SPREAD)
