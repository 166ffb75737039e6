"""gan-train eval: what it prints, keeps and refuses; and that a damaged model is clearly worse than its exports."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from export.tiny import lively_generator, save_checkpoint, source_of, spec_of
from gan_core.images import to_pixels
from gan_core.latents import latents
from gan_export.exporting import export_onnx
from gan_serve.gen.cli import app as gen_app
from gan_serve.terminal import console
from gan_trainer.cli import NAME, app
from gan_trainer.evaluation import Evaluation
from gan_trainer.networks.architectures import network_spec

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
Run = Callable[..., tuple[int, str, str]]
N = 160


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, the pictures it was "trained" on (its own, of other seeds: it is perfect), exports and a damaged copy.

    exports   g.onnx as it is; half.onnx and int8.onnx with their weights rounded to what fp16 and int8 can hold
    damaged   made by the lines in docs/evaluation.md
    """
    folder = tmp_path_factory.mktemp("models")
    spec = spec_of(channels=1)
    save_checkpoint(folder / "g.pt", spec)
    export_onnx(source_of(spec), folder / "g.onnx")
    module = lively_generator(spec)
    with torch.no_grad():
        images = to_pixels(module(torch.from_numpy(latents(range(10**6, 10**6 + 2 * N), 8))).numpy())
    (folder / "data").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"data/{number:04d}.png")
    rounded(folder / "g.onnx", folder / "half.onnx", lambda w: w.astype(np.float16))
    rounded(folder / "g.onnx", folder / "int8.onnx", to_int8)
    [lines] = re.findall(r"```python\n([^`]*damaged[^`]*)```", PAGE.read_text(encoding="utf-8"))
    with contextlib.chdir(folder):
        exec(lines, {})
    return folder


def rounded(source: Path, target: Path, law: Callable[[np.ndarray], np.ndarray]) -> None:
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(law(values).astype(np.float32), tensor.name))
    onnx.save(model, target)


def to_int8(values: np.ndarray) -> np.ndarray:
    scale = np.abs(values).max() / 127
    rounded_values: np.ndarray = np.round(values / scale) * scale
    return rounded_values


