"""The project's own benchmarks: models that are lively, steps in order, the whole of it once in small; and gpu.sh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.running import run
from gan_core.errors import GanportError
from gan_export.source import from_spec
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import load_generator
from lab import own, scaling
from lab.lively_models import CONTRAST, MODELS, lively, write_model
from lab.own import ALL, PRECISIONS, Step, plan
from lab.own import MODELS as PLANNED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(MODELS))
def test_images_of_untrained_models_are_lively(tmp_path: Path, name: str) -> None:
    import torch

    checkpoint = load_generator(write_model(name, tmp_path, width=4))
    source = from_spec(checkpoint.spec, checkpoint.module())
    with torch.no_grad():
        image = source.module(torch.randn(32, 100, generator=torch.Generator().manual_seed(1))).numpy()
    assert image.shape[1:] == checkpoint.spec.interface.image
    assert 0.35 < image.std() < 0.75, f"tanh of a standard deviation of about {CONTRAST}"
    assert np.abs(image[0] - image[1]).mean() > 0.1, "no two are alike"
    assert source.training == {} or source.training["recipe"].startswith("none")


def test_the_same_seed_gives_the_same_weights() -> None:
    spec = network_spec("mlp", 28, 1, width=2)
    first, second, other = (lively(spec, seed).state_dict() for seed in (0, 0, 1))
    assert all(first[key].equal(second[key]) for key in first)
    assert not all(first[key].equal(other[key]) for key in first)


def test_the_plan_names_every_model() -> None:
    assert set(PLANNED) == set(MODELS)
    steps = plan(Path("out"), Path("models"), ALL, [Path("their_g.pt")], quick=False, width=64)
    titles = [step.title for step in steps]
    assert titles == [
        "mlp-28 model", "mlp-28.onnx", "mlp-28 benchmark",
        "dcgan-64 model", "dcgan-64.onnx", "dcgan-64.fp16.onnx", "dcgan-64.int8.onnx", "dcgan-64 benchmark",
        "dcgan-96 model", "dcgan-96.onnx", "dcgan-96 benchmark",
        "dcgan-128 model", "dcgan-128.onnx", "dcgan-128 benchmark",
        "their-g.onnx", "their-g.fp16.onnx", "their-g.int8.onnx", "their-g benchmark",
        "cold_start", "end_to_end", "scaling",
    ]  # fmt: skip
    records = [Path(word).name for step in steps for word in step.arguments if word.endswith(".json")]
    assert records == [
        "cpu-mlp28.json", "cpu-dcgan64.json", "cpu-dcgan96.json", "cpu-dcgan128.json", "cpu-their-g.json",
        "cold-start-dcgan64.json", "end-to-end-dcgan64.json", "scaling-dcgan64.json",
    ]  # fmt: skip
    assert "1,8,25,64" in steps[2].shown


def test_whole_processes_bring_their_model() -> None:
    steps = plan(Path("out"), Path("models"), ["scaling"], [], quick=True, width=4)
    assert steps[0].title == "dcgan-64 model"
    assert len(steps) == 2 + len(PRECISIONS)


def test_a_file_whose_export_failed_is_left_out() -> None:
    (step,) = (
        step for step in plan(Path("o"), Path("m"), ["dcgan-64"], [], quick=True, width=4) if "benchmark" in step.title
    )
    left = step.without([Path("m/dcgan-64.fp16.onnx")])
    models = [left.shown[index + 1] for index, word in enumerate(left.shown) if word == "--model"]
    assert models == ["m/dcgan-64.onnx", "m/dcgan-64.int8.onnx"]
    assert len(left.shown) == len(step.shown) - 2
    assert len(left.arguments) == len(step.arguments) - 2


def test_a_step_that_fails_is_said_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [
        Step("bad", ("-c", "raise SystemExit(3)"), ("bad",)),
        Step("hungry", ("-c", ""), ("hungry",), needs=(tmp_path / "absent",)),
        Step("good", ("-c", "print('said')"), ("good",)),
    ]
    done = own.run_all(steps)
    assert [item.code for item in done] == [3, 127, 0]
    assert "absent was not made" in capsys.readouterr().err
    text = own.summary(done)
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["bad", "hungry", "good"]
    assert "exit 3" in text


def test_a_dry_run_prints_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own.app, "--out", tmp_path / "out", "--dry-run", "--only", "mlp-28") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("gan-export onnx --ckpt ")
    assert lines[2].startswith("gan-bench --model ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "dcgan-65"], "--only takes names out of mlp-28, dcgan-64"),
        (["--only", ""], "--only is empty, expected a value"),
        (["--only", ","], "got ''"),
        (["--width", "0"], "--width takes 1 to 1024, got 0"),
        (["--also", "nowhere.pt"], "nowhere.pt is no file, expected a checkpoint"),
        (["--out", __file__], "is a file, expected a folder"),
        (["--dry"], "No such option"),
    ],
)
def test_wrong_input_of_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(own.app, "--out", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_own_without_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own.app) == 2
    assert "Missing option '--out'" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_the_smallest_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--models", tmp_path / "models", "--quick", "--width", "1", "--only", "mlp-28")
    assert run(own.app, "--out", tmp_path / "out", *arguments) == 0, capsys.readouterr().err[-2000:]
    made = json.loads((tmp_path / "out" / "cpu-mlp28.json").read_text())
    assert made["environment"]["command"].startswith("gan-bench --model ")
    assert {row["runtime"] for row in made["rows"]} >= {"ganport", "eager", "stock"}
    assert all(row["status"] in ("ok", "unstable") for row in made["rows"])


@pytest.mark.slow
def test_scaling_measures_and_draws_a_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", model, "--n", "2,40", "--runs", "1", "--json", tmp_path / "scaling.json")
    assert run(scaling.app, *arguments) == 0
    assert "a start costs" in capsys.readouterr().out
    made = json.loads((tmp_path / "scaling.json").read_text())
    assert [point["images"] for point in made["points"]] == [2, 40]
    assert made["start_s"] > 0
    assert made["model"]["file"] == "g.onnx"


def test_the_line_through_points() -> None:
    points = [
        {"images": n, "wall_s": 0.5 + 0.002 * n, "peak_rss_bytes": 100 + n // 100} for n in (10, 100, 1000, 10_000)
    ]
    assert scaling.line_through(points) == {"start_s": 0.5, "image_ms": 2.0, "peak_rss_share": 2.0}
    points[0]["peak_rss_bytes"] = None  # type: ignore[assignment]
    assert scaling.line_through(points)["peak_rss_share"] is None


@pytest.mark.parametrize("text", ["25", "", "25,", "0,25", "25,25", "250,25", "a,b", "1,9999999", "1,-2", "1.5,2"])
def test_bad_counts(text: str) -> None:
    with pytest.raises(GanportError, match="--n takes"):
        scaling.parse_counts(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "25"], "--n takes two numbers or more"),
        (["--runs", "0"], "--runs takes 1 to 1000, got 0"),
        (["--model", "nowhere.onnx"], "no model at nowhere.onnx"),
        (["--model", __file__], "test_lab_own.py: a model's name ends in .onnx"),
        (["--json", "/proc/x.json"], "cannot write /proc/x.json"),
    ],
)
def test_wrong_input_of_scaling(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = arguments if "--model" in arguments else ["--model", model, *arguments]
    assert run(scaling.app, *given) == 2
    assert message in capsys.readouterr().err


def gpu_sh(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""} | variables
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments], capture_output=True, text=True, env=environment,
        check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("--help",), ("a", "b", "c")])
def test_gpu_sh_says_how_it_is_called(arguments: tuple[str, ...]) -> None:
    finished = gpu_sh(*arguments)
    assert finished.returncode == 2
    assert "benchmarks/gpu.sh OUT [DATA]" in finished.stderr


@pytest.mark.long
@pytest.mark.slow
def test_gpu_sh_without_a_gpu_or_packages(tmp_path: Path) -> None:
    finished = gpu_sh(str(tmp_path / "out"))
    assert finished.returncode == 2
    assert "error: torch finds no CUDA device here\nhint: " in finished.stderr
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    finished = gpu_sh(str(tmp_path / "out"), PYTHON=str(fake))
    assert finished.returncode == 2
    assert "cannot import torch" in finished.stderr


@pytest.mark.long
@pytest.mark.slow
def test_gpu_sh_leaves_out_what_there_is_no_time_for(tmp_path: Path) -> None:
    finished = gpu_sh(str(tmp_path / "out"), PROVIDERS="cpu", SMALL="1", TIME_LIMIT_S="4")
    assert finished.returncode == 1
    assert "train on fashion-mnist: left out, the 4 s are over" in finished.stderr
    assert "steps failed: train on fashion-mnist,everything that needs a model" in finished.stderr
    assert (tmp_path / "out" / "machine.txt").read_text().splitlines()[-1].startswith("python 3.")


@pytest.mark.long
@pytest.mark.slow
def test_gpu_sh_on_the_cpu(tmp_path: Path) -> None:
    """All of it but CUDA itself."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    from PIL import Image

    for number in range(32):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    finished = gpu_sh(str(tmp_path / "out"), str(pictures), PROVIDERS="cpu", SMALL="1", TRAIN_S="1", BATCHES="2")
    assert finished.returncode == 0, finished.stderr
    made = json.loads((tmp_path / "out" / "cpu-dcgan28.json").read_text())
    assert [model["precision"] for model in made["models"]] == ["fp32", "fp16"]
    assert {row["runtime"] for row in made["rows"]} == {"ganport", "eager", "stock"}
    assert "batch 2" in finished.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "log.txt", "machine.txt", "run", "g.onnx", "g.fp16.onnx", "g.png", "cpu-dcgan28.json", "cpu-dcgan28.png",
    }  # fmt: skip
