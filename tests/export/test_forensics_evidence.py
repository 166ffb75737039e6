"""From misfits to evidence: each threshold, with trials made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from export import forensics_nets as nets
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.evidence import follow_habit, settle
from gan_export.forensics.search import Outcome, State, Step
from gan_export.forensics.trials import Trial

CHANNELS = 64
LEAKY, WEAKER, NEAR = nets.leaky(0.2), nets.leaky(0.1), nets.leaky(0.01)


def trial(value: Any, fit: float, noise: float = 0.0) -> Trial:
    """A trial whose channels misfit by `fit`, every other one by `noise` more and less."""
    kl = torch.full((CHANNELS,), fit, dtype=torch.float64)
    kl[::2] += noise
    kl[1::2] -= noise
    return Trial((value,), fit, 100, kl)


def judged(chosen: Trial, *others: Trial, nearby: tuple[Trial, ...] = (), before: Choice | None = None) -> Choice:
    """The activation behind the first BatchNorm of a draft, settled from these trials."""
    spec = nets.mlp(nets.RELU, nets.RELU)
    weights = {name: torch.full(shape, 0.5) for name, shape in spec.tensors().items()}
    draft = nets.blank(spec, weights)
    open_choice = before or next(c for c in draft.choices if c.layer == 2)
    draft = replace(draft, choices=tuple(open_choice if c.layer == 2 else c for c in draft.choices))
    first = Step((), trial("", 0.001), ())
    second = Step((open_choice,), chosen, (chosen, *others), lambda: nearby)
    state = State(((0, draft),), (first, second))
    settled = settle(draft, state, Outcome((state,), {0: 1.0}))
    found = next(c for c in settled.choices if c.layer == 2)
    assert settled.spec.layers[2] == nets.activation(found.value)
    return found


@pytest.mark.parametrize(
    ("chosen", "other", "evidence", "word"),
    [
        (trial(LEAKY, 0.001), trial(WEAKER, 0.1), Evidence.STRONG, "100 times as much"),
        (trial(LEAKY, 0.001), trial(WEAKER, 0.0031), Evidence.STRONG, "leaky_relu 0.1 it is 0.0031"),
        (trial(LEAKY, 0.001, 0.0005), trial(WEAKER, 0.0011, 0.002), Evidence.WEAK, "too close"),
        (trial(LEAKY, 0.010), trial(WEAKER, 0.017, 0.0001), Evidence.STRONG, ""),
        (trial(LEAKY, 0.010), trial(WEAKER, 0.014, 0.0001), Evidence.WEAK, "too close"),
        (trial(LEAKY, 0.021), trial(WEAKER, 5.0), Evidence.WEAK, "nothing tried fits well"),
        (trial(LEAKY, 0.0), trial(WEAKER, 2e-5, 1e-4), Evidence.WEAK, "too close"),
    ],
)
def test_thresholds(chosen: Trial, other: Trial, evidence: Evidence, word: str) -> None:
    found = judged(chosen, other)
    assert found.value == LEAKY
    assert found.evidence is evidence
    assert word in found.reason
    assert found.alternatives[0] == WEAKER
    assert LEAKY not in found.alternatives


def test_between_near_identical_values_habit_decides() -> None:
    found = judged(trial(nets.RELU, 0.001), trial(LEAKY, 0.1), nearby=(trial(NEAR, 0.001, 0.001),))
    assert (found.value, found.evidence) == (nets.RELU, Evidence.STRONG)
    assert "leaky_relu 0.01 would be almost the same" in found.reason


def test_a_rarer_near_identical_value_that_fits_a_little_better_is_said() -> None:
    nearby = replace(trial(NEAR, 0.0009), kl=torch.linspace(-0.004, 0.0052, CHANNELS, dtype=torch.float64))
    found = judged(trial(nets.RELU, 0.001), trial(LEAKY, 0.1), nearby=(nearby,))
    assert (found.value, found.evidence) == (nets.RELU, Evidence.WEAK)
    assert "may be the truth" in found.reason


@pytest.mark.parametrize(
    ("fit", "evidence", "value"),
    [(0.0003, Evidence.STRONG, NEAR), (0.0005, Evidence.STRONG, NEAR), (0.0009, Evidence.WEAK, nets.RELU)],
)
def test_a_rarer_near_identical_value_that_fits_far_better_is_taken(fit: float, evidence: Evidence, value: Any) -> None:
    found = judged(trial(nets.RELU, 0.001), trial(LEAKY, 0.1), nearby=(trial(NEAR, fit, 0.0001),))
    assert (found.value, found.evidence) == (value, evidence)


def test_a_more_usual_value_that_fits_about_as_well_is_taken() -> None:
    found = judged(trial(nets.leaky(0.3), 0.001), trial(LEAKY, 0.00101, 0.01), trial(nets.RELU, 0.2))
    assert (found.value, found.evidence) == (LEAKY, Evidence.WEAK)
    assert found.alternatives[0] == nets.leaky(0.3)


FAMILY = Choice(2, "activation", nets.RELU, Evidence.STRONG, "as a family has it")


@pytest.mark.parametrize(
    ("chosen", "other", "value", "evidence", "word"),
    [
        (trial(nets.RELU, 0.001), trial(LEAKY, 0.1), nets.RELU, Evidence.STRONG, "as a family has it"),
        (trial(LEAKY, 0.001), trial(nets.RELU, 0.1), LEAKY, Evidence.STRONG, "overrules relu"),
        (trial(LEAKY, 0.001, 0.001), trial(nets.RELU, 0.002, 0.01), nets.RELU, Evidence.STRONG, "too close"),
        (trial(LEAKY, 0.3), trial(nets.RELU, 3.0), nets.RELU, Evidence.STRONG, "the statistics do not tell"),
    ],
)
def test_a_family_gives_way_to_clear_statistics_only(
    chosen: Trial, other: Trial, value: Any, evidence: Evidence, word: str
) -> None:
    found = judged(chosen, other, before=FAMILY)
    assert (found.value, found.evidence) == (value, evidence)
    assert word in found.reason


def test_a_value_that_the_beam_carried_is_judged_by_the_later_batch_norms() -> None:
    spec = nets.mlp(nets.RELU, nets.RELU, nets.RELU)
    draft = nets.blank(spec, {name: torch.full(shape, 0.5) for name, shape in spec.tensors().items()})
    open_choice = next(c for c in draft.choices if c.layer == 2)
    close = (trial(LEAKY, 0.001, 0.001), trial(WEAKER, 0.0011, 0.002))
    nothing = Step((), trial("", 0.001), ())

    def state(second: Trial, third: float) -> State:
        steps = (nothing, Step((open_choice,), second, close), Step((), trial("", third), ()))
        return State(((0, draft),), steps)

    def evidence(later: float) -> Evidence:
        states = (state(close[0], 0.001), state(close[1], later))
        settled = settle(draft, states[0], Outcome(states, {0: 1.0}))
        return next(c for c in settled.choices if c.layer == 2).evidence

    assert evidence(0.0012) is Evidence.WEAK
    assert evidence(0.05) is Evidence.STRONG


def test_what_leaves_no_trace_follows_the_layer_before_unless_something_speaks() -> None:
    spec = nets.mlp(nets.RELU, nets.RELU)
    draft = nets.blank(spec, {name: torch.full(shape, 0.5) for name, shape in spec.tensors().items()})
    open_choice = next(c for c in draft.choices if c.layer == 2)
    step = Step((open_choice,), trial(LEAKY, 0.001), (trial(LEAKY, 0.001), trial(WEAKER, 1.0)))
    first = Step((), trial("", 0.001), ())

    def last(draft: Draft) -> Choice:
        state = State(((0, draft),), (first, step))
        settled = follow_habit(settle(draft, state, Outcome((state,), {0: 1.0})))
        return next(c for c in settled.choices if c.layer == 5)

    found = last(draft)
    assert (found.value, found.evidence) == (LEAKY, Evidence.NONE)
    assert "no BatchNorm stands after it" in found.reason
    assert "assumed as in layer 2" in found.reason
    listed = Choice(5, "activation", nets.RELU, Evidence.WEAK, "the file lists relu")
    found = last(replace(draft, choices=tuple(listed if c.layer == 5 else c for c in draft.choices)))
    assert (found.value, found.evidence) == (nets.RELU, Evidence.WEAK)
    assert found.reason.startswith("the file lists relu; no BatchNorm")