@pytest.fixture
def evaluate(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(files)
    monkeypatch.setenv("GANPORT_CACHE", str(files / "cache"))
    monkeypatch.setattr("gan_trainer.evaluation.sliced.PATCHES", 4096)
    monkeypatch.setattr("gan_trainer.evaluation.sliced.DIRECTIONS", 32)

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            console.run(app, NAME, ["eval", *map(str, args)])
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return run


def test_a_damaged_model_is_clearly_worse_than_the_exports(evaluate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.evaluation.sliced.PATCHES", 1 << 15)
    models = ("g.pt", "g.onnx", "half.onnx", "int8.onnx", "damaged.pt")
    named = [argument for model in models for argument in ("--model", model)]
    code, out, err = evaluate(*named, "--data", "data", "--json")
    assert code == 0, err
    found = {each.model["file"]: each for each in map(Evaluation.from_json, json.loads(out))}
    distance = {name: each.metrics.distance for name, each in found.items()}
    floor = found["g.pt"].floor.distance
    assert distance["g.onnx"] == pytest.approx(distance["g.pt"], rel=0.02), "an export draws the same pixels"
    for name in ("g.pt", "half.onnx", "int8.onnx"):
        assert distance[name] < 2 * floor, f"{name} is as good as real"
    assert distance["damaged.pt"] > 3 * max(distance[name] for name in models[:-1])


def test_table(evaluate: Run) -> None:
    code, out, err = evaluate("--ckpt", "g.pt", "--ckpt", "damaged.pt", "--data", "data", "--n", 50, "--seed", 5)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "data, 28x28: 50 images of seeds 5 … 54 against 50 real ones"
    assert lines[1].startswith("features swd ")
    assert lines[3].split() == ["SWD↓", "28px↓"]
    assert [line.split("  ")[0] for line in lines[5:8]] == ["g.pt", "damaged.pt", "real images"]
    assert "features: swd" in err


@pytest.fixture(scope="module")
def shards(files: Path) -> Path:
    """Folders of the first images of g.onnx as shards, one for each format."""
    for kind in ("tar", "parquet", "npy", "folder"):
        options = ("--n", 50, "--shard-size", 20, "--format", kind, "--out", files / f"shards-{kind}", "--seed", 5)
        with pytest.raises(SystemExit) as done:
            console.run(gen_app, "gan-gen", ["--quiet", str(files / "g.onnx"), *map(str, options)])
        assert done.value.code == 0
    return files


@pytest.mark.usefixtures("shards")
def test_shards_score_like_the_generator(evaluate: Run) -> None:
    folders = [f"shards-{kind}" for kind in ("tar", "parquet", "npy", "folder")]
    _, out, _ = evaluate("g.onnx", "--data", "data", "--n", 50, "--seed", 5, "--json")
    expected = Evaluation.from_json(json.loads(out))
    code, out, err = evaluate(*folders, "--data", "data", "--json")
    assert code == 0, err
    found = [Evaluation.from_json(each) for each in json.loads(out)]
    assert [each.model["file"] for each in found] == folders
    assert {each.metrics for each in found} == {expected.metrics}
    code, out, err = evaluate(folders[0], "--data", "data")
    assert out.splitlines()[0] == "data, 28x28: 50 images against 50 real ones"
    assert err.splitlines()[-1] == "next: gan-gen --verify --out shards-tar"
    code, _, err = evaluate(folders[0], "g.onnx", "--data", "data")
    assert code == 0, err


def test_shards_that_do_not_fit(evaluate: Run, shards: Path) -> None:
    code, _, err = evaluate("shards-tar", "--data", "data", "--n", 60)
    assert (code, "the shards have 50, and --n is 60" in err) == (2, True)
    code, _, err = evaluate("shards-tar")
    assert (code, "nothing says what data to compare with" in err) == (2, True)
    (shards / "unfinished").mkdir()
    (shards / "unfinished/job.json").write_text("{}")
    code, _, err = evaluate("unfinished", "--data", "data")
    assert (code, "unfinished has no manifest.json" in err) == (2, True)
    code, _, err = evaluate("data", "--data", "data")
    assert code == 2
    assert "data is a folder, expected a model file\nhint: to compare with its images: --data data\n" in err
    code, _, err = evaluate("shards-tar", "digits")
    assert (code, err) == (2, "error: digits is a data set, expected a model\nhint: --data digits\n")


def test_a_run_is_known_by_its_folder_and_keeps_its_numbers(evaluate: Run, files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "g.pt").write_bytes((files / "g.pt").read_bytes())
    (run / "config.json").write_text(json.dumps({"data": str(files / "data")}))
    code, _, err = evaluate("--ckpt", run / "g.pt", "--no-keep")
    assert code == 0, err
    assert not list(run.glob("eval*"))
    assert f"kept in {run}/eval-swd.json" in evaluate("--ckpt", run / "g.pt")[2]
    kept = Evaluation.from_json(json.loads((run / "eval-swd.json").read_text()))
    assert (kept.model["file"], kept.model["provider"], kept.n) == ("g.pt", "torch cpu", N)
    code, out, err = evaluate(run / "g.pt", "g.onnx")  # which lies in no run
    assert (code, f"data: {files / 'data'}, on which {run} was trained" in err) == (0, True)
    assert "g.onnx" in out
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "config.json").write_text(json.dumps({"data": "digits"}))
    code, _, err = evaluate(run / "g.pt", other / "g.pt")
    assert (code, "error: the models were trained on different data: " in err) == (2, True)


def test_a_run_whose_data_moved_asks_where_they_are(evaluate: Run, files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "g.pt").write_bytes((files / "g.pt").read_bytes())
    (run / "config.json").write_text(json.dumps({"data": "elsewhere/photos"}))
    code, _, err = evaluate("--ckpt", run / "g.pt")
    assert code == 2
    assert err.splitlines()[-2:] == [
        "error: the run was trained on elsewhere/photos, which is not here",
        "hint: say where it lies now: --data",
    ]


def test_classes(evaluate: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.evaluation.classifier.LEAST_STEPS", 30)
    for number, picture in enumerate(sorted((files / "data").iterdir())):
        place = tmp_path / "sorted" / ("ab"[number % 2]) / picture.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            (image.point(lambda value: 255 - value) if number % 2 else image).save(place)
    code, out, err = evaluate("--model", "g.onnx", "--data", tmp_path / "sorted")
    assert code == 0, err
    assert "features classifier " in out
    assert "right on images kept from it" in out
    assert "g.onnx: hardly any b" in out


WRONG = [
    ((), "eval needs a model", "gan-train eval runs/NAME/g.pt"),
    (("--ckpt", "none.pt"), "no file at none.pt", ""),
    (("--ckpt", "none.onnx"), "no model at none.onnx", ""),
    (("--ckpt", "."), ". is a folder, expected a model file", "name the file in it: ./g.pt"),
    (("--ckpt", "last.pt"), "is the state of a training", "g.pt"),
    (("--ckpt", "other.pt"), "is not a checkpoint written by gan-train", "gan-export other.pt"),
    (("--ckpt", "broken.pt"), "cannot be read as a checkpoint", "gan-export broken.pt"),
    (("--ckpt", "g.pt"), "nothing says what data to compare with", "--data"),
    (("--ckpt", "g.pt", "--data", "nodata"), "no data set and no folder is called nodata", ""),
    (("--ckpt", "g.pt", "--data", "data", "--n", "31"), "Invalid value for '--n'", ""),
    (("--ckpt", "g.pt", "--data", "data", "--features", "fid"), "no features are called 'fid'", "classifier"),
    (("--ckpt", "g.pt", "--data", "data", "--features", "classifier"), "data has no labels", "--features swd"),
    (("--ckpt", "g.pt", "--data", "data", "--seed", "-1"), "--seed must lie in", ""),
    (("--ckpt", "g.pt", "--data", "data", "--device", "gpu"), "unknown device 'gpu'", "cpu"),
    (("--ckpt", "g.pt", "--data", "data", "--provider", "cpu"), "--provider is for exported files", "--device"),
    (("--ckpt", "g.onnx", "--data", "data", "--provider", "nope"), "nope", ""),
    (
        ("--ckpt", "g.pt", "--ckpt", "big.pt", "--data", "data"),
        "big.pt generates 32x32 RGB images, g.pt 28x28",
        "separate",
    ),
    (("--ckpt", "classes.pt", "--data", "data"), "the model has 3 classes, data has no labels", ""),
    (("--ckpt", "g.pt", "--data", "few"), "at least 64 real images, the data hold 3", ""),
]


@pytest.mark.parametrize(("args", "message", "hint"), WRONG, ids=[message for _, message, _ in WRONG])
def test_wrong_input(args: tuple[str, ...], message: str, hint: str, evaluate: Run) -> None:
    Path("last.pt").write_bytes(b"x")
    Path("broken.pt").write_bytes(b"x")
    torch.save({"weights": torch.zeros(2)}, "other.pt")
    Path("few").mkdir(exist_ok=True)
    for number in range(3):
        Image.new("L", (28, 28)).save(f"few/{number}.png")
    save_checkpoint(Path("big.pt"), spec_of(size=32))
    save_checkpoint(Path("classes.pt"), network_spec("dcgan", 28, 1, width=4, z_dim=8, n_classes=3))
    code, out, err = evaluate(*args)
    assert (code, out) == (2, ""), err
    assert message in err
    assert hint in err
    assert "Traceback" not in err


def test_options_of_training_before_eval_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        console.run(app, NAME, ["--batch-size", "3", "eval", "--ckpt", "g.pt"])
    assert done.value.code == 2
    assert "--batch-size before eval is an option of training" in capsys.readouterr().err
