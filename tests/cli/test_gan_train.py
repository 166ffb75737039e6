"""gan-train at the terminal: what it prints and where, and every wrong input it must refuse."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image

from gan_serve import console
from gan_trainer.checkpoint import load_generator
from gan_trainer.cli import NAME, app
from gan_trainer.presets import PRESETS

TINY = ("--width", "2", "--z-dim", "4", "--batch-size", "8", "--device", "cpu")


class Result:
    """`code`, `out` (stdout) and `err` (stderr) of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Result]


@pytest.fixture
def gan_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in tmp_path, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))

    def run(*args: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            console.run(app, NAME, args)
        out, err = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, out, err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 RGB pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def test_trains_and_prints_the_path(gan_train: Run, tmp_path: Path) -> None:
    result = gan_train("--steps", "3", *TINY)
    assert (result.code, result.out) == (0, "runs/digits-dcgan32/g.pt\n")
    assert "digits: 1,797 grey images of 32x32; dcgan-32" in result.err
    assert "step 3  Loss_D" in result.err
    assert load_generator(tmp_path / "runs/digits-dcgan32/g.pt").training["steps"] == 3
    assert json.loads((tmp_path / "runs/digits-dcgan32/config.json").read_text())["recipe"]["name"] == "default"


def test_a_second_run_takes_a_new_folder_and_resume_the_newest(gan_train: Run) -> None:
    assert gan_train("--steps", "1", *TINY).out == "runs/digits-dcgan32/g.pt\n"
    assert gan_train("--steps", "1", *TINY).out == "runs/digits-dcgan32-2/g.pt\n"
    result = gan_train("--steps", "2", "--resume")
    assert result.out == "runs/digits-dcgan32-2/g.pt\n"
    assert "from step 1 to 2 steps" in result.err


def test_json(gan_train: Run) -> None:
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
def test_how_it_computes_is_said_and_kept(args: tuple[str, ...], computes: str, gan_train: Run, photos: Path) -> None:
    wanted = ("--data", str(photos), "--out", "r", "--size", "28", *TINY)
    result = gan_train(*wanted, "--steps", "1", *args)
    assert result.code == 0, result.err
    assert f"weights; cpu, {computes}\n" in result.err
    assert load_generator("r/g.pt").training["speed"] == computes
    again = gan_train(*wanted, "--resume", "--steps", "2", "--amp", "off")
    assert again.code == 0, again.err
    assert load_generator("r/g.pt").training["speed"] == "float32, channels-last"


@pytest.mark.parametrize("args", [("--epochs", "1"), ("--minutes", "0.001")])
def test_other_limits(args: tuple[str, str], gan_train: Run, photos: Path) -> None:
    result = gan_train("--data", str(photos), "--out", "r", "--size", "28", *args, *TINY)
    assert result.code == 0, result.err
    assert json.loads(Path("r/log.jsonl").read_text().splitlines()[-1])["step"] >= 1


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_on_a_folder_of_pictures(preset: str, gan_train: Run, photos: Path) -> None:
    result = gan_train("--preset", preset, "--data", str(photos), "--out", "r", "--steps", "2", *TINY)
    assert (result.code, result.out) == (0, "r/g.pt\n"), result.err
    checkpoint = load_generator("r/g.pt")
    recipe = PRESETS[preset][0]
    assert checkpoint.spec.image == (recipe.channels or 3, recipe.size or 64, recipe.size or 64)
    assert checkpoint.training["recipe"]["name"] == preset


def test_options_override_the_preset(gan_train: Run) -> None:
    options = ("--preset", "dcgan64", "--arch", "mlp", "--size", "28", "--channels", "1", "--lr", "1e-3", "--ema")
    assert gan_train(*options, "--seed", "7", "--steps", "1", "--out", "r", "--threads", "1", *TINY).code == 0
    checkpoint = load_generator("r/g.pt")
    assert (checkpoint.spec.name, checkpoint.spec.image, checkpoint.spec.z_dim, checkpoint.which) == (
        "mlp-28", (1, 28, 28), 4, "ema",
    )  # fmt: skip
    recipe = checkpoint.training["recipe"]
    assert (recipe["lr_g"], recipe["lr_d"], recipe["batch_size"], recipe["d_loss"]) == (1e-3, 1e-3, 8, "sum")
    assert checkpoint.training["seed"] == 7


def test_the_options_of_a_recipe(gan_train: Run, photos: Path) -> None:
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


def test_no_ema(gan_train: Run) -> None:
    assert gan_train("--no-ema", "--steps", "1", "--out", "r", *TINY).code == 0
    assert load_generator("r/g.pt").which == "raw"


def test_fewer_pictures_than_a_batch_is_said(gan_train: Run, photos: Path) -> None:
    result = gan_train("--data", str(photos), "--size", "28", "--steps", "1", "--out", "r", *TINY, "--batch-size", "64")
    assert result.code == 0
    assert "fewer images than the batch size of 64: every step sees all 12 of them" in result.err


def test_list_presets(gan_train: Run) -> None:
    result = gan_train("--list-presets")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()[2:]] == list(PRESETS)
    assert max(map(len, result.out.splitlines())) <= 120


