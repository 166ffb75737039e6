"""What an export asks about, and what it only says: habits are no evidence, and conflicts are questions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export import forensics_nets as nets
from export.foreign_networks import GanMlp, settled
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, BatchNorm, Conv, ConvTranspose, Layer, Linear, Reshape, Upsample
from gan_export.answers import Answers
from gan_export.assumptions import SURE, describe, unanswered
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.verdicts import judge_output
from gan_export.hypotheses.listing import aspects_of
from gan_export.identify import Identified, identify, source_of

pytestmark = pytest.mark.slow

NONE, WEAK, STRONG, PROVED = Evidence.NONE, Evidence.WEAK, Evidence.STRONG, Evidence.PROVED
Said = tuple[Any, Evidence, float | None]


def upsampling() -> GeneratorSpec:
    """PyTorch-GAN's dcgan: BatchNorms at 2 (behind the Linear), 5 and 9."""
    layers: tuple[Layer, ...] = (
        Linear(8, 64), Reshape((16, 2, 2)), BatchNorm(16), Upsample(2), Conv(16, 16, 3, padding=1), BatchNorm(16),
        Activation("relu"), Upsample(2), Conv(16, 8, 3, padding=1), BatchNorm(8), Activation("relu"),
        Conv(8, 1, 3, padding=1), Activation("tanh"),
    )  # fmt: skip
    return GeneratorSpec(Interface(8, (1, 8, 8)), layers)


def asked(choices: Iterable[Choice]) -> list[int | None]:
    """The layers asked about, of a draft of `upsampling` with these choices, where habit alone speaks: not those whose
    drafted value it makes a hundred times likelier than any other."""
    draft = Draft(upsampling(), (), tuple(choices))
    usual: set[int | None] = set()
    for aspect in aspects_of(draft):
        best, second = aspect.options[0], min(option.cost for option in aspect.options[1:])
        if second - best.cost >= math.log(SURE):
            usual.update(
                choice.layer for choice, value in zip(aspect.choices, best.values, strict=True) if choice.value == value
            )
    return [choice.layer for choice in unanswered(draft) if choice.layer not in usual]


def eps(*said: Said) -> list[Choice]:
    return [
        Choice(layer, "eps", value, evidence, "", odds=odds)
        for layer, (value, evidence, odds) in zip((2, 5, 9), said, strict=False)
    ]


@pytest.mark.parametrize(
    ("said", "layers"),
    [
        # the last BatchNorm's eps shows nowhere: said where all others agree, of which one stands behind a convolution
        ([(1e-5, STRONG, 1e9), (1e-5, STRONG, 1e9), (1e-5, NONE, None)], []),
        ([(1e-5, PROVED, None), (1e-5, PROVED, None), (1e-5, NONE, None)], []),
        ([(1e-5, STRONG, 1e9), (0.8, STRONG, 1e9), (0.8, NONE, None)], []),
        ([(1e-5, STRONG, 1e9), (0.8, STRONG, 1e9), (1e-5, NONE, None)], [9]),
        ([(1e-5, STRONG, 1e9), (1e-5, WEAK, 2.0), (1e-5, NONE, None)], [5, 9]),
        ([(1e-5, STRONG, 1e9), (1e-5, WEAK, None), (1e-5, NONE, None)], [5, 9]),
        ([(0.8, STRONG, 1e9), (0.8, STRONG, 1e9), (1e-5, NONE, None)], [9]),
        ([(1e-5, NONE, None)], [2]),
        ([(1e-5, WEAK, 50.0)], []),
        ([(1e-5, WEAK, 5.0)], [2]),
        ([(1e-5, WEAK, 6.0), (1e-5, STRONG, 1e9), (1e-5, STRONG, 1e9)], [2]),
        ([(1e-5, STRONG, 1e9), (1e-5, STRONG, 1e9), (1e-5, WEAK, 6.0)], []),
        ([(1e-5, STRONG, 1e9), (1e-5, STRONG, 1e9), (0.8, WEAK, 4.0)], [9]),
    ],
)
def test_an_eps_that_nothing_shows(said: list[Said], layers: list[int]) -> None:
    assert asked(eps(*said)) == layers


def activations(*said: Said) -> list[Choice]:
    return [
        Choice(layer, "activation", value, evidence, "", odds=odds)
        for layer, (value, evidence, odds) in zip((6, 10), said, strict=True)
    ]


