"""What `inspect` and the refusal recommend, by the evidence, and what an export says that it rests on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.foreign_networks import sequential, settled
from gan_core.contract import Contract
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, Linear, Reshape
from gan_export.answers import Answers
from gan_export.assumptions import assumptions_of, code_of, doubts_of, odds_text
from gan_export.draft import Choice, Draft, Evidence
from gan_export.families.stylegan2 import SOURCES
from gan_export.identify import Identified, identify
from gan_export.inspection import Kind, advise
from gan_export.proof import Check, Report
from gan_export.reading import read_checkpoint
from gan_export.reading.modules import ModuleInfo

RELU = {"name": "relu", "slope": None}
TANH = {"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}


def choice(field: str, value: Any, evidence: Evidence, layer: int | None = None, **more: Any) -> Choice:
    return Choice(layer, field, value, evidence, more.pop("reason", "because"), **more)


def draft(*choices: Choice, side: int = 28, **fields: Any) -> Draft:
    layers = (Linear(4, side * side), Activation("tanh", features=1), Reshape((1, side, side)))
    return Draft(GeneratorSpec(Interface(4, (1, side, side)), layers), (), choices, **fields)


SETTLED = choice("latent", "normal", Evidence.PROVED)
OUTPUT = choice("output", TANH, Evidence.NONE, 1)
SHOWN = choice("output", TANH, Evidence.STRONG, 1, odds=400.0)
WEAK = choice("eps", 0.8, Evidence.WEAK, 3, odds=12.0)
STRUCTURE = choice("structure", "z 4, 784 → 1x28x28", Evidence.WEAK)
RIVALS: dict[str, Any] = {"rivals": (draft(), draft())}
OTHER_SIZES: dict[str, Any] = {"rivals": (draft(side=32), draft(side=64))}


@pytest.mark.parametrize(
    ("made", "answers", "kind", "options", "words"),
    [
        (draft(SETTLED, SHOWN, fits=(0.001,)), {}, Kind.EXPORT, (), ""),
        (draft(SETTLED, OUTPUT), {}, Kind.LOOK, (), "1 choice is not settled: the command shows the candidates"),
        (draft(SETTLED, SHOWN, odds=63.0), {}, Kind.LOOK, (), "but not all together (odds 63 : 1, under 100 : 1)"),
        (
            draft(WEAK, fits=(0.001, 0.019)),
            {},
            Kind.LOOK,
            (),
            "1 choice is not settled: the command shows the candidates",
        ),
        (
            draft(WEAK, fits=(0.001, 0.3)),
            {},
            Kind.NOT,
            ("--module",),
            "nothing that was tried fits BatchNorm 2 by 0.3 ",
        ),
        (draft(OUTPUT, fits=(0.3,)), {}, Kind.NOT, ("--module",), "likely wrong"),
        (draft(SETTLED, fits=(0.3,)), {}, Kind.EXPORT, (), ""),
        (draft(STRUCTURE, **OTHER_SIZES), {}, Kind.SAY, ("--image",), "images of 1x28x28, 1x32x32, 1x64x64"),
        (draft(STRUCTURE, **OTHER_SIZES), {"image": (1, 28, 28)}, Kind.NOT, ("--module",), "3 structures fit"),
        (draft(STRUCTURE, **RIVALS), {}, Kind.NOT, ("--module",), "3 structures fit the weights"),
        (draft(STRUCTURE, rivals=(draft(),)), {}, Kind.LOOK, (), "1 choice"),
        (draft(dataclasses.replace(STRUCTURE, odds=40.0), **RIVALS), {}, Kind.LOOK, (), "1 choice"),
        (draft(STRUCTURE, fits=(0.1,), **OTHER_SIZES), {}, Kind.NOT, ("--module",), "nothing that was tried fits"),
    ],
)
def test_advice_follows_the_evidence(
    made: Draft, answers: dict[str, Any], kind: Kind, options: tuple[str, ...], words: str
) -> None:
    class Reading:
        which = "raw"
        modules: dict[str, ModuleInfo] = {}  # noqa: RUF012
        saved: dict[str, Tensor] = {}  # noqa: RUF012
        path = Path("/nowhere/g.pth")

    given = advise(Identified(Reading(), made, Answers(**answers)))  # type: ignore[arg-type]
    assert (given.kind, given.options[:1]) == (kind, options)
    assert words in given.why
    assert bool(given.why) == (kind is not Kind.EXPORT)


def test_assumptions_are_all_that_neither_the_file_nor_its_statistics_show() -> None:
    habit = choice("latent", "normal", Evidence.STRONG, reason="as somebody/gan has it", habit=True)
    shown = choice("eps", 1e-5, Evidence.STRONG, 2, odds=4000.0, reason="as somebody/gan has it")
    measured = choice("activation", RELU, Evidence.STRONG, 3, reason="the mismatch at BatchNorm 2 is 0.001")
    made = draft(habit, shown, measured, OUTPUT, WEAK, STRUCTURE, choice("eps", 0.1, Evidence.PROVED, 5))
    assert assumptions_of(made) == (
        "latent distribution normal (strong): as somebody/gan has it",
        "layer 1 output tanh in [-1, 1] (none): because",
        "layer 3 eps 0.8 (weak, odds 12 : 1): because",
        "structure (weak): z 4, 784 → 1x28x28; because",
    )
    assert [odds_text(dataclasses.replace(WEAK, odds=odds)) for odds in (None, 0.25, 1e9)] == [
        "", "odds 0.25 : 1", "odds over 1000 : 1",
    ]  # fmt: skip
    assert doubts_of(made) == ()


def test_what_is_assumed_of_many_layers_is_one_assumption() -> None:
    many = [choice("eps", 1e-5, Evidence.STRONG, layer, reason="as gan has it", habit=True) for layer in (2, 5, 7, 9)]
    other = choice("eps", 0.8, Evidence.STRONG, 11, reason="as gan has it", habit=True)
    assert assumptions_of(draft(*many[:3], other)) == (
        *(f"layer {layer} eps 1e-05 (strong): as gan has it" for layer in (2, 5, 7)),
        "layer 11 eps 0.8 (strong): as gan has it",
    )
    assert assumptions_of(draft(*many, other)) == (
        "eps 1e-05 in 4 layers (strong): as gan has it",
        "layer 11 eps 0.8 (strong): as gan has it",
    )


def test_the_verdict_counts_what_a_proof_rests_on() -> None:
    checks = (Check("structure", "a", True, 1), Check("parity", "b", True, 1))
    assert Report("g.onnx", checks, "PyTorch").verdict() == "proved against PyTorch: 2 of 2 checks hold"
    names = tuple(f"layer {n} eps 0.8 (weak): what, and why: because" for n in range(9))
    assert Report("g.onnx", checks, assumptions=names[:1]).verdict() == (
        "proved: 2 of 2 checks hold; the reading assumes 1 thing: layer 0 eps 0.8"
    )
    told = Report(
        "g.onnx", checks, assumptions=names, answers=("latent distribution uniform",), doubts=("nothing fits",)
    )
    assert told.verdict() == (
        "proved: 2 of 2 checks hold, but the images are likely wrong: nothing fits; the reading assumes 9 things: "
        + ", ".join(f"layer {n} eps 0.8" for n in range(6))
        + " and 3 more; as you said: latent distribution uniform"
    )
    assert list(told.to_json()["assumptions"]) == list(names)
    failed = Report("g.onnx", (*checks, Check("parity", "c", False, 1)), assumptions=names)
    assert failed.verdict() == "not proved: 1 of 3 checks fail (c)"


def test_files_from_before_answers_and_doubts_are_read() -> None:
    about = Contract(Interface(2, (1, 4, 4)), assumptions=("a",))
    metadata = about.to_metadata()
    del metadata["gan.answers"], metadata["gan.doubts"]
    assert Contract.from_metadata(metadata) == about


@pytest.mark.slow
def test_other_sizes_are_a_question(tmp_path: Path) -> None:
    layers: list[nn.Module] = [nn.ConvTranspose2d(6, 16, 4, 1, 0), nn.ReLU()]
    for width in (16, 8):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU()]
    net = settled(sequential(*layers, nn.ConvTranspose2d(4, 3, 5, 3, 1), nn.Tanh(), prefix="layer"))
    torch.save(net.state_dict(), tmp_path / "g.pth")
    given = advise(identify(tmp_path / "g.pth", Answers(), lambda _: None))
    assert (given.kind, given.options) == (Kind.SAY, ("--image", "CxHxW"))


@pytest.mark.parametrize(
    ("cls", "source", "named"),
    [
        ("models.networks.Generator", "", "models/networks.py:Generator"),
        ("__main__.G", "", "FILE.py:G"),
        ("__torch__.nets.G", "", "nets.py:G"),
        ("__torch__.nets.___torch_mangle_3.G", "", "FILE.py:CLASS"),
        ("torch_utils.persistence.Generator", "0" * 64, "FILE.py:Generator"),
        ("torch_utils.persistence.Generator", next(iter(SOURCES)), "training/networks.py:Generator"),
        ("torch.nn.modules.container.Sequential", "", "FILE.py:CLASS"),
        ("a; rm -r.B", "", "FILE.py:CLASS"),
        (None, "", "FILE.py:CLASS"),
    ],
)
def test_the_name_of_its_code(cls: str | None, source: str, named: str, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "g.pth")
    reading = read_checkpoint(tmp_path / "g.pth", said_by="code")
    modules = {} if cls is None else {"": ModuleInfo(cls, source=source)}
    assert code_of(dataclasses.replace(reading, modules=modules)) == named