def test_resume_goes_on_and_knows_when_it_is_done(gan_train: Run) -> None:
    first = gan_train("--steps", "4", "--report-every", "2", "--out", "r", *TINY)
    assert first.code == 0
    assert gan_train("--resume", "--out", "r", "--steps", "6", "--sample-every", "2").out == "r/g.pt\n"
    log = [json.loads(line)["step"] for line in Path("r/log.jsonl").read_text().splitlines()]
    assert log == [2, 4, 6]
    assert sorted(file.name for file in Path("r/samples").iterdir())[-1] == "step-0000006.png"
    again = gan_train("--resume", "--out", "r")
    assert (again.code, again.out) == (0, "r/g.pt\n")
    assert "nothing left to do: r has 6 steps" in again.err
    assert json.loads(Path("r/config.json").read_text())["limit"] == {"unit": "steps", "amount": 6}


def test_resume_writes_a_lost_generator_again(gan_train: Run) -> None:
    gan_train("--steps", "2", "--out", "r", *TINY)
    before = load_generator("r/g.pt")
    Path("r/g.pt").unlink()
    assert gan_train("--resume", "--out", "r").code == 0
    assert load_generator("r/g.pt").weights.keys() == before.weights.keys()


BAD_INPUT: list[tuple[str, str]] = [
    ("--steps -5", "--steps must be a number above 0, got -5"),
    ("--steps 0", "--steps must be a number above 0, got 0"),
    ("--steps many", "Invalid value for '--steps'"),
    ("--steps 1.5", "Invalid value for '--steps'"),
    ("--epochs 0", "--epochs must be a number above 0"),
    ("--minutes -1", "--minutes must be a number above 0"),
    ("--minutes nan", "--minutes must be a number above 0, got nan"),
    ("--minutes inf", "--minutes must be a number above 0, got inf"),
    ("--steps 5 --epochs 5", "--steps and --epochs exclude each other"),
    ("--steps 5 --epochs 5 --minutes 5", "--steps and --epochs and --minutes exclude each other"),
    ("--size 65", "no network for size 65"),
    ("--size -64", "no network for size -64"),
    ("--size 8", "no network for size 8"),
    ("--size big", "Invalid value for '--size'"),
    ("--channels 2", "channels must be 1 (grey) or 3 (RGB), got 2"),
    ("--width 0", "width must be at least 1, got 0"),
    ("--z-dim 0", "z_dim must be at least 1, got 0"),
    ("--arch stylegan", "arch must be one of mlp, dcgan, got 'stylegan'"),
    ("--preset dcgan46", "unknown preset 'dcgan46'"),
    ("--batch-size 1", "batch size must be at least 2, got 1"),
    ("--batch-size 0", "batch size must be at least 2, got 0"),
    ("--lr 0", "a learning rate must be a finite number above 0"),
    ("--lr nan", "a learning rate must be a finite number above 0"),
    ("--lr -1", "a learning rate must be a finite number above 0"),
    ("--lr-d 0", "a learning rate must be a finite number above 0, got 0"),
    ("--n-critic 0", "n_critic must be at least 1, got 0"),
    ("--n-critic 2 --preset gan-basic", "2 steps of D for one of G need order d_first"),
    ("--penalty-weight 1", "penalty none with weight 1"),
    ("--penalty-weight 0 --preset r3gan", "penalty r1r2 with weight 0"),
    ("--penalty-weight -1 --preset r3gan", "a penalty's weight must be a finite number from 0, got -1"),
    ("--penalty-weight nan --preset r3gan", "a penalty's weight must be a finite number from 0, got nan"),
    ("--penalty-every 0 --preset r3gan", "penalty_every must be at least 1, got 0"),
    ("--penalty-every 4", "penalty_every without a penalty"),
    ("--augment rotate", "no augmentation is called 'rotate'"),
    ("--augment colour", "the augmentation colour is for RGB, the images are grey"),
    ("--seed -1", "--seed must lie in 0 … 2**53 - 1, got -1"),
    ("--seed 9007199254740992", "--seed must lie in"),
    ("--report-every 0", "report_every must be at least 1, got 0"),
    ("--sample-every -1", "sample_every must be at least 1, got -1"),
    ("--device tpu", "unknown device 'tpu'"),
    ("--amp fp16", "--amp must be one of auto, off, bf16, got 'fp16'"),
    ("--amp BF16", "--amp must be one of auto, off, bf16, got 'BF16'"),
    ("--compile yes", "--compile must be one of auto, off, on, got 'yes'"),
    ("--compile", "Option '--compile' requires an argument"),
    ("--ngpu 0", "Invalid value for '--ngpu'"),
    ("--device cpu --ngpu 2", "needs CUDA devices"),
    ("--threads 0", "Invalid value for '--threads'"),
    ("--data idx --conditional", "--conditional needs images with classes, idx has none"),
    ("--data nowhere", "no data set and no folder is called nowhere"),
    ("--data file.txt", "is a file, expected a folder"),
    ("--data empty", "empty"),
    ("--root nowhere --data mnist", "nowhere is not a folder"),
    ("--out file.txt", "file.txt is a file, expected a folder for the run"),
    ("--out file.txt/run", "cannot make the folder file.txt/run"),
    ("--out done", "done already holds a run"),
    ("--resume", "nothing to resume: no folder runs/digits-dcgan32"),
    ("--resume --out nowhere", "nothing to resume: no folder nowhere"),
    ("--resume --out empty", "nothing to resume: no empty/last.pt"),
    ("--resume --out file.txt", "nothing to resume: no folder file.txt"),
    ("--resume --out done", "done/last.pt cannot be read as a training state"),
    ("--lr-d nan", "a learning rate must be a finite number above 0, got nan"),
    ("--lr-d inf", "a learning rate must be a finite number above 0, got inf"),
    ("--lr-d -1e-4", "a learning rate must be a finite number above 0, got -0.0001"),
    ("--lr-d fast", "Invalid value for '--lr-d'"),
    ("--lr-d", "Option '--lr-d' requires an argument"),
    ("--n-critic -5", "n_critic must be at least 1, got -5"),
    ("--n-critic 2.5", "Invalid value for '--n-critic'"),
    ("--n-critic five", "Invalid value for '--n-critic'"),
    ("--n-critic", "Option '--n-critic' requires an argument"),
    ("--n-critic 5 --preset mlp-mnist", "5 steps of D for one of G need order d_first"),
    ("--penalty-weight 10 --preset dcgan64", "penalty none with weight 10"),
    ("--penalty-weight inf --preset wgan-gp", "a penalty's weight must be a finite number from 0, got inf"),
    ("--penalty-weight 0 --preset wgan-gp", "penalty gp with weight 0"),
    ("--penalty-weight heavy", "Invalid value for '--penalty-weight'"),
    ("--penalty-every -1 --preset wgan-gp", "penalty_every must be at least 1, got -1"),
    ("--penalty-every 1.5 --preset wgan-gp", "Invalid value for '--penalty-every'"),
    ("--penalty-every 16 --preset dcgan64", "penalty_every without a penalty"),
    ("--penalty none", "No such option: --penalty"),
    ("--augment Auto", "no augmentation is called 'Auto'"),
    ("--augment auto,flip", "no augmentation is called 'auto'"),
    ("--augment none,flip", "no augmentation is called 'none'"),
    ("--augment flip,", "no augmentation is called ''"),
    ("--augment ,", "no augmentation is called ''"),
    ("--augment flip,flip", "--augment names one twice: flip,flip"),
    ("--augment color", "no augmentation is called 'color'"),
    ("--augment flip,colour --channels 1", "the augmentation colour is for RGB, the images are grey"),
    ("--augment", "Option '--augment' requires an argument"),
    ("--augment flip cutout", "no such command 'cutout'"),
    ("--amp", "Option '--amp' requires an argument"),
    ("--amp bf16,off", "--amp must be one of auto, off, bf16, got 'bf16,off'"),
    ("--amp 1", "--amp must be one of auto, off, bf16, got '1'"),
    ("--no-amp", "No such option: --no-amp"),
    ("--compile ON", "--compile must be one of auto, off, on, got 'ON'"),
    ("--compile on --device cpu --ngpu 2", "needs CUDA devices"),
    ("--cuda-graphs on", "no such command 'on'"),
    ("--tensorboard events", "no such command 'events'"),
    ("--conditional yes", "no such command 'yes'"),
    ("--augment auto report done", "--augment before report is an option of training"),
    ("--resume eval", "--resume before eval is an option of training"),
    ("--colour", "No such option: --colour"),
    ("digits", "no such command 'digits'"),
]


