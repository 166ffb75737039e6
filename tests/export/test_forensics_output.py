"""The output activation, from what reaches it: a table of quantiles and verdicts, and whole networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from export import forensics_nets as nets
from gan_export.draft import Choice, Evidence
from gan_export.forensics.verdicts import Extremes, extremes, judge_output, verdict

OPEN = Choice(3, "output", nets.TANH, Evidence.NONE, "nothing shows it")
SIGMOID: dict[str, Any] = {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}


def spread(low: float, high: float) -> Extremes:
    return Extremes(low, 0.95 * low, 0.95 * high, high, max(abs(low), abs(high)))


@pytest.mark.parametrize(
    ("seen", "name", "value_range", "evidence", "word"),
    [
        (spread(-2.2, 1.8), "tanh", [-1, 1], Evidence.WEAK, "neither black nor white"),
        (spread(-25, 5), "tanh", [-1, 1], Evidence.NONE, "assumed"),
        (spread(-2.2, 9), "tanh", [-1, 1], Evidence.NONE, "assumed"),
        (spread(-0.99, 1.02), "identity", [-1, 1], Evidence.WEAK, "no activation"),
        (spread(-0.01, 1.0), "identity", [0, 1], Evidence.WEAK, "no activation"),
        (spread(-0.2, 0.3), "tanh", [-1, 1], Evidence.NONE, "settles nothing"),
    ],
)
def test_verdicts(seen: Extremes, name: str, value_range: list[float], evidence: Evidence, word: str) -> None:
    value, found, reason = verdict(seen, OPEN)
    assert (value["name"], value["value_range"], found) == (name, value_range, evidence)
    assert word in reason


@pytest.mark.parametrize("seen", [spread(-2.2, 1.8), spread(-25, 5), spread(-0.99, 1.02), spread(-0.2, 0.3)])
@pytest.mark.parametrize("value", [SIGMOID, nets.IDENTITY | {"value_range": [-1.0, 1.0]}])
def test_what_the_file_suggests_is_kept(seen: Extremes, value: dict[str, Any]) -> None:
    suggested = replace(OPEN, value=value, evidence=Evidence.WEAK)
    kept, evidence, reason = verdict(seen, suggested)
    assert (kept, evidence) == (value, Evidence.WEAK)
    assert reason.startswith("nothing shows it; 99 in 100")


def test_extremes_of_many_values() -> None:
    seen = extremes(torch.linspace(-2, 1, 1_000_001))
    assert [seen.low, seen.high, seen.size] == pytest.approx([-1.97, 0.97, 1.985], abs=0.01)


@pytest.mark.parametrize(("scale", "name"), [(1.0, "identity"), (8.0, "tanh"), (0.05, "tanh")])
def test_a_network_is_judged_by_its_last_values(scale: float, name: str) -> None:
    spec = nets.mlp(nets.RELU)
    weights = nets.trained(spec)
    draft = nets.blank(spec, weights)
    unit = draft.weights[3]["weight"]
    unit /= unit.norm(dim=1, keepdim=True) * 2.0
    draft.weights[3]["weight"] = unit * scale
    draft.weights[3]["bias"] = torch.zeros(16)
    judged = judge_output(draft)
    assert judged.choices[-1].value["name"] == name
    assert judged.spec.layers[-2].to_json()["name"] == name
    assert not judged.choices[-1].evidence.settled


@pytest.mark.parametrize("evidence", [Evidence.PROVED, Evidence.STRONG])
def test_a_settled_output_is_left_alone(evidence: Evidence) -> None:
    spec = nets.mlp(nets.RELU)
    draft = nets.blank(spec, nets.trained(spec, batches=2), evidence)
    assert judge_output(draft) is draft
