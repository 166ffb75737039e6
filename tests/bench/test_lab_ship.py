"""A checkpoint becomes a model that ships: the file, its record and its card tell of the same weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from export.tiny import lively_generator, spec_of
from gan_core.errors import GanportError
from gan_core.images import to_pixels
from gan_core.latents import latents
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.terminal import console
from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator
from gan_trainer.presets import PRESETS
from lab.ship import command as ship
from lab.ship import command as ship_card
from lab.ship import variants as ship_variants
from lab.training_command import training_command

Run = Callable[..., tuple[int, str, str]]
N = 100
RECIPE = PRESETS["default"][0].override(size=28, channels=1, width=4, z_dim=8, conditional=True)
TRAINING: dict[str, Any] = {
    "data": {"name": "pets", "fingerprint": "0" * 64, "images": 2 * N}, "recipe": RECIPE.to_json(), "seed": 1,
    "steps": 30, "images": 1920, "minutes": 0.5, "device": "cpu", "speed": "float32",
}  # fmt: skip
PAGE = "# Models\n\n{}\nold\n{}\n\nThe end.\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g.pt, whose classes are called 0 and 1, and the pictures it was "trained" on: its own, in folders cat and dog."""
    folder = tmp_path_factory.mktemp("ship")
    spec = spec_of(channels=1, n_classes=2, class_names=("0", "1"))
    module = lively_generator(spec)
    save_generator(GeneratorCheckpoint(spec, dict(module.state_dict()), "ema", TRAINING), folder / "g.pt")
    for label, name in enumerate(("cat", "dog")):
        (folder / "pets" / name).mkdir(parents=True)
        z = torch.from_numpy(latents(range(10**6 * (label + 1), 10**6 * (label + 1) + N), 8))
        with torch.no_grad():
            images = to_pixels(module(z, torch.full((N,), label)).numpy())
        for number, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(folder / f"pets/{name}/{number:04d}.png")
    return folder


@pytest.fixture
def run(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder on the files, a page with marks among what it may write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(files / "cache"))
    monkeypatch.setattr("gan_trainer.evaluation.classifier.LEAST_STEPS", 40)
    Path("models.md").write_text(PAGE.format(*ship_card.marks("pets")))

    def call(**options: object) -> tuple[int, str, str]:
        given: dict[str, object] = {
            "ckpt": files / "g.pt", "out": "out/pets.onnx", "json": "record.json", "card": "models.md",
            "data": files / "pets", "device": "cpu",
        }  # fmt: skip
        words = [word for name, value in (given | options).items() for word in (f"--{name}", str(value))]
        with pytest.raises(SystemExit) as done:
            console.run(ship.app, ship.NAME, words)
        out, err = capsys.readouterr()
        return int(str(done.value.code)), out, err

    return call


@pytest.mark.long
@pytest.mark.slow
def test_file_record_and_card(run: Run) -> None:
    code, out, err = run(note="All alone.")
    assert (code, out) == (0, "out/pets.onnx\n"), err
    assert "other names" not in err
    shipped, record = OnnxGenerator("out/pets.onnx", "cpu"), json.loads(Path("record.json").read_text())
    contract = shipped.contract
    assert (contract.interface.class_names, contract.precision, contract.store) == (("cat", "dog"), "fp32", "fp16")
    assert contract.golden
    size = Path("out/pets.onnx").stat().st_size
    assert record["shipped"] == {"file": "pets.onnx", "sha256": shipped.sha256, "size_bytes": size}
    assert record["training"]["command"].startswith("gan-train --data pets --size 28 --channels 1 --width 4")
    assert record["generator"]["classes"] == ["cat", "dog"]
    rows = {row["variant"]: row for row in record["rows"]}
    assert list(rows) == ["checkpoint", "store fp16", "fp32", "fp16", "int8", "damaged"]
    assert rows["store fp16"]["size_bytes"] < rows["fp32"]["size_bytes"]
    assert rows["checkpoint"]["parity"] is None
    assert rows["fp32"]["parity"]["pixels_max_lsb"] <= 1
    distances = {name: row["evaluation"]["metrics"]["frechet"] for name, row in rows.items()}
    floor = rows["fp32"]["evaluation"]["floor"]["frechet"]
    assert all(value < 3 * floor for name, value in distances.items() if name != "damaged"), distances
    assert distances["damaged"] > ship.CLEARLY_WORSE * max(v for n, v in distances.items() if n != "damaged")
    assert rows["damaged"]["damage"].startswith("the channels of layers.")
    page = Path("models.md").read_text()
    assert page.startswith("# Models\n\n<!--")
    assert page.endswith("\n\nThe end.\n")
    assert "old" not in page
    assert ship_card.held_card(Path("models.md"), "pets") == ship_card.card(record, "record.json")
    for fact in (shipped.sha256, "30 steps, 1,920 images, 0.5 minutes", "All alone.", "| real images |", "cat "):
        assert fact in page, fact


