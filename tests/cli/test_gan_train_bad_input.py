"""gan-train at the terminal: every wrong input it must refuse, in one line with a hint, leaving nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import TINY, GanTrain
from gan_core.installation import install

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
    ("--width 0", "--width must be at least 1, got 0"),
    ("--z-dim 0", "--z-dim must be at least 1, got 0"),
    ("--arch stylegan", "arch must be one of mlp, dcgan, resize, resnet, got 'stylegan'"),
    ("--preset dcgan46", "unknown preset 'dcgan46'"),
    ("--batch-size 1", "--batch-size must be at least 2, got 1"),
    ("--batch-size 0", "--batch-size must be at least 2, got 0"),
    ("--lr 0", "a learning rate must be a finite number above 0"),
    ("--lr nan", "a learning rate must be a finite number above 0"),
    ("--lr -1", "a learning rate must be a finite number above 0"),
    ("--lr-d 0", "a learning rate must be a finite number above 0, got 0"),
    ("--n-critic 0", "--n-critic must be at least 1, got 0"),
    ("--n-critic 2 --preset gan-basic", "2 steps of D for one of G need order d_first"),
    ("--penalty-weight 1", "penalty none with weight 1"),
    ("--penalty-weight 0 --preset r3gan", "penalty r1r2 with weight 0"),
    ("--penalty-weight -1 --preset r3gan", "a penalty's weight must be a finite number from 0, got -1"),
    ("--penalty-weight nan --preset r3gan", "a penalty's weight must be a finite number from 0, got nan"),
    ("--penalty-every 0 --preset r3gan", "--penalty-every must be at least 1, got 0"),
    ("--penalty-every 4", "penalty_every without a penalty"),
    ("--augment rotate", "no augmentation is called 'rotate'"),
    ("--augment colour", "the augmentation colour is for RGB, the images are grey"),
    ("--seed -1", "--seed must lie in 0 … 2**53 - 1, got -1"),
    ("--seed 9007199254740992", "--seed must lie in"),
    ("--report-every 0", "--report-every must be at least 1, got 0"),
    ("--sample-every -1", "--sample-every must be at least 1, got -1"),
    ("--device tpu", "unknown device 'tpu'"),
    ("--amp fp16", "--amp must be one of auto, off, bf16, got 'fp16'"),
    ("--amp BF16", "--amp must be one of auto, off, bf16, got 'BF16'"),
    ("--compile yes", "--compile must be one of auto, off, on, got 'yes'"),
    ("--compile", "Option '--compile' requires an argument"),
    ("--ngpu 0", "Invalid value for '--ngpu'"),
    ("--device cpu --ngpu 2", "needs CUDA devices"),
    ("--threads 0", "Invalid value for '--threads'"),
    ("--data idx --conditional", "--conditional needs images with classes, idx has none"),
    ("--data=", "--data is empty, expected a value"),
    ("--resume --data=", "--data is empty, expected a value"),
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
    ("--n-critic -5", "--n-critic must be at least 1, got -5"),
    ("--n-critic 2.5", "Invalid value for '--n-critic'"),
    ("--n-critic five", "Invalid value for '--n-critic'"),
    ("--n-critic", "Option '--n-critic' requires an argument"),
    ("--n-critic 5 --preset mlp-mnist", "5 steps of D for one of G need order d_first"),
    ("--penalty-weight 10 --preset dcgan64", "penalty none with weight 10"),
    ("--penalty-weight inf --preset wgan-gp", "a penalty's weight must be a finite number from 0, got inf"),
    ("--penalty-weight 0 --preset wgan-gp", "penalty gp with weight 0"),
    ("--penalty-weight heavy", "Invalid value for '--penalty-weight'"),
    ("--penalty-every -1 --preset wgan-gp", "--penalty-every must be at least 1, got -1"),
    ("--penalty-every 1.5 --preset wgan-gp", "Invalid value for '--penalty-every'"),
    ("--penalty-every 16 --preset dcgan64", "penalty_every without a penalty"),
    ("--penalty none", "No such option: --penalty"),
    ("--augment Auto", "no augmentation is called 'Auto'"),
    ("--augment none,flip", "--augment none stands alone, got none,flip"),
    ("--augment flip,", "no augmentation is called ''"),
    ("--augment ,", "no augmentation is called ''"),
    ("--augment flip,flip", "--augment names one twice: flip,flip"),
    ("--augment color", "no augmentation is called 'color'"),
    ("--augment flip,colour --channels 1", "the augmentation colour is for RGB, the images are grey"),
    ("--augment", "Option '--augment' requires an argument"),
    ("--augment flip cutout", "no data set and no folder is called cutout"),
    ("--amp", "Option '--amp' requires an argument"),
    ("--amp bf16,off", "--amp must be one of auto, off, bf16, got 'bf16,off'"),
    ("--amp 1", "--amp must be one of auto, off, bf16, got '1'"),
    ("--no-amp", "No such option: --no-amp"),
    ("--compile ON", "--compile must be one of auto, off, on, got 'ON'"),
    ("--compile on --device cpu --ngpu 2", "needs CUDA devices"),
    ("--cuda-graphs on", "no data set and no folder is called on"),
    ("--conditional yes", "no data set and no folder is called yes"),
    ("--augment auto report done", "--augment before report is an option of training"),
    ("--resume eval", "--resume before eval is an option of training"),
    ("--colour", "No such option: --colour"),
    ("--log comet", "--log takes tensorboard, wandb, mlflow, got 'comet'"),
    ("--log ,tensorboard", "--log takes tensorboard, wandb, mlflow, got ''"),
    ("--init nowhere.pt", "no checkpoint at nowhere.pt"),
    ("--init done", "done is a folder, expected a checkpoint file"),
    ("--init file.txt", "file.txt cannot be read as a checkpoint"),
    ("--init done/last.pt", "done/last.pt cannot be read as a checkpoint"),
    ("eval2", "no data set and no folder is called eval2"),
    ("digits photos", "one DATA is trained on, got digits and photos"),
    ("digits --steps 1 report", "one DATA is trained on, got digits and report"),
    ("digits --data mnist", "digits and --data mnist contradict each other"),
    ("--steps 1 report", "--steps before report is an option of training"),
]


@pytest.mark.parametrize(("args", "message"), BAD_INPUT, ids=[args for args, _ in BAD_INPUT])
def test_bad_input(args: str, message: str, gan_train: GanTrain, tmp_path: Path) -> None:
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
def test_tensorboard_that_is_not_there(
    more: tuple[str, ...], gan_train: GanTrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_trainer.boards.find_spec", lambda _: None)
    result = gan_train("--log", "tensorboard", "--steps", "1", "--out", "r", *more, *TINY)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "error: --log tensorboard needs tensorboard, which is not installed",
        f"hint: {install('tensorboard')}",
    ]
    assert not Path("r").exists()


def test_cuda_that_is_not_there(gan_train: GanTrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = gan_train("--device", "cuda")
    assert result.code == 2
    assert "no CUDA device was found" in result.err
    assert "use --device cpu" in result.err


@pytest.mark.parametrize(("n", "message"), [(0, ""), (1, "training needs at least 2 images, the data hold 1")])
def test_too_few_pictures(n: int, message: str, gan_train: GanTrain, photos: Path) -> None:
    for file in sorted(photos.iterdir())[n:]:
        file.unlink()
    result = gan_train("--data", str(photos), "--out", "r")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not Path("r").exists()


KEPT = [
    ("--width 4", "started with --width 2, asked is --width 4"),
    ("--lr 0.1", "started with --lr 0.0004, asked is --lr 0.1"),
    ("--preset dcgan64", "started with --preset default"),
    ("--lr-d 0.1", "started with --lr-d 0.0008, asked is --lr-d 0.1"),
    ("--augment auto", "started with --augment none, asked is --augment auto"),
    ("--n-critic 2", "started with --n-critic 1, asked is --n-critic 2"),
    ("--conditional", "started with --no-conditional, asked is --conditional"),
    ("--seed 1", "started with --seed 0, asked is --seed 1"),
    ("--data photos", "the run was trained on other data"),
]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_settings(gan_train: GanTrain, photos: Path) -> None:
    assert photos.exists()
    assert gan_train("--steps", "1", "--out", "r", *TINY).code == 0
    for args, message in KEPT:
        result = gan_train("--resume", "--out", "r", "--steps", "2", *args.split())
        assert (result.code, result.out) == (2, ""), args
        assert message in result.err
        assert json.loads(Path("r/config.json").read_text())["limit"]["amount"] == 1