@pytest.mark.parametrize(("args", "message"), BAD_INPUT, ids=[args for args, _ in BAD_INPUT])
def test_bad_input(args: str, message: str, gan_train: Run, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "train-images-idx3-ubyte").write_bytes(
        bytes((0, 0, 8, 3, *(0, 0, 0, 3), *(0, 0, 0, 8) * 2)) + bytes(192)
    )
    (tmp_path / "done" / "last.pt").write_text("{}")
    before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
    result = gan_train(*args.split())
    lines = result.err.strip().splitlines()
    assert (result.code, result.out) == (2, "")
    error = next(line for line in lines if line.startswith("error: "))
    assert message.lower() in error.lower()
    assert "Traceback" not in result.err
    assert lines[-1].startswith("hint: "), result.err
    after = {file for file in tmp_path.rglob("*") if "cache" not in file.parts and file != tmp_path / "done/.lock"}
    assert after == before


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_tensorboard_that_is_not_there(more: tuple[str, ...], gan_train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.tensorboard.find_spec", lambda _: None)
    result = gan_train("--tensorboard", "--steps", "1", "--out", "r", *more, *TINY)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "error: --tensorboard needs tensorboard, which is not installed",
        "hint: pip install 'ganport[tensorboard]'",
    ]
    assert not Path("r").exists()


