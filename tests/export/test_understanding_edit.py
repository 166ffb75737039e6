"""Editing one choice of a draft, and taking a whole spec from the user."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from export.foreign_networks import GanConv, difference, examples_dcgan, sequential, settled
from gan_core.errors import GanportError
from gan_core.spec.generator_spec import flat
from gan_core.spec.layers import Activation, BatchNorm, GroupNorm, Upsample
from gan_export.draft import Choice, Draft, Evidence
from gan_export.understanding.edit import find_choice, with_value
from gan_export.understanding.understand import draft_candidates, drafts_with_spec


@pytest.fixture(scope="module")
def draft() -> Draft:
    """Linear, reshape, BN (0.8 in truth), LeakyReLU, up, conv …"""
    layers = (
        nn.Linear(6, 4 * 64), nn.Unflatten(1, (4, 8, 8)), nn.BatchNorm2d(4), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 3, 3, padding=1),
    )  # fmt: skip
    return draft_candidates(sequential(*layers).state_dict())[0]


def choice(draft: Draft, field: str, nth: int = 0) -> Choice:
    return [choice for choice in draft.choices if choice.field == field][nth]


def test_activation(draft: Draft) -> None:
    slot = choice(draft, "activation")
    edited = with_value(draft, slot, {"name": "leaky_relu", "slope": 0.1})
    assert slot.layer is not None
    assert edited.spec.layers[slot.layer] == Activation("leaky_relu", slope=0.1)
    assert with_value(edited, slot, {"name": "identity", "slope": None}).spec.layers[slot.layer] == Activation(
        "identity"
    )


def test_eps_upsample_norm_latent_output(draft: Draft) -> None:
    eps, upsample, norm = choice(draft, "eps"), choice(draft, "upsample"), choice(draft, "norm")
    assert eps.layer is not None
    assert upsample.layer is not None
    assert norm.layer is not None
    assert with_value(draft, eps, 0.8).spec.layers[eps.layer] == BatchNorm(4, eps=0.8)
    bilinear = with_value(draft, upsample, {"mode": "bilinear", "align_corners": True})
    assert bilinear.spec.layers[upsample.layer] == Upsample(2, "bilinear", True)
    assert with_value(draft, norm, norm.alternatives[0]).spec.layers[norm.layer] == GroupNorm(4, 4)
    assert with_value(draft, choice(draft, "latent"), "uniform").spec.interface.latent == "uniform"
    sigmoid = with_value(draft, choice(draft, "output"), {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]})
    assert sigmoid.spec.interface.value_range == (0.0, 1.0)
    assert sigmoid.spec.layers[-1] == Activation("sigmoid")


def test_the_choice_remembers_what_it_was(draft: Draft) -> None:
    old = choice(draft, "eps")
    edited = with_value(draft, old, 0.8, evidence=Evidence.STRONG, reason="0.001 against 0.4")
    new = find_choice(edited, old.layer, "eps")
    assert (new.value, new.evidence, new.reason) == (0.8, Evidence.STRONG, "0.001 against 0.4")
    assert new.alternatives[0] == old.value
    assert 0.8 not in new.alternatives
    assert len(new.alternatives) == len(set(new.alternatives)) == len(old.alternatives)
    kept = with_value(draft, old, 0.8)
    assert find_choice(kept, old.layer, "eps").evidence is old.evidence


def test_a_choice_from_an_older_draft_will_do(draft: Draft) -> None:
    old = choice(draft, "eps")
    assert with_value(with_value(draft, old, 0.8), old, 1e-3).spec == with_value(draft, old, 1e-3).spec


def test_the_fit_is_forgotten_with_the_network_it_was_for(draft: Draft) -> None:
    from dataclasses import replace

    fitted, eps = replace(draft, fit=0.01), choice(draft, "eps")
    assert with_value(fitted, eps, 0.8).fit is None
    assert with_value(fitted, eps, eps.value, evidence=Evidence.STRONG).fit == 0.01


WRONG: tuple[tuple[str, Any, str], ...] = (
    ("structure", "anything", "the structure of a draft cannot be edited"),
    ("latent", "cauchy", "latent must be one of normal, uniform, uniform01, got 'cauchy'"),
    ("activation", {"name": "swish", "slope": None}, "must be one of relu, .* got 'swish'"),
    ("activation", {"name": "relu", "alpha": 2}, "no field 'alpha'"),
    ("activation", {"name": "prelu", "slope": None}, "the weights would no longer fit"),
    ("output", {"name": "tanh", "slope": None, "value_range": [1.0, 0.0]}, "black < white"),
    ("upsample", {"mode": "nearest", "factor": 3}, "image is"),
    ("norm", {"kind": "group_norm", "groups": 3, "features": 4}, "3 groups do not divide 4 features"),
    ("norm", {"kind": "no_norm"}, "unknown layer kind 'no_norm'"),
)


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_values_that_make_no_network(draft: Draft, field: str, value: Any, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        with_value(draft, choice(draft, field), value)


def test_a_choice_that_the_draft_does_not_have(draft: Draft) -> None:
    with pytest.raises(GanportError, match="the draft has no choice slope of layer 3") as caught:
        find_choice(draft, 3, "slope")
    assert "eps of layer" in caught.value.hint


def test_a_merge_is_turned_round() -> None:
    made = draft_candidates(settled(GanConv(join="concatenate")).state_dict())[0]
    edited = with_value(made, choice(made, "merge"), "label_z")
    assert edited.spec.layers[0].to_json()["merge"] == "label_z"
    multiplied = draft_candidates(GanConv(join="multiply").state_dict())[0]
    with pytest.raises(GanportError, match="layer 1"):
        with_value(multiplied, choice(multiplied, "merge"), "label_z")


# --- specs from the user ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scrambled", [False, True])
def test_a_draft_that_was_written_out_and_read_back(scrambled: bool) -> None:
    module = settled(GanConv(join="concatenate", activation=nn.ReLU()))
    tensors = module.state_dict()
    written = json.loads(draft_candidates(tensors)[0].spec.dumps())
    if scrambled:
        tensors = {key: tensors[key] for key in sorted(tensors)}
    (draft,) = drafts_with_spec(tensors, written)
    assert (draft.family, draft.open_choices) == ("given", ())
    assert difference(draft, module) <= 1e-5


def test_an_edit_in_the_text_arrives() -> None:
    module = settled(examples_dcgan(32, prefix="net"))
    spec = draft_candidates(module.state_dict())[0].spec.to_json()
    spec["latent"] = "uniform"
    spec["layers"][3] = {"kind": "activation", "name": "elu"}
    (draft,) = drafts_with_spec(module.state_dict(), spec)
    assert draft.spec.interface.latent == "uniform"
    assert draft.spec.layers[3] == Activation("elu")


def test_our_own_keys_are_taken_as_they_are() -> None:
    made = draft_candidates(settled(examples_dcgan(32)).state_dict())[0]
    (again,) = drafts_with_spec(dict(reversed(flat(made.weights).items())), made.spec)
    assert all(a is b for a, b in zip(flat(again.weights).values(), flat(made.weights).values(), strict=True))


def _spec() -> dict[str, Any]:
    return draft_candidates(examples_dcgan(32, prefix="net").state_dict())[0].spec.to_json()


def _without(spec: dict[str, Any], *indices: int) -> dict[str, Any]:
    return spec | {"layers": [layer for i, layer in enumerate(spec["layers"]) if i not in indices]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "a spec must be a JSON object, got a list of 0"),
        ({}, "the spec lacks 'image'"),
        (_spec() | {"strides": 2}, "unknown spec field 'strides'"),
        (_spec() | {"image": [3, 64, 64]}, r"the layers make \(3, 32, 32\), image is \(3, 64, 64\)"),
        (_without(_spec(), 2), r"layer 3 \(conv_transpose\) .* the file's next, net.1, has weight \[8\]"),
        (_without(_spec(), 5), r"layer 6 .* the file's next, net.4, has weight"),
        (
            _spec() | {"layers": [*_spec()["layers"][:-1], {"kind": "batch_norm", "features": 3}]},
            r"layer 11 \(batch_norm\) of the spec wants weight \[3\].*the file holds no more weights",
        ),
    ],
)  # fmt: skip
def test_specs_that_do_not_fit(spec: Any, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        drafts_with_spec(examples_dcgan(32, prefix="net").state_dict(), spec)


def test_weights_left_over() -> None:
    tensors = dict(examples_dcgan(32, prefix="net").state_dict()) | {"extra.weight": torch.zeros(3)}
    with pytest.raises(GanportError, match=r"extra.weight \[3\] is left over, the spec names no layer for it"):
        drafts_with_spec(tensors, _spec())
