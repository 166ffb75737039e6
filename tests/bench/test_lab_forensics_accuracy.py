"""The benchmark of forensics: random generators, scoring across different layer lists, the record."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import running
from export import forensics_nets as nets
from gan_core.interface import with_interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, ConvTranspose
from gan_export.draft import Draft
from gan_export.understanding.edit import with_value
from gan_trainer.networks.build import build
from lab.forensics_accuracy import command as accuracy
from lab.forensics_accuracy import random_generators
from lab.forensics_accuracy.random_generators import KINDS, random_generator, random_spec
from lab.forensics_accuracy.scoring import score, strides, structure, units

pytestmark = pytest.mark.slow

run = functools.partial(running.run, accuracy.app)
LEAKY = nets.leaky(0.2)


@pytest.fixture
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_generators, "BATCHES", 12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_random_spec_builds_and_varies(kind: str) -> None:
    specs = [random_spec(kind, np.random.default_rng(seed)) for seed in range(12)]
    for spec in specs:
        label = torch.zeros(2, dtype=torch.int64) if spec.interface.n_classes else None
        assert build(spec).eval()(torch.zeros(2, spec.interface.z_dim), label).shape == (2, *spec.interface.image)
    assert len({structure(spec) for spec in specs}) > 3
    assert len({spec.interface.latent for spec in specs}) == 2


@pytest.mark.usefixtures("few_batches")
def test_a_random_generator_is_its_seeds_own_and_names_tell_nothing() -> None:
    first, again, other = random_generator(3), random_generator(3), random_generator(4)
    assert first.spec == again.spec
    assert first.spec != other.spec
    for name, tensor in first.state_dict.items():
        assert torch.equal(tensor, again.state_dict[name])
    stems = {name.split(".")[0].rstrip("0123456789") for name in first.state_dict}
    assert stems <= {"layer", "norm", "label_emb"}
    assert len(first.state_dict) == len(first.module.state_dict())


def drafted(spec: GeneratorSpec) -> Draft:
    weights = {name: torch.full(shape, 0.5) for name, shape in spec.tensors().items()}
    return nets.blank(spec, weights)


def verdicts(draft: Draft, truth: GeneratorSpec) -> dict[str, list[tuple[str, bool]]]:
    found: dict[str, list[tuple[str, bool]]] = {}
    for one in score(draft, truth):
        found.setdefault(one.field, []).append((one.verdict, one.traced))
    return found


def test_scores_tell_right_near_and_wrong_and_what_leaves_a_trace() -> None:
    truth = nets.dcgan(nets.leaky(0.01), LEAKY, n_classes=3, eps=0.8)
    draft = drafted(truth)
    for layer in (3, 6):
        draft = with_value(draft, next(c for c in draft.choices if c.layer == layer), 0.8)
    assert verdicts(draft, truth) == {
        "latent": [("right", True)],
        "merge": [("right", True)],
        "eps": [("right", True), ("right", False)],
        "activation": [("near", True), ("wrong", False)],
        "structure": [("right", True)],
    }
    assert verdicts(draft, with_interface(truth, latent="uniform"))["latent"] == [("wrong", True)]


def test_layers_without_tensors_may_stand_elsewhere() -> None:
    truth = nets.dcgan(nets.IDENTITY, LEAKY)
    without = replace(truth, layers=tuple(layer for layer in truth.layers if layer != Activation("identity")))
    assert len(without.layers) == len(truth.layers) - 1
    assert units(without) == units(truth)
    assert structure(without) == structure(truth)
    assert verdicts(drafted(truth), without)["activation"] == [("wrong", True), ("wrong", False)]


@pytest.mark.parametrize(("layer", "traced"), [(4, True), (7, False)])
def test_a_structure_is_wrong_with_a_trace_or_without(layer: int, traced: bool) -> None:
    truth = nets.dcgan(LEAKY, LEAKY)
    layers = list(truth.layers)
    old = layers[layer]
    assert isinstance(old, ConvTranspose)
    layers[layer] = replace(old, stride=4, padding=0)
    other = replace(truth, layers=tuple(layers), interface=replace(truth.interface, image=(1, 32, 32)))
    assert verdicts(drafted(other), truth)["structure"] == [("wrong", traced)]
    assert strides(truth) == "t4s1p0 t4s2p1 t4s2p1"


def row(*choices: tuple[str, str, str, bool], error: str = "") -> dict[str, Any]:
    listed = [
        {"field": field, "truth": "a", "found": "a" if verdict == "right" else "b", "verdict": verdict}
        | {"evidence": evidence, "traced": traced}
        for field, verdict, evidence, traced in choices
    ]
    return {"seed": 0, "kind": "mlp", "structure": "", "error": error, "drafted": not error, "choices": listed}


def test_summary_counts() -> None:
    rows = [
        row(("latent", "right", "strong", True), ("eps", "near", "strong", True), ("eps", "wrong", "none", False)),
        row(("latent", "wrong", "strong", True), ("structure", "wrong", "weak", False)),
        row(("latent", "right", "weak", True), ("activation", "wrong", "weak", False)),
        row(error="no chain"),
    ]
    record = accuracy.summarise(rows)
    assert record["summary"] == {
        "generators": 4,
        "identified": 2,
        "identified_share": 0.5,
        "identified_exactly": 1,
        "not_drafted": 1,
        "structure_wrong_behind_the_last_batch_norm": 1,
        "untraced_choices": 2,
        "untraced_reported_none": 1,
    }
    assert record["fields"]["latent"] == {"all": 3, "right": 2, "near": 0, "wrong": 1}
    assert record["calibration"]["strong"] == {"all": 3, "right": 1, "near": 1, "wrong": 1}
    assert record["confusion"]["latent"] == {"a": {"a": 2, "b": 1}}
    assert "2 of 4 generators re-identified (1 to the letter)" in accuracy.table(record)


@pytest.mark.usefixtures("few_batches")
def test_the_command_writes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "record.json"
    assert run("--n", "2", "--seed", "37", "--samples", "128", "--json", str(target)) == 0
    record = json.loads(target.read_text())
    assert [g["seed"] for g in record["generators"]] == [37, 38]
    assert record["summary"]["generators"] == 2
    assert "--n 2 --seed 37 --samples 128" in record["environment"]["command"]
    assert record["protocol"]["thresholds"]["clear"] == 3.0
    assert "generators re-identified" in capsys.readouterr().out


@pytest.mark.usefixtures("few_batches")
def test_a_generator_that_cannot_be_drafted_counts_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_core.errors import GanportError

    def refuse(_: Any) -> list[Draft]:
        raise GanportError("no chain of layers")

    monkeypatch.setattr("gan_export.understanding.understand.draft_candidates", refuse)
    found = accuracy.examine(11, 64)
    assert found["error"] == "no chain of layers"
    assert not accuracy.identified(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", "0"), "'--n'"),
        (("--seed", "-1"), "'--seed'"),
        (("--samples", "2"), "'--samples'"),
        (("--n", "x"), "'--n'"),
        (("--json", "."), "is a folder"),
        (("--wrong",), "--wrong"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("wrong input is refused before any work")

    monkeypatch.setattr(accuracy, "examine", too_late)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_labels_of_values() -> None:
    cases: list[tuple[Any, str]] = [
        (nets.RELU, "relu"),
        (LEAKY, "leaky_relu 0.2"),
        ({"name": "elu", "slope": 1.0}, "elu"),
        ({"mode": "bilinear", "align_corners": False}, "bilinear"),
        (1e-5, "1e-05"),
        ("uniform", "uniform"),
    ]
    assert [accuracy._label(value) for value, _ in cases] == [label for _, label in cases]
