"""The whole way, for every network of a preset: a folder of pictures → gan-train → both exports → 25 images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gan_export.cli
import gan_serve.gen.cli
import gan_trainer.cli
from gan_serve.terminal import console
from gan_trainer.presets import PRESETS

pytestmark = pytest.mark.slow

N_PICTURES = 9
NETWORKS = {
    (recipe.arch, recipe.size or 64, recipe.channels or 3): name
    for name, (recipe, *_) in reversed(PRESETS.items())
    if recipe.task == "generate"
}
"""A preset for each network that takes a latent; test_gan_train trains with all. What else a recipe says, no export can
tell."""


def run(app: object, name: str, *arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        console.run(app, name, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    return int(done.value.code or 0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small RGB PNGs: discs of one colour on another."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for index in range(N_PICTURES):
        disc = (x - rng.integers(20, 44)) ** 2 + (y - rng.integers(20, 44)) ** 2 < rng.integers(10, 20) ** 2
        colours = rng.integers(0, 256, (2, 3))
        Image.fromarray(colours[disc.astype(int)].astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=pytest.mark.long if arch == "resnet" or name == "dcgan96" else ())
        for (arch, *_), name in NETWORKS.items()
    ],
)
def test_every_network_from_pictures_to_pictures(
    preset: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    narrow = ("--width", 8, "--z-dim", 8, "--batch-size", 5)
    trained = run(
        gan_trainer.cli.app, "gan-train", "--data", pictures, "--preset", preset, "--steps", 3, "--out", folder, *narrow
    )
    assert trained == 0, capsys.readouterr().err
    drawn = {}
    for command, suffix in (("onnx", ".onnx"), ("torchscript", ".ts")):
        model = tmp_path / f"g{suffix}"
        code = run(gan_export.cli.app, "gan-export", command, "--ckpt", folder / "g.pt", "--out", model)
        assert code == 0, capsys.readouterr().err
        images = tmp_path / f"{suffix[1:]}.npy"
        assert run(gan_serve.gen.cli.app, "gan-gen", "--model", model, "--n", 25, "--out", images) == 0
        drawn[suffix] = np.load(images)
        assert len(drawn[suffix]) == 25
    assert np.abs(drawn[".onnx"].astype(int) - drawn[".ts"]).max() <= 1
    channels = 1 if preset == "mlp-mnist" else 3
    assert drawn[".onnx"].shape[-1] == channels
    assert torch.load(folder / "g.pt", weights_only=True)["ganport"] == 1


def test_classes_from_folders_to_one_class(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subfolders are classes: their names go all the way to `gan-gen --class`."""
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    data, folder, model = tmp_path / "data", tmp_path / "run", tmp_path / "g.onnx"
    for index, picture in enumerate(sorted(pictures.iterdir())):
        target = data / ("moon boot", "sneaker")[index % 2] / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes())
    small = ("--size", 28, "--width", 4, "--z-dim", 8, "--batch-size", 5, "--steps", 30)
    assert run(gan_trainer.cli.app, "gan-train", "--data", data, "--conditional", "--out", folder, *small) == 0
    assert "in 2 classes" in capsys.readouterr().err
    code = run(gan_export.cli.app, "gan-export", "onnx", "--ckpt", folder / "g.pt", "--out", model, "--json")
    assert code == 0, capsys.readouterr().err
    scripted = tmp_path / "g.ts"
    assert run(gan_export.cli.app, "gan-export", "torchscript", "--ckpt", folder / "g.pt", "--out", scripted) == 0
    images = {}
    for name in ("sneaker", "moon boot"):
        drawn = []
        for source in (model, scripted):
            file = tmp_path / f"{name}{source.suffix}.npy"
            assert (
                run(gan_serve.gen.cli.app, "gan-gen", "--model", source, "--class", name, "--n", 8, "--out", file) == 0
            )
            drawn.append(np.load(file))
        images[name] = drawn[0]
        assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1
    assert (images["sneaker"] != images["moon boot"]).any((1, 2, 3)).all()
    assert run(gan_serve.gen.cli.app, "gan-gen", "--model", model, "--class", "boat", "--out", tmp_path / "b.png") == 2
    assert "classes are 0 moon boot, 1 sneaker" in capsys.readouterr().err
