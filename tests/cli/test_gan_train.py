"""gan-train at the terminal: what it prints and where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from cli.conftest import TINY, GanTrain, largest_file
from gan_core.installation import install
from gan_core.interface import Interface
from gan_trainer.cli import app
from gan_trainer.networks.generator import load_generator
from gan_trainer.pictures import Gallery
from gan_trainer.presets import PRESETS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def samples_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves and the animation take longer than these trainings; where a disk is full they are drawn all the same."""
    if "disk" not in request.node.name:
        monkeypatch.setattr(Gallery, "redraw", lambda _: None)


def test_trains_and_prints_the_path(gan_train: GanTrain, tmp_path: Path) -> None:
    result = gan_train("--steps", "3", *TINY)
    assert (result.code, result.out) == (0, "runs/digits-dcgan32/g.pt\n")
    assert "digits: 1,797 grey images of 32x32; dcgan-32" in result.err
    assert "step 3  epoch 1  loss D" in result.err
    assert load_generator(tmp_path / "runs/digits-dcgan32/g.pt").training["steps"] == 3
    assert json.loads((tmp_path / "runs/digits-dcgan32/config.json").read_text())["recipe"]["name"] == "default"


def test_a_second_run_takes_a_new_folder_and_resume_the_newest(gan_train: GanTrain) -> None:
    assert gan_train("--steps", "1", *TINY).out == "runs/digits-dcgan32/g.pt\n"
    assert gan_train("--steps", "1", *TINY).out == "runs/digits-dcgan32-2/g.pt\n"
    result = gan_train("--steps", "2", "--resume")
    assert result.out == "runs/digits-dcgan32-2/g.pt\n"
    assert "from step 1 to 2 steps" in result.err


def test_json(gan_train: GanTrain) -> None:
    result = gan_train("--steps", "2", "--json", "--out", "r", *TINY)
    assert result.code == 0
    values = json.loads(result.out)
    assert {"checkpoint": "r/g.pt", "run": "r", "step": 2, "images": 16}.items() <= values.items()
    assert {"minutes", "loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2"} <= values.keys()


@pytest.mark.parametrize(
    ("args", "computes"),
    [
        ((), "float32, channels-last"),
        (("--amp", "off", "--compile", "off", "--no-cuda-graphs"), "float32, channels-last"),
        (("--amp", "bf16", "--compile", "auto"), "bfloat16, channels-last"),
    ],
)
def test_how_it_computes_is_said_and_kept(
    args: tuple[str, ...], computes: str, gan_train: GanTrain, photos: Path
) -> None:
    wanted = ("--data", str(photos), "--out", "r", "--size", "28", *TINY)
    result = gan_train(*wanted, "--steps", "1", *args)
    assert result.code == 0, result.err
    assert f"weights; cpu, {computes}\n" in result.err
    assert load_generator("r/g.pt").training["speed"] == computes
    again = gan_train(*wanted, "--resume", "--steps", "2", "--amp", "off")
    assert again.code == 0, again.err
    assert load_generator("r/g.pt").training["speed"] == "float32, channels-last"


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        ((), "augment", "translation"),
        (("--preset", "r3gan", "--channels", "1"), "penalty_weight", 1.0),
    ],
)
def test_what_a_preset_does_with_rgb(
    args: tuple[str, ...], field: str, value: object, gan_train: GanTrain, photos: Path
) -> None:
    result = gan_train("--data", str(photos), "--out", "r", "--size", "28", "--steps", "1", *args, *TINY)
    assert result.code == 0, result.err
    recipe = json.loads(Path("r/config.json").read_text())["recipe"]
    assert recipe[field] == value
    assert ("an epoch; augmented by translation" in result.err) == (recipe["augment"] == "translation")
    again = gan_train("--data", str(photos), "--out", "r", "--size", "28", "--resume", "--steps", "2", *args, *TINY)
    assert again.code == 0, again.err


@pytest.mark.parametrize("args", [("--epochs", "1"), ("--minutes", "0.001")])
def test_other_limits(args: tuple[str, str], gan_train: GanTrain, photos: Path) -> None:
    result = gan_train("--data", str(photos), "--out", "r", "--size", "28", *args, *TINY)
    assert result.code == 0, result.err
    assert json.loads(Path("r/log.jsonl").read_text().splitlines()[-1])["step"] >= 1


