"""Tries a family with networks of its own: for the test of a new one, in ganport or in another package."""

from __future__ import annotations

from random import Random
from typing import Any

import torch

from gan_core.spec.generator_spec import flat
from gan_export.draft import Draft
from gan_export.families.family import Family, Shapes
from gan_export.families.registry import family_drafts
from gan_export.understanding.units import COUNTER
from gan_trainer.networks.build import build


def check_family(family: Family[Any], *, times: int = 20, seed: int = 0) -> None:
    """Makes `times` random files of `family` (`sample`, by `seed`), and has all families read them.

    Raises `AssertionError` with the numbers when a file is not read back with the same numbers, when `family` makes no
    draft of it or another family comes first, when the draft has other layers or another interface, and when its module
    does not take the weights or draws no image of its size.
    """
    random = Random(seed)
    for _ in range(times):
        numbers = family.sample(random)
        network = family.network(numbers)
        where = f"{family.name} {numbers}"
        tensors = {key: torch.rand(shape) for key, shape in network.shapes.items()}
        assert numbers in list(family.numbers(Shapes.of(tensors))), f"{where}: the shapes give other numbers"
        assert network.refused is None, f"{where}: a sample is refused"
        drafts = family_drafts(tensors)
        assert drafts, f"{where}: no family makes a draft of it"
        first = drafts[0]
        assert first.family == family.name, f"{where}: {first.family} comes first"
        layers = tuple(layer for _, layer in network.layers)
        equal = [draft for draft in drafts if draft.spec.layers == layers]
        assert equal, f"{where}: the draft has other layers"
        assert equal[0].spec.interface == network.interface, f"{where}: the draft has another interface"
        _check_module(equal[0], where)


def _check_module(draft: Draft, where: str) -> None:
    module, interface = build(draft.spec).eval(), draft.spec.interface
    keys = module.load_state_dict(flat(draft.weights), strict=False)
    wrong = [key for key in (*keys.missing_keys, *keys.unexpected_keys) if not key.endswith(COUNTER)]
    assert not wrong, f"{where}: its module takes other weights: {', '.join(wrong)}"
    label = torch.zeros(2, dtype=torch.int64) if interface.n_classes else None
    with torch.no_grad():
        image = module(torch.zeros(2, *interface.input_shape), label)
    assert tuple(image.shape) == (2, *interface.image), f"{where}: it draws {tuple(image.shape)}"