def test_cuda_that_is_not_there(gan_train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = gan_train("--device", "cuda")
    assert result.code == 2
    assert "no CUDA device was found" in result.err
    assert "use --device cpu" in result.err


@pytest.mark.parametrize(("n", "message"), [(0, ""), (1, "training needs at least 2 images, the data hold 1")])
def test_too_few_pictures(n: int, message: str, gan_train: Run, photos: Path) -> None:
    for file in sorted(photos.iterdir())[n:]:
        file.unlink()
    result = gan_train("--data", str(photos), "--out", "r")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--width 4", "started with --width 2, asked is --width 4"),
        ("--lr 0.1", "started with --lr 0.0004, asked is --lr 0.1"),
        ("--preset dcgan64", "started with --preset default"),
        ("--lr-d 0.1", "started with --lr-d 0.0008, asked is --lr-d 0.1"),
        ("--augment auto", "started with --augment none, asked is --augment auto"),
        ("--n-critic 2", "started with --n-critic 1, asked is --n-critic 2"),
        ("--conditional", "started with --no-conditional, asked is --conditional"),
        ("--seed 1", "started with --seed 0, asked is --seed 1"),
        ("--data photos", "the run was trained on other data"),
    ],
)
def test_a_resumed_run_keeps_its_settings(args: str, message: str, gan_train: Run, photos: Path) -> None:
    assert photos.exists()
    assert gan_train("--steps", "1", "--out", "r", *TINY).code == 0
    result = gan_train("--resume", "--out", "r", "--steps", "2", *args.split())
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert json.loads(Path("r/config.json").read_text())["limit"]["amount"] == 1