@pytest.mark.parametrize("preset", [name for name, (recipe, _) in PRESETS.items() if recipe.arch != "espcn"])
def test_every_preset_on_a_folder_of_pictures(preset: str, gan_train: GanTrain, photos: Path) -> None:
    result = gan_train("--preset", preset, "--data", str(photos), "--out", "r", "--steps", "2", *TINY)
    assert (result.code, result.out) == (0, "r/g.pt\n"), result.err
    checkpoint = load_generator("r/g.pt")
    recipe = PRESETS[preset][0]
    assert checkpoint.spec.interface.image == (recipe.channels or 3, recipe.size or 64, recipe.size or 64)
    assert checkpoint.training["recipe"]["name"] == preset


@pytest.mark.parametrize("preset", ["upscale", "upscale-gan"])
def test_upscalers_on_a_folder_of_pictures(preset: str, gan_train: GanTrain, photos: Path) -> None:
    options = ("--task", "upscale", "--preset", preset, "--scale", "4", "--size", "28", "--width", "4")
    result = gan_train(*options, str(photos), "--out", "r", "--steps", "2", "--batch-size", "4")
    assert (result.code, result.out) == (0, "r/g.pt\n"), result.err
    taken = load_generator("r/g.pt").spec.interface.input
    assert taken is not None
    assert taken.scale == 4
    found = gan_train("eval", "r/g.pt", "--json")
    assert found.code == 0, found.err
    assert {"file", "images", "psnr_db", "bicubic_psnr_db"} < set(json.loads(found.out))
    assert gan_train("eval", "r/g.pt", "--seed", "3").code == 2
    assert gan_train("report", "r").code == 0
    assert "PSNR" in Path("r/report.html").read_text()
    again = gan_train("--config", "r", "--out", "r2", "--steps", "1")
    assert again.code == 0, again.err
    assert gan_train("--init", "r2/g.pt", str(photos), "--out", "r3", "--steps", "1").code == 0


def test_options_override_the_preset(gan_train: GanTrain) -> None:
    options = ("--preset", "dcgan64", "--arch", "mlp", "--size", "28", "--channels", "1", "--lr", "1e-3", "--ema")
    assert gan_train(*options, "--seed", "7", "--steps", "1", "--out", "r", "--threads", "1", *TINY).code == 0
    checkpoint = load_generator("r/g.pt")
    assert (checkpoint.spec.name, checkpoint.which) == ("mlp-28", "ema")
    assert checkpoint.spec.interface == Interface(4, (1, 28, 28))
    recipe = checkpoint.training["recipe"]
    assert (recipe["lr_g"], recipe["lr_d"], recipe["batch_size"], recipe["d_loss"]) == (1e-3, 1e-3, 8, "sum")
    assert checkpoint.training["seed"] == 7


def test_the_options_of_a_recipe(gan_train: GanTrain, photos: Path) -> None:
    options = ("--lr-d", "1e-3", "--n-critic", "2", "--penalty-weight", "5", "--penalty-every", "3")
    more = ("--data", str(photos), "--size", "28", "--augment", "auto", "--steps", "2", "--out", "r", *TINY)
    assert gan_train("--preset", "wgan-gp", *options, *more).code == 0
    recipe = load_generator("r/g.pt").training["recipe"]
    assert {
        "lr_g": 1e-4,
        "lr_d": 1e-3,
        "n_critic": 2,
        "penalty_weight": 5.0,
        "penalty_every": 3,
    }.items() <= recipe.items()
    assert recipe["augment"] == "auto"


def test_no_ema(gan_train: GanTrain) -> None:
    assert gan_train("--no-ema", "--steps", "1", "--out", "r", *TINY).code == 0
    assert load_generator("r/g.pt").which == "raw"


def test_fewer_pictures_than_a_batch_is_said(gan_train: GanTrain, photos: Path) -> None:
    result = gan_train("--data", str(photos), "--size", "28", "--steps", "1", "--out", "r", *TINY, "--batch-size", "64")
    assert result.code == 0
    assert "fewer images than the batch size of 64: every step sees all 12 of them" in result.err


def test_list_presets(gan_train: GanTrain) -> None:
    result = gan_train("--list-presets")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()[2:]] == list(PRESETS)
    assert max(map(len, result.out.splitlines())) <= 120


