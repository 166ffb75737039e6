"""The search: which values are tried, which are near-identical, in which segment a choice shows, long segments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from export import forensics_nets as nets
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, BatchNorm, Layer, Linear, Reshape
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.runner import Runner
from gan_export.forensics.search import search
from gan_export.forensics.statistics import witnesses
from gan_export.forensics.trials import (
    ACTIVATIONS,
    MOST,
    alike,
    combinations,
    neighbours,
    one_step_away,
    same,
    segment_of,
    values_to_try,
)

pytestmark = pytest.mark.slow


def choice(field: str, value: Any, evidence: Evidence = Evidence.NONE, alternatives: tuple[Any, ...] = ()) -> Choice:
    return Choice(2, field, value, evidence, "", alternatives)


@pytest.mark.parametrize(
    ("field", "a", "b", "expected"),
    [
        ("activation", nets.leaky(0.01), {"name": "leaky_relu", "slope": None}, True),
        ("activation", {"name": "elu", "slope": 1.0}, {"name": "elu", "slope": None}, True),
        ("activation", nets.leaky(0.2), nets.leaky(0.1), False),
        ("activation", nets.RELU, nets.leaky(0.01), False),
        ("eps", 1e-5, 0.00001, True),
        ("eps", 1e-5, 1e-4, False),
        ("latent", "normal", "uniform", False),
    ],
)
def test_values_that_mean_the_same(field: str, a: Any, b: Any, expected: bool) -> None:
    assert same(field, a, b) is expected


@pytest.mark.parametrize(
    ("field", "a", "b", "var", "expected"),
    [
        ("activation", nets.RELU, nets.leaky(0.01), 1.0, True),
        ("activation", nets.RELU, nets.leaky(0.1), 1.0, False),
        ("eps", 1e-5, 1e-3, 1.0, True),
        ("eps", 1e-5, 1e-3, 0.01, False),
        ("eps", 1e-5, 0.8, 1.0, False),
        ("eps", 1e-5, 0.8, 400.0, True),
        ("latent", "normal", "uniform", 1.0, False),
    ],
)
def test_near_identical_values_depend_on_the_variance(field: str, a: Any, b: Any, var: float, expected: bool) -> None:
    spec = nets.mlp(nets.RELU)
    draft = Draft(spec, ({}, {"running_var": torch.full((64,), var)}))
    assert alike(draft, replace(choice(field, a), layer=1), a, b) is expected


def test_a_proved_choice_is_not_tried() -> None:
    assert values_to_try(choice("eps", 0.8, Evidence.PROVED, (1e-5,))) == (0.8,)


@pytest.mark.parametrize("field", ["structure", "output", "value_range"])
def test_what_no_batch_norm_shows_is_not_tried(field: str) -> None:
    assert values_to_try(choice(field, "a", Evidence.NONE, ("b",))) == ("a",)


def test_a_suggested_value_comes_first_and_none_comes_twice() -> None:
    values = values_to_try(choice("activation", nets.leaky(0.2), Evidence.STRONG, (nets.leaky(0.07), nets.RELU)))
    assert values[0] == nets.leaky(0.2)
    assert nets.leaky(0.07) in values
    assert len(values) == len(ACTIVATIONS) + 1
    assert values_to_try(choice("activation", nets.leaky(0.2)))[0] == nets.RELU


def test_a_choice_shows_at_the_next_batch_norm() -> None:
    spec = nets.dcgan(nets.RELU, nets.RELU, n_classes=3)
    draft = nets.blank(spec, nets.trained(spec, batches=3))
    where = {(c.layer, c.field): segment_of(draft, c) for c in draft.choices}
    assert where == {
        (None, "latent"): 0,
        (0, "merge"): 0,
        (3, "eps"): 1,
        (4, "activation"): 1,
        (6, "eps"): 2,
        (7, "activation"): 2,
        (9, "output"): 2,
    }


def test_of_near_identical_values_one_is_listed() -> None:
    spec = nets.mlp(nets.RELU, nets.RELU)
    draft = nets.blank(spec, nets.trained(spec, batches=20))
    choices = tuple(c for c in draft.choices if segment_of(draft, c) == 1)
    listed, complete = combinations(draft, choices)
    assert complete
    assert {c.field for c in choices} == {"eps", "activation"}
    slopes = {values[1].get("slope") for values, _ in listed if values[1]["name"] == "leaky_relu"}
    assert 0.01 not in slopes
    assert {0.1, 0.2, 0.3} <= slopes
    near = neighbours(listed[0][1], choices, listed[0][0])
    assert nets.leaky(0.01) in [values[1] for values, _ in near]


def five_in_a_row(*values: dict[str, Any]) -> GeneratorSpec:
    """Linear and activation five times, then the first BatchNorm."""
    layers: list[Layer] = []
    for value in values:
        layers += [Linear(24, 24), nets.activation(value)]
    layers += [Linear(24, 64), BatchNorm(64), Activation("relu"), Linear(64, 16), Activation("tanh")]
    return GeneratorSpec(Interface(24, (1, 4, 4)), (*layers, Reshape((1, 4, 4))))


def test_a_long_segment_starts_from_equal_activations() -> None:
    spec = five_in_a_row(*[nets.RELU] * 4)
    draft = nets.blank(spec, nets.trained(spec, batches=3))
    choices = tuple(c for c in draft.choices if segment_of(draft, c) == 0)
    listed, complete = combinations(draft, choices)
    assert not complete
    assert len(listed) < MOST
    assert all(values[1:] == (values[1],) * 4 for values, _ in listed)
    further = one_step_away(choices, listed[:1])
    assert len(further) > len(listed[:1])
    assert all(sum(a != b for a, b in zip(values, listed[0][0], strict=True)) <= 1 for values, _ in further)


def test_a_long_segment_with_one_odd_activation_is_found() -> None:
    truth = (nets.leaky(0.2), nets.leaky(0.2), {"name": "tanh", "slope": None})
    spec = five_in_a_row(*truth)
    with torch.inference_mode():
        outcome = search([nets.blank(spec, nets.trained(spec, nets.uniform, gain=3.0))], 2048, 0, lambda _: None)
    _, draft = outcome.states[0].drafts[0]
    assert draft.spec.interface.latent == "uniform"
    assert [value for value, _ in nets.found(draft, "activation")][:3] == list(truth)


def test_a_few_rows_that_are_unlike_the_rest_tell_as_much() -> None:
    spec = nets.dcgan(nets.RELU, nets.RELU)
    draft = nets.blank(spec, nets.trained(spec, nets.normal))
    first, second, *_ = witnesses(draft)
    with torch.inference_mode():
        arrived = Runner(None, 0, 512, 0).run(draft, first)
        faint_first = arrived[arrived.flatten(1).square().sum(dim=1).argsort()]
        few = Runner(faint_first, first, 16, 0)
        assert float(few.misfits(draft, second).median()) < 0.05


def test_the_search_reports_and_carries_ties() -> None:
    spec = nets.mlp(nets.leaky(0.2), nets.RELU, nets.RELU)
    said: list[str] = []
    with torch.inference_mode():
        outcome = search([nets.blank(spec, nets.trained(spec))], 1024, 0, said.append)
    assert [line.split(":")[0] for line in said] == ["BatchNorm 1", "BatchNorm 2", "BatchNorm 3"]
    totals = [sum(state.counted) for state in outcome.states]
    assert totals == sorted(totals)
    assert outcome.margins == {0: 1.0}