def test_an_unwritable_folder(gan_train: Run, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    result = gan_train("--steps", "1", "--out", "locked/r", *TINY)
    assert result.code == 2
    assert "cannot make the folder locked/r: Permission denied" in result.err


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """As on a full disk: no file can grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [100, 5_000, 60_000])
def test_a_full_disk_leaves_no_half_file(size_bytes: int, gan_train: Run, tmp_path: Path) -> None:
    gan_train("--steps", "1", "--out", "warm", *TINY)  # the data are decoded, the libraries loaded
    with largest_file(size_bytes):
        result = gan_train("--steps", "5", "--report-every", "1", "--out", "r", *TINY)
    assert (result.code, result.out) == (2, "")
    assert "error: no room to write r" in result.err
    assert "hint: free some disk space" in result.err
    assert not list((tmp_path / "r").glob(".*.*.*")), "no temporary files"
    assert not (tmp_path / "r" / "g.pt").exists()


def test_a_disk_that_fills_while_training_keeps_the_last_checkpoint(gan_train: Run) -> None:
    assert gan_train("--steps", "2", "--out", "r", *TINY).code == 0
    good = Path("r/last.pt").read_bytes()
    with largest_file(len(good) // 2):
        assert gan_train("--resume", "--steps", "4", "--out", "r").code == 2
    assert Path("r/last.pt").read_bytes() == good
    assert gan_train("--resume", "--steps", "4", "--out", "r").code == 0
    assert load_generator("r/g.pt").training["steps"] == 4


def test_divergence(gan_train: Run) -> None:
    assert gan_train("--steps", "200", "--lr", "1e30", "--out", "r", *TINY).code == 1
    result = gan_train("--steps", "200", "--lr", "1e30", "--out", "r2", *TINY)
    assert re.search(r"error: the training diverged: loss_\w is nan at step \d+$", result.err, re.M)
    assert "hint: start again with a lower --lr (it was 1e+30)" in result.err
    assert not Path("r2/g.pt").exists()


def test_every_option_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text("utf-8")
    named = set(re.findall(r"--[a-z][a-z-]*", page))
    options = [option for parameter in typer.main.get_command(app).params for option in parameter.opts]
    assert len(options) > 30
    assert not [option for option in options if option not in named and option != "--help"]


def test_help_and_presets_need_no_torch() -> None:
    code = """
import sys
for name in ("torch", "torchvision", "sklearn", "matplotlib"):
    sys.modules[name] = None
from gan_serve import console
from gan_trainer.cli import NAME, app
console.run(app, NAME, sys.argv[1:])
"""
    for args, text in (("--help", "--list-presets"), ("--list-presets", "dcgan64-facades")):
        done = subprocess.run([sys.executable, "-c", code, args], capture_output=True, text=True, check=True)
        assert text in done.stdout
    done = subprocess.run([sys.executable, "-c", code, "--steps", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: gan-train needs torch, which is not installed", "hint: pip install 'ganport[train]'",
    ]  # fmt: skip
