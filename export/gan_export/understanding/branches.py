"""A branch for the label beside that for z, as one chain.

A linear layer that takes a one-hot label is a table of what it makes of each class.
Where two layers take z and the one-hot label, and what both make is concatenated, one layer of both does the same: its
weight has the two weights in its blocks and zeros beside them. Norms and activations run channel by channel, so they
may as well come behind. Shapes do not show whose values come first; the BatchNorms behind remember it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gan_export.understanding.candidates import find_chains
from gan_export.understanding.chaining import Chain
from gan_export.understanding.heads import Told
from gan_export.understanding.units import Unit

MOST_CLASSES = 100
"""Classes of a label that a layer takes as numbers, one-hot."""
SCALAR_CLASSES = 10
"""Classes assumed of a label that a linear layer takes as one number."""


def side_by_side(z: Tensor, label: Tensor, *, label_first: bool = False) -> Tensor:
    """The weight of one layer that takes z, then the label, and makes what the layers with these two make, the label's
    before z's if `label_first`: of linear layers (out, in), of transposed convolutions (in, out, k, k)."""
    rows, columns = z.shape[:2]
    both = z.new_zeros(rows + label.shape[0], columns + label.shape[1], *z.shape[2:])
    both[:rows, :columns], both[rows:, columns:] = z, label
    outputs = 0 if z.ndim == 2 else 1
    return both.roll(label.shape[outputs], outputs) if label_first else both


def with_label_table(units: list[Unit]) -> tuple[list[Unit], list[Chain]] | None:
    """(`units` with the linear layer of a label as an embedding, the chains of the others), where one layer is left
    over that the next takes beside z: a one-hot label through a linear layer is a row of a table."""
    if any(unit.kind == "embedding" for unit in units):
        return None
    for unit in units:
        if unit.kind != "linear" or unit.shape[1] > MOST_CLASSES:
            continue
        others = [other for other in units if other is not unit]
        chains, _ = find_chains(others)
        chains = [chain for chain in chains if chain.latent > unit.shape[0]]
        if chains:
            return [_table_of(unit), *others], chains
    return None


def _table_of(unit: Unit) -> Unit:
    """A linear layer as the table of what it makes of each class."""
    weight = unit.tensors["weight"].float()
    rows = weight.T if weight.shape[1] > 1 else torch.arange(SCALAR_CLASSES)[:, None] * weight.T
    bias = unit.tensors.get("bias")
    return Unit(unit.name, "embedding", {"weight": (rows if bias is None else rows + bias).contiguous()})


def with_branches(
    units: Sequence[Unit], told: Told, *, label_first: bool
) -> tuple[list[Unit], list[Chain], Told] | None:
    """(`units` with two branches as one, their chains, what is known of their inputs), where the first two layers that
    mix features are branches; None where no chain comes of it, or no BatchNorm behind tells whose values come first."""
    trunk = [unit for unit in units if unit.kind in ("linear", "conv")]
    if len(trunk) < 3 or any(unit.kind in ("embedding", "unknown") for unit in units):
        return None
    first, second = trunk[:2]
    third = units.index(trunk[2])
    if first.kind != second.kind or first.shape[2:] != second.shape[2:] or first.bias != second.bias:
        return None
    z, label = sorted((first, second), key=_inputs, reverse=True)
    classes = _inputs(label)
    if not 1 < classes <= MOST_CLASSES or classes == _inputs(z) or told.classes not in (0, classes):
        return None
    if told.latent not in (None, _inputs(z)):
        return None
    norms = [unit for unit in units[:third] if unit.kind == "batch_norm"]
    if len(norms) not in (0, 2) or not any(unit.kind == "batch_norm" and unit.trained for unit in units[third:]):
        return None
    weight = side_by_side(z.tensors["weight"], label.tensors["weight"], label_first=label_first)
    order = (label, z) if label_first else (z, label)
    joined = [replace(z, tensors={"weight": weight} | _joined(order))]
    if norms:
        own = dict(zip((first.name, second.name), norms, strict=True))
        if any(own[unit.name].shape != (_outputs(unit),) for unit in order) or len(set(map(_names, norms))) > 1:
            return None
        joined.append(replace(own[z.name], tensors=_joined([own[unit.name] for unit in order])))
    left = [unit for unit in units if unit not in (first, second, *norms)]
    chains = [c for c in find_chains([*joined, *left])[0] if c.latent == _inputs(z) + classes]
    note = f"{z.first_key} takes z, {label.first_key} a one-hot label of {classes} classes; "
    note += f"what they make is concatenated, {'the label' if label_first else 'z'}'s first"
    return ([*joined, *left], chains, Told(_inputs(z), classes, joined=note)) if chains else None


def with_label_joined(units: list[Unit], z_dim: int, classes: int) -> Iterator[list[Unit]]:
    """`units` with a layer of the label as a table, or as one with that of z, in both orders: every way."""
    told = Told(z_dim, classes)
    for found in (with_label_table(units), *(with_branches(units, told, label_first=f) for f in (False, True))):
        if found is not None:
            yield found[0]


def _joined(units: Sequence[Unit]) -> dict[str, Tensor]:
    """Tensors of one number per output, one unit's behind the other's."""
    names = [name for name, tensor in units[0].tensors.items() if tensor.ndim == 1]
    return {name: torch.cat([unit.tensors[name] for unit in units]) for name in names}


def _names(unit: Unit) -> frozenset[str]:
    return frozenset(unit.tensors)


def _inputs(unit: Unit) -> int:
    return unit.shape[1 if unit.kind == "linear" else 0]


def _outputs(unit: Unit) -> int:
    return unit.shape[0 if unit.kind == "linear" else 1]
