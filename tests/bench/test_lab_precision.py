"""Images of files of several precisions, seed by seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bench.running import run
from bench.tiny_models import tiny_model
from gan_core.limits import decibels
from gan_serve.runtime.runtimes import load
from lab import precision


@pytest.fixture
def coarse(tmp_path: Path) -> Path:
    """The tiny model with its weights rounded to sixteenths."""
    proto = tiny_model(name="coarse")
    (weight,) = (tensor for tensor in proto.graph.initializer if tensor.name == "weight")
    rounded = np.rint(numpy_helper.to_array(weight) * 16) / 16
    weight.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), "weight"))
    onnx.save(proto, tmp_path / "coarse.onnx")
    return tmp_path / "coarse.onnx"


def test_the_worst_image_of_many_is_found(
    model: Path, coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for path in (model, model, coarse) for word in ("--model", path)]
    assert run(precision.app, *given, "--n", "70", "--json", tmp_path / "p.json") == 0
    assert "70 images" in (shown := capsys.readouterr().out)
    assert "equal" in shown
    first, same, other = json.loads((tmp_path / "p.json").read_text())["files"]
    assert first["share_of_size"] == same["share_of_size"] == 1
    assert "worst_psnr_db" not in first
    assert (same["worst_psnr_db"], same["pixels_max_lsb"]) == (None, 0)
    ours, theirs = (load(path, "cpu").generate(range(70)).astype(float) for path in (coarse, model))
    each = [decibels(square) for square in np.square(ours - theirs).mean((1, 2, 3))]
    assert other["worst_psnr_db"] == pytest.approx(min(each), abs=0.01)
    assert other["median_psnr_db"] == pytest.approx(np.median(each), abs=0.2)
    assert other["worst_psnr_db"] <= other["hundredth_psnr_db"] < other["median_psnr_db"]
    assert other["pixels_max_lsb"] == np.abs(ours - theirs).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "g.onnx"], "--model names one file, expected two or more"),
        (["--model", "g.onnx", "--model", "h.onnx", "--n", "0"], "--n takes 1 to 1000000, got 0"),
        (["--model", "g.onnx", "--model", "nowhere.onnx"], "no model at nowhere.onnx"),
        (
            ["--model", "g.onnx", "--model", "h.onnx", "--json", "h.onnx"],
            "--json and --model name the same file, h.onnx",
        ),
        (["--model", "g.onnx", "--model", "classes.onnx"], "do not take and generate the same"),
    ],
)
def test_wrong_input(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    message: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for file, n_classes in (("g.onnx", 0), ("h.onnx", 0), ("classes.onnx", 3)):
        make_model(file, n_classes=n_classes)
    assert run(precision.app, *arguments) == 2
    assert message in capsys.readouterr().err
