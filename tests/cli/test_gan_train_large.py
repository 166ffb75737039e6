"""Images of 256 and 512 pixels: trained, exported and drawn, with networks as narrow as they come."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from cli.conftest import GanTrain, Run
from gan_serve import load
from gan_trainer.networks.generator import load_generator, save_generator


def known(path: Path) -> None:
    """Gives the generator the statistics that a longer training would have: two steps leave images of one colour."""
    checkpoint = load_generator(path)
    generator = checkpoint.module().train()
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    generator(torch.from_numpy(checkpoint.spec.interface.latents(range(8))))
    save_generator(dataclasses.replace(checkpoint, weights=generator.state_dict()), path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("dcgan", 256),
        pytest.param("resize", 256, marks=pytest.mark.long),
        pytest.param("resnet", 512, marks=pytest.mark.long),
    ],
)
def test_large_images(arch: str, size: int, gan_train: GanTrain, photos: Path, run: Run) -> None:
    for index in range(9):
        (photos / f"{index}.png").unlink()
    result = gan_train(
        str(photos), "--size", str(size), "--arch", arch, "--width", "1", "--z-dim", "4", "--batch-size", "2",
        "--steps", "2", "--out", "r", "--device", "cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    with Image.open("r/samples/step-0000002.png") as sample:
        assert max(sample.size) < 4 * size + 20
    known(Path("r/g.pt"))
    code, _, err = run("onnx", "--ckpt", "r/g.pt", "--out", "g.onnx")
    assert code == 0, err
    assert load("g.onnx").generate(seeds=range(2)).shape == (2, size, size, 3)
