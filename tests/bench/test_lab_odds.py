"""The examples whose truth is known, the weights that are fitted to them, and what becomes of them unasked."""

from __future__ import annotations

import functools
import json
import operator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import running
from export import forensics_nets as nets
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.spec.layers import Activation
from gan_export.answers import Answers
from gan_export.draft import Draft, Evidence
from gan_export.hypotheses import odds
from gan_export.hypotheses.naturalness import NAMES
from gan_export.identify import Identified, identify
from gan_export.reading import read_checkpoint
from gan_export.understanding.edit import find_choice, with_value
from gan_export.understanding.understand import draft_candidates
from lab.odds import checking, command, fitting, measuring, trained
from lab.odds.examples import Example, Reference, find_examples
from lab.odds.fitting import Case, Finding
from lab.odds.measuring import Measured, TooLong, limited, side_by_side
from lab.odds.scoring import score, structure

pytestmark = pytest.mark.slow

run = functools.partial(running.run, command.app)
SEEDS = (30, 14)
"""Of an MLP with its critic, and of a variational autoencoder: no BatchNorm in either."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two examples, hardly trained."""
    found = tmp_path_factory.mktemp("examples")
    for seed in SEEDS:
        assert run("train", "--seeds", f"{seed}:{seed + 1}", "--steps", 8, "--out", found) == 0
    return found