@pytest.mark.parametrize(
    ("said", "layers"),
    [
        ([(nets.RELU, STRONG, 1e9), (nets.RELU, NONE, None)], []),
        ([(nets.leaky(0.2), STRONG, 1e9), (nets.RELU, NONE, None)], [10]),
        ([(nets.IDENTITY, STRONG, 1e9), (nets.RELU, NONE, None)], [10]),
        ([(nets.RELU, WEAK, 5.0), (nets.RELU, NONE, None)], [6, 10]),
        ([(nets.RELU, STRONG, 1e9), (nets.RELU, WEAK, 0.5)], []),
        ([(nets.RELU, STRONG, 1e9), (nets.leaky(0.2), WEAK, 5.0)], [10]),
        ([(nets.RELU, NONE, None), (nets.RELU, NONE, None)], [6, 10]),
    ],
)
def test_an_activation_that_nothing_shows(said: list[Said], layers: list[int]) -> None:
    assert asked(activations(*said)) == layers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent", "normal"),
        ("structure", "z 8, up"),
        ("merge", "z_label"),
        ("upsample", {"mode": "nearest", "align_corners": False}),
    ],
)
def test_what_is_no_habit_is_always_asked(field: str, value: object) -> None:
    assert asked([Choice(None, field, value, NONE, "")]) == [None]


@pytest.mark.parametrize(("scale", "drafted"), [(1.0, "identity"), (8.0, "tanh")])
def test_values_that_fill_the_range_speak_against_an_activation(scale: float, drafted: str) -> None:
    spec = nets.mlp(nets.RELU)
    draft = nets.blank(spec, nets.trained(spec))
    choices = tuple(replace(c, evidence=NONE if c.field == "output" else STRONG) for c in draft.choices)
    draft = replace(draft, choices=choices)
    unit = draft.weights[3]["weight"]
    draft.weights[3]["weight"] = unit / unit.norm(dim=1, keepdim=True) * 0.5 * scale
    draft.weights[3]["bias"] = torch.zeros(16)
    judged = judge_output(draft)
    assert [choice.field for choice in unanswered(judged)] == ["output"]
    assert judged.choices[-1].value["name"] == drafted


def identified(tmp_path: Path, tensors: object) -> Identified:
    torch.save(tensors, tmp_path / "g.pth")
    return identify(tmp_path / "g.pth", Answers(), lambda _: None)


def test_a_familys_output_is_an_assumption_in_the_file(tmp_path: Path) -> None:
    found = identified(tmp_path, settled(GanMlp()).state_dict())
    assert found.draft is not None
    assert found.draft.family == "pytorch-gan-mlp"
    assumed = [line for line in source_of(found).assumptions if " output tanh in [-1, 1] (strong, odds " in line]
    assert len(assumed) == 1


@pytest.mark.parametrize("latent", [110, 42, 138])
def test_a_z_that_may_hold_a_one_hot_label_is_asked_about(tmp_path: Path, latent: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, 784), nn.Tanh())
    found = identified(tmp_path, net.state_dict())
    structure = next(choice for choice in found.unanswered if choice.field == "structure")
    assert structure.evidence is WEAK
    assert f"z {latent}," in structure.reason
    assert f"z {latent - 10} + 10 classes" in describe(structure)


def test_a_z_that_people_choose_holds_no_label(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(100, 32), nn.ReLU(), nn.Linear(32, 784), nn.Tanh())
    assert "structure" not in [choice.field for choice in identified(tmp_path, net.state_dict()).unanswered]


def test_the_eps_of_an_only_batch_norm_is_asked(tmp_path: Path) -> None:
    spec = GeneratorSpec(Interface(16, (1, 8, 8)), (
        Reshape((16, 1, 1)), ConvTranspose(16, 24, 4), BatchNorm(24, eps=0.8), Activation("relu"),
        ConvTranspose(24, 1, 4, 2, 1), Activation("tanh"),
    ))  # fmt: skip
    weights = {name.replace("layers", "layer"): tensor for name, tensor in nets.trained(spec).items()}
    fields = [(choice.layer, choice.field) for choice in identified(tmp_path, weights).unanswered]
    assert (2, "eps") in fields
    assert (3, "activation") in fields
