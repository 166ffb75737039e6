"""Self-attention in a chain, as SAGAN's code has it: 1x1 convolutions for query, key and value, and a gain.

x + gamma · value(x) · softmax(query(x)ᵀ key(x)). Its tensors stand under one name; a state_dict lists it where the
author registered it, often behind all layers. It runs where the network has as many channels as it takes, behind the
activation: where several places have, which one is not known, and the file is no chain.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from gan_export.understanding.units import Unit, natural_key

PARTS = {"query": r"q(uery)?", "key": r"k(ey)?", "value": r"v(alue)?"}
"""What the names of its three convolutions begin with. Codes differ in which of f and g is the query."""


def with_attention(units: Sequence[Unit]) -> list[Unit]:
    """`units`, as listed or by the numbers in their names, with those of each self-attention as one of kind "attention"
    where it can only run; as they are where there is none, or where its place is not certain."""
    gains = [unit for unit in units if set(unit.tensors) == {"gamma"} and unit.tensors["gamma"].numel() == 1]
    body = list(units)
    found = []
    for gain in gains:
        made = _attention(gain, [unit for unit in units if unit.name.startswith(f"{gain.name}.")])
        if made is None:
            return list(units)
        body = [unit for unit in body if unit is not gain and not unit.name.startswith(f"{gain.name}.")]
        found.append(made)
    for order in (body, sorted(body, key=lambda unit: natural_key(unit.name))):
        placed = list(order)
        for made in found:
            places = _places(made.shape[0], placed)
            if len(places) != 1:
                break
            placed.insert(places[0], made)
        else:
            return placed
    return list(units)


def _attention(gain: Unit, parts: Sequence[Unit]) -> Unit | None:
    """The unit of a gain and its convolutions, with the gain as a fourth one; None where these are others."""
    tensors: dict[str, Tensor] = {}
    for name, start in PARTS.items():
        own = [unit for unit in parts if re.match(rf"({start})(_|\d|$|conv)", unit.name.rpartition(".")[2])]
        if len(own) != 1 or own[0].kind not in ("conv", "linear") or set(own[0].tensors) != {"weight", "bias"}:
            return None
        tensors |= {f"{name}.{key}": tensor for key, tensor in own[0].tensors.items()}
    channels = tensors["query.weight"].shape[1]
    shapes = [tuple(tensors[f"{name}.weight"].shape) for name in PARTS]
    keys = shapes[0][0]
    if len(parts) != 3 or shapes != [(keys, channels, 1, 1)] * 2 + [(channels, channels, 1, 1)]:
        return None
    out = gain.tensors["gamma"].reshape(()) * torch.eye(channels)
    return Unit(gain.name, "attention", {"out.weight": out.reshape(channels, channels, 1, 1)} | tensors)


def _places(channels: int, units: Sequence[Unit]) -> list[int]:
    """Where between two layers that mix features an image has so many channels."""
    trunk = [index for index, unit in enumerate(units) if unit.kind in ("linear", "conv")]
    return [
        after
        for before, after in itertools.pairwise(trunk)
        if units[before].kind == "conv" and all(channels in units[i].shape[:2] for i in (before, after))
    ]