def test_weights_that_are_damaged_differ_in_one_kernel(files: Path) -> None:
    source = ship_variants.open_source(files / "g.pt")
    broken, said = ship_variants.damaged(source)
    before, after = source.module.state_dict(), broken.module.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == 1
    assert said == f"the channels of {changed[0]} shuffled"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"out": "pets.bin"}, 2, "error: --out ends in .onnx, got pets.bin"),
        ({"out": "record.json"}, 2, "error: --json and --out name the same file"),
        ({"ckpt": "none.pt"}, 2, "error: no checkpoint at none.pt"),
        ({"max-bytes": 100}, 1, "error: pets.onnx has "),
        ({"max-bytes": 0}, 2, "error: Invalid value for '--max-bytes'"),
        ({"card": "other.md"}, 2, "error: other.md lacks the lines"),
        ({"data": "digits"}, 2, "error: the checkpoint has 2 classes, digits has 10"),
        ({"features": "taste"}, 2, "error: "),
        ({"device": "cuda:99"}, 2, "error: "),
    ],
)
def test_what_is_refused_leaves_nothing(run: Run, options: dict[str, object], code: int, message: str) -> None:
    ended, out, err = run(**options)
    assert (ended, out) == (code, ""), err
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in Path().iterdir()) == ["models.md"]
    assert Path("models.md").read_text() == PAGE.format(*ship_card.marks("pets"))


@pytest.mark.slow
def test_damage_that_does_not_show_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship_variants, "damaged", lambda source: (source, "nothing"))
    monkeypatch.setattr(ship_variants, "EXPORTS", {ship_variants.SHIPPED: {"store": "fp16"}})
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "the evaluation does not see damage" in err
    assert sorted(path.name for path in Path().iterdir()) == ["models.md"]


@pytest.mark.slow
def test_a_strangers_checkpoint_does_not_ship(run: Run, tmp_path: Path) -> None:
    from torch import nn

    network = nn.Sequential(nn.ConvTranspose2d(8, 4, 7), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 4))
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    code, _, err = run(ckpt="theirs.pth")
    assert code == 2
    assert err.startswith("error: ")
    assert not Path("record.json").exists()


# ── the command that trains it again ─────────────────────────────────────────────────────────────────────────────────


def changed(**fields: Any) -> dict[str, Any]:
    return TRAINING | {"recipe": dataclasses.replace(RECIPE, **fields).to_json()}


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (TRAINING, "--width 4 --z-dim 8 --conditional --seed 1 --steps 30"),
        (changed(ema_beta=None), "--no-ema --seed"),
        (changed(lr_g=1e-3), "--lr 0.001"),
        (changed(lr_d=1e-3), "--lr-d 0.001"),
        (changed(batch_size=32, augment="translation,cutout"), "--augment translation,cutout"),
        (TRAINING | {"speed": "bfloat16, channels-last"}, "--steps 30 --amp bf16"),
        (
            TRAINING | {"recipe": PRESETS["r3gan"][0].override(size=32, channels=3).to_json()},
            "--preset r3gan --size 32",
        ),
    ],
)
def test_the_command_gives_the_recipe_again(training: dict[str, Any], words: str) -> None:
    import shlex

    import typer

    from gan_trainer import cli

    command = training_command(training)
    assert words in command
    assert command.startswith("gan-train --data pets ")
    given = shlex.split(command)[1:]
    with typer.main.get_command(cli.app).make_context("gan-train", given) as context:
        asked = context.params
    same = ("size", "channels", "width", "z_dim", "conditional", "batch_size", "augment")
    recipe = PRESETS[asked["preset"] or "default"][0].override(
        lr_g=asked["lr"], lr_d=asked["lr_d"] or asked["lr"], **{name: asked[name] for name in same}
    )
    if asked["ema"] is False:
        recipe = dataclasses.replace(recipe, ema_beta=None)
    assert recipe.to_json() == training["recipe"]
    assert (asked["seed"], asked["steps"]) == (1, 30)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({}, "does not say how it was trained"),
        (TRAINING | {"recipe": {}}, "does not say how it was trained|does not read"),
        (changed(name="lost"), "there is no preset 'lost'"),
        (changed(d_norm="none"), "the preset default has d_norm 'spectral', the checkpoint 'none'"),
    ],
)
def test_a_training_that_no_command_gives(training: dict[str, Any], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        training_command(training)