def test_resume_goes_on_and_knows_when_it_is_done(gan_train: GanTrain) -> None:
    first = gan_train("--steps", "4", "--report-every", "2", "--out", "r", *TINY)
    assert first.code == 0
    assert gan_train("--resume", "--out", "r", "--steps", "6", "--sample-every", "2").out == "r/g.pt\n"
    log = [json.loads(line)["step"] for line in Path("r/log.jsonl").read_text().splitlines()]
    assert log == [2, 4, 6]
    assert sorted(file.name for file in Path("r/samples").iterdir())[-1] == "step-0000006.png"
    again = gan_train("--resume", "--out", "r")
    assert (again.code, again.out) == (0, "r/g.pt\n")
    assert re.fullmatch(
        r"note: nothing left to do: r has 6 steps in \S+ minutes, the limit is 6 steps; .*\n"
        r"trained 6 .*\nnext: .*\n .*\n",
        again.err,
    )
    numbers = json.loads(gan_train("--resume", "--out", "r", "--json").out)
    assert numbers["loss_d"] == json.loads(Path("r/log.jsonl").read_text().splitlines()[-1])["loss_d"]
    assert json.loads(Path("r/config.json").read_text())["limit"] == {"unit": "steps", "amount": 6}


def test_resume_writes_a_lost_generator_again(gan_train: GanTrain) -> None:
    gan_train("--steps", "2", "--out", "r", *TINY)
    before = load_generator("r/g.pt")
    Path("r/g.pt").unlink()
    assert gan_train("--resume", "--out", "r").code == 0
    assert load_generator("r/g.pt").weights.keys() == before.weights.keys()


def test_an_unwritable_folder(gan_train: GanTrain, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    result = gan_train("--steps", "1", "--out", "locked/r", *TINY)
    assert result.code == 2
    assert "cannot make the folder locked/r: Permission denied" in result.err


@pytest.mark.parametrize("size_bytes", [100, 5_000, 60_000])
def test_a_full_disk_leaves_no_half_file(size_bytes: int, gan_train: GanTrain, tmp_path: Path) -> None:
    gan_train("--steps", "1", "--out", "warm", *TINY)  # the data are decoded, the libraries loaded
    with largest_file(size_bytes):
        result = gan_train("--steps", "5", "--report-every", "1", "--out", "r", *TINY)
    assert (result.code, result.out) == (2, "")
    assert "error: no room to write r" in result.err
    assert "hint: free some disk space" in result.err
    assert not list((tmp_path / "r").glob(".*.*.*")), "no temporary files"
    assert not (tmp_path / "r" / "g.pt").exists()


def test_a_disk_that_fills_while_training_keeps_the_last_checkpoint(gan_train: GanTrain) -> None:
    assert gan_train("--steps", "2", "--out", "r", *TINY).code == 0
    good = Path("r/last.pt").read_bytes()
    with largest_file(len(good) // 2):
        assert gan_train("--resume", "--steps", "4", "--out", "r").code == 2
    assert Path("r/last.pt").read_bytes() == good
    assert gan_train("--resume", "--steps", "4", "--out", "r").code == 0
    assert load_generator("r/g.pt").training["steps"] == 4


def test_divergence(gan_train: GanTrain) -> None:
    result = gan_train("--steps", "200", "--lr", "1e30", "--out", "r", *TINY)
    assert result.code == 1
    assert re.search(r"error: the training diverged: loss_\w is nan at step \d+$", result.err, re.M)
    assert "hint: start again with a lower --lr (it was 1e+30)" in result.err
    assert not Path("r/g.pt").exists()


def test_every_option_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text("utf-8")
    named = set(re.findall(r"--[a-z][a-z-]*", page))
    every = typer.main.get_command(app).params
    options = [o for parameter in every for o in parameter.opts if not o.endswith("-completion")]
    assert len(options) > 30
    assert not [option for option in options if option[:2] == "--" and option not in named and option != "--help"]


def test_help_and_presets_need_no_torch() -> None:
    code = """
import sys
for name in ("torch", "torchvision", "sklearn", "matplotlib"):
    sys.modules[name] = None
from gan_serve.terminal import console
from gan_trainer.cli import NAME, app
console.run(app, NAME, sys.argv[1:])
"""
    for args, text in (("--help", "--list-presets"), ("--list-presets", "dcgan64-facades")):
        done = subprocess.run([sys.executable, "-c", code, args], capture_output=True, text=True, check=True)
        assert text in done.stdout
    done = subprocess.run([sys.executable, "-c", code, "--steps", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: gan-train needs torch, which is not installed", f"hint: {install('train')}",
    ]  # fmt: skip