@pytest.fixture(scope="module")
def examples(folder: Path) -> list[Example]:
    return find_examples([folder])[::-1]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes beside this one."""
    monkeypatch.setattr(measuring, "JOBS", 1)


def draft_of(example: Example) -> Draft:
    return draft_candidates(torch.load(example.checkpoint))[0]


def test_training_writes_examples_and_keeps_those_there(
    folder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(one.name, one.author, one.origin) for one in examples] == [
        (f"t{seed:03d}", f"trained t{seed:03d}", "trained") for seed in SEEDS
    ]
    assert [one.discriminator is not None for one in examples] == [True, False]
    monkeypatch.setattr(trained, "train", lambda *_: pytest.fail("it is there"))
    assert run("train", "--seeds", "30:31", "--out", folder) == 0


def test_a_reference_tells_the_true_generator_from_others(examples: list[Example]) -> None:
    truth, draft = examples[0].truth(), draft_of(examples[0])
    spec = examples[0].spec
    assert spec is not None
    name = next(layer for layer in spec.layers if isinstance(layer, Activation)).name
    for choice in draft.choices:
        if choice.field == "activation":
            draft = with_value(draft, choice, {"name": name, "slope": None})
    assert truth.drawn_by(draft)
    output = find_choice(draft, next(c.layer for c in draft.choices if c.field == "output"), "output")
    other = {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}
    assert not truth.drawn_by(with_value(draft, output, other))
    assert not replace(truth, label=torch.zeros(len(truth.z), dtype=torch.int64)).drawn_by(draft)
    assert not replace(truth, z=truth.z[:, 1:]).drawn_by(draft)
    assert not replace(truth, image=truth.image.transpose(2, 3)).drawn_by(draft)
    assert not replace(truth, image=truth.image[..., :-1]).drawn_by(draft)


@pytest.fixture(scope="module")
def measured(examples: list[Example]) -> dict[str, Measured]:
    return {one.name: measuring.measure(one) for one in examples}


def test_every_hypothesis_is_measured_and_scored_as_the_product_does(
    examples: list[Example], measured: dict[str, Measured]
) -> None:
    for example in examples:
        found = measured[example.name]
        assert found.outcome == "measured"
        assert found.right.any()
        assert found.looks.shape == (len(found.taken), len(NAMES))
        assert found.says.shape[1] > 0  # of a discriminator, or of the encoder
    draft = identify(examples[0].checkpoint, Answers()).draft
    assert draft is not None
    likely = fitting.scores(measured["t030"], odds.weights()).softmax(dim=0).sort(descending=True).values
    assert [one.likelihood for one in draft.ranked] == pytest.approx(likely.tolist(), abs=1e-3)


@pytest.mark.usefixtures("alone")
def test_measurements_are_kept_until_the_code_changes(
    examples: list[Example], measured: dict[str, Measured], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measure", lambda one: measured[one.name])
    first = dict(measuring.measure_all(examples, tmp_path, 60.0))
    monkeypatch.setattr(measuring, "measure", lambda _: pytest.fail("it is kept"))
    again = dict(measuring.measure_all(examples, tmp_path, 60.0))
    for example in examples:
        assert again[example].taken == first[example].taken == measured[example.name].taken
        assert torch.equal(again[example].looks, first[example].looks)
    monkeypatch.setattr(measuring, "measure", lambda one: measured[one.name])
    monkeypatch.setattr(measuring, "_code", lambda: "another")
    assert len(dict(measuring.measure_all(examples, tmp_path, 60.0))) == 2
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_takes_too_long_is_left(examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(_: Example) -> None:
        while True:
            pass

    with pytest.raises(TooLong), limited(0.05):
        forever(examples[0])
    assert list(side_by_side(forever, examples[:1], 0.05)) == [(examples[0], None)]
    monkeypatch.setattr(measuring, "measure", forever)
    assert [one.outcome for _, one in measuring.measure_all(examples[:1], None, 0.05)] == ["too long"]


@pytest.mark.long
def test_examples_are_worked_on_side_by_side(examples: list[Example]) -> None:
    assert dict(side_by_side(operator.attrgetter("name"), examples, 60.0)) == {one: one.name for one in examples}


@pytest.mark.usefixtures("alone")
def test_fit_writes_the_weights_and_its_record(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, weights = tmp_path / "record.json", tmp_path / "weights.json"
    assert run("fit", "--examples", folder, "--json", target, "--weights", weights) == 0
    record, held = json.loads(target.read_text()), json.loads(weights.read_text())
    assert held == record["weights"]
    assert held.keys() == json.loads((Path(odds.__file__).parent / "weights.json").read_text()).keys()
    assert len(held["looks"]) == 2 * len(NAMES)
    assert record["examples"] == {"trained": {"measured": 2}}
    assert record["all"]["all"]["files"] == record["all"]["habit alone"]["listed"] == 2
    assert sum(row["all"] for row in record["calibration"]["whole"]) == 2
    assert "wrong at 100 : 1 or more" in capsys.readouterr().out


@pytest.mark.usefixtures("alone")
def test_check_writes_what_becomes_of_each_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken").mkdir()
    for kind in (".reference.npz", ".source.json"):
        (folder / "broken" / f"b{kind}").write_bytes((folder / "t030" / f"generator{kind}").read_bytes())
    (folder / "broken" / "b.pth").write_bytes(b"nothing")
    target = tmp_path / "record.json"
    try:
        assert run("check", "--examples", folder, "--json", target) == 0
    finally:
        for path in (folder / "broken").iterdir():
            path.unlink()
        (folder / "broken").rmdir()
    record = json.loads(target.read_text())
    (broken,) = (row for row in record["files"] if row["outcome"] == checking.REFUSED)
    others = [row for row in record["files"] if row is not broken]
    assert {row["outcome"] for row in others} <= {checking.RIGHT, checking.FIRST, checking.LISTED}
    assert all(row["choices"] for row in others)
    assert str(folder) not in broken["says"]
    assert record["totals"]["count"]["refused"] == 1
    assert record["totals"]["count"]["right_on_the_sheet"] == 2
    assert record["totals"]["per_cent"]["right_on_the_sheet"] == 66.7
    assert set(record["kinds"]) == {"mlp", "vae"}
    assert record["fields"]["structure"] == {"all": 2, "right": 2, "near": 0, "wrong": 0}
    assert sum(row["all"] for row in record["calibration"]["whole"]) == 2
    assert "right on the sheet" in capsys.readouterr().out


def test_choices_are_scored_wherever_the_layers_stand() -> None:
    truth = nets.dcgan(nets.leaky(0.01), nets.leaky(0.2), n_classes=3, eps=0.8)
    weights = {name: torch.full(shape, 0.5) for name, shape in truth.tensors().items()}
    draft = nets.blank(truth, weights)
    for layer in (3, 6):
        draft = with_value(draft, next(c for c in draft.choices if c.layer == layer), 0.8)
    found: dict[str, list[str]] = {}
    for one in score(draft, truth):
        found.setdefault(one.field, []).append(one.verdict)
    assert found == {
        "structure": ["right"], "latent": ["right"], "merge": ["right"], "eps": ["right", "right"],
        "activation": ["near", "wrong"], "output": ["right"],
    }  # fmt: skip
    without = replace(truth, layers=tuple(layer for layer in truth.layers if layer != Activation("identity")))
    assert structure(without) == structure(truth)
    other = nets.dcgan(nets.leaky(0.01), nets.leaky(0.2), n_classes=2, eps=0.8)
    (only,) = score(draft, other)
    assert (only.field, only.verdict) == ("structure", "wrong")


@pytest.mark.parametrize(("kind", "outcome"), [("mlp", checking.RIGHT), (checking.STALE, checking.WRONG)])
def test_nothing_is_right_unasked_whose_statistics_say_nothing(
    kind: str, outcome: str, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(examples[0])
    sure = replace(draft, choices=tuple(replace(one, evidence=Evidence.PROVED) for one in draft.choices))
    monkeypatch.setattr(checking, "identify", lambda path, _: Identified(read_checkpoint(path), sure))
    monkeypatch.setattr(Reference, "drawn_by", lambda *_: True)
    assert checking.check(replace(examples[0], kind=kind))["outcome"] == outcome


def case(name: str, author: str, right: int, looks: list[float]) -> Case:
    """Two hypotheses of which the look tells which is right."""
    measured = Measured(
        "measured",
        ({"activation": "relu"}, {"activation": "tanh"}),
        torch.tensor([right == 0, right == 1]),
        torch.tensor([0.0, 0.1]),
        torch.tensor([[one] + [0.0] * (len(NAMES) - 1) for one in looks]),
        torch.zeros(2, 0, 4),
        torch.zeros(0),
    )
    return Case(name, author, "real", measured)


def test_the_fit_learns_what_tells_and_judges_authors_it_has_not_seen() -> None:
    cases = fitting.weighted(
        [
            case(f"{author}{i}", author, i % 2, [1.0, -1.0] if i % 2 else [-1.0, 1.0])
            for author in "abcdefghij"
            for i in (0, 1)
        ]
    )
    assert {one.weight for one in cases} == {2**-0.5}
    assert all(len({one.fold for one in cases if one.author == author}) == 1 for author in "abcdefghij")
    found = fitting.summary(cases)
    assert found["real"]["habit alone"]["row_1"] == 10
    assert found["real"]["without looks"]["row_1"] == 10
    assert found["real"]["all"]["row_1"] == 20
    assert found["with_discriminator"] == {}
    assert found["wrong"] == []


def test_what_is_not_listed_is_wrong_and_teaches_nothing() -> None:
    known, unknown = case("a", "a", 0, [-1.0, 1.0]), case("b", "b", 2, [5.0, 5.0])
    cases = fitting.weighted([known, unknown])
    weights = fitting.fit(cases, fitting.scale_of(cases))
    whole, *aspects = fitting.findings(unknown, weights)
    assert (whole.right, whole.truth, aspects) == (False, "not listed", [])
    assert [one.aspect for one in fitting.findings(known, weights)] == ["whole", "activation"]
    assert fitting.first_rows(cases, lambda _: weights) | {"negative_log_likelihood": 0} == {
        "files": 2, "listed": 1, "row_1": 1, "row_1_share": 0.5, "negative_log_likelihood": 0,
    }  # fmt: skip


def test_odds_are_counted_by_what_they_claim() -> None:
    claims = ((0.5, False), (2.0, True), (150.0, True), (200.0, False), (1e4, True))
    found = [Finding("n", "real", "whole", claimed, right, "", "") for claimed, right in claims]
    rows = {(row["from"], row["to"]): (row["all"], row["right"]) for row in fitting.calibration(claims)}
    assert rows[0.0, 1.0] == (1, 0)
    assert rows[1.0, 3.0] == rows[1000.0, None] == (1, 1)
    assert rows[100.0, 1000.0] == (2, 1)
    assert [one.odds for one in fitting.sure_and_wrong(found)] == [200.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--examples", ".", "--json", "r.json"), "has no examples"),
        (("check", "--examples", "absent", "--json", "r.json"), "absent"),
        (("check", "--examples", ".", "--json", "."), "is a folder"),
        (("train", "--data", "digits", "--seeds", "3", "--out", "o"), "--seeds takes FROM:TO, got '3'"),
        (("train", "--data", "digits", "--seeds", "3:3", "--out", "o"), "--seeds takes FROM:TO"),
        (("train", "--steps", "0", "--out", "o"), "--steps"),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_reference_needs_its_checkpoint_and_its_arrays(tmp_path: Path, examples: list[Example]) -> None:
    (tmp_path / "a.reference.npz").write_bytes(b"no archive")
    with pytest.raises(GanportError, match="there is no checkpoint"):
        find_examples([tmp_path])
    (tmp_path / "a.pth").write_bytes(b"x")
    (one,) = find_examples([tmp_path])
    assert (one.author, one.origin, one.path, one.law) == ("a", tmp_path.name, "a.pth", "")
    with pytest.raises(GanportError, match="is no reference"):
        one.truth()
    about: Json = examples[0].about
    assert about["path"] == "t030/generator.pt"
    assert len(about["sha256"]) == 64
