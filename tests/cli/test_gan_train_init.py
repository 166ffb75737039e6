"""gan-train --init: training on from an earlier generator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli.conftest import TINY, GanTrain
from gan_trainer.networks.generator import GeneratorCheckpoint, load_generator, save_generator
from gan_trainer.state import load_networks

pytestmark = pytest.mark.slow


@pytest.fixture
def first(gan_train: GanTrain, photos: Path) -> Path:
    result = gan_train(str(photos), "--size", "28", "--steps", "2", "--out", "a", *TINY)
    assert result.code == 0, result.err
    return photos


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether the weights agree to what one step of a rate of 1e-12 changes."""
    trained = [name for name in a if name.endswith("weight")]
    return all(torch.allclose(a[name], b[name], atol=1e-7) for name in trained)


def test_weights_and_networks_are_taken_over(first: Path, gan_train: GanTrain) -> None:
    on = ("--steps", "1", "--lr", "1e-12", "--seed", "5")
    result = gan_train(str(first), "--init", "a/g.pt", *on, "--out", "b", "--batch-size", "8", "--device", "cpu")
    assert result.code == 0, result.err
    assert "random weights" not in result.err
    checkpoint, before = load_generator("b/g.pt"), load_generator("a/g.pt")
    assert same(checkpoint.weights, before.weights)
    assert checkpoint.training["init"] == "a/g.pt"
    assert json.loads(Path("b/config.json").read_text())["recipe"]["width"] == 2
    a, b = (load_networks(f"{name}/last.pt")[1].state_dict() for name in "ab")
    original = [name for name in a if name.endswith("original")]
    assert original
    assert all(torch.allclose(a[name], b[name], atol=1e-7) for name in original)
    again = gan_train("--config", "b", "--out", "c")
    assert again.code == 0, again.err
    assert same(load_generator("c/g.pt").weights, before.weights)
    resumed = gan_train("--config", "b", "--resume", "--out", "b", "--steps", "2")
    assert resumed.code == 0, resumed.err
    other = gan_train("--init", "c/g.pt", "--resume", "--out", "b", "--steps", "3")
    assert (other.code, other.out) == (2, "")
    assert "started with --init a/g.pt, asked is --init c/g.pt" in other.err


def test_a_discriminator_that_is_not_there_or_another(first: Path, gan_train: GanTrain) -> None:
    Path("alone").mkdir()
    Path("alone/g.pt").write_bytes(Path("a/g.pt").read_bytes())
    wanted = (str(first), "--steps", "1", "--batch-size", "8", "--device", "cpu")
    result = gan_train(*wanted, "--init", "alone/g.pt", "--out", "b")
    assert result.code == 0, result.err
    assert "no last.pt lies beside alone/g.pt: the discriminator starts from random weights" in result.err
    result = gan_train(*wanted, "--init", "a/g.pt", "--preset", "dcgan64", "--out", "c")
    assert result.code == 0, result.err
    assert "the discriminator starts from random weights: the one beside a/g.pt differs (" in result.err


def test_what_does_not_fit(first: Path, gan_train: GanTrain) -> None:
    checkpoint = load_generator("a/g.pt")
    Path("bare").mkdir()
    save_generator(GeneratorCheckpoint(checkpoint.spec, checkpoint.weights), "bare/g.pt")
    torch.save({"a": torch.zeros(1)}, "stranger.pth")
    for args, message in (
        (("--init", "a/g.pt", "--size", "32"), "a/g.pt was made with --size 28, asked is --size 32"),
        (("--init", "a/g.pt", "--width", "4"), "a/g.pt was made with --width 2, asked is --width 4"),
        (("--init", "a/g.pt", "--arch", "mlp"), "a/g.pt was made with --arch resize, asked is --arch mlp"),
        (("--init", "a/g.pt", "--conditional"), "was made with --no-conditional, asked is --conditional"),
        (("--init", "bare/g.pt"), "the generator in bare/g.pt is another network than resize-28: layers."),
        (("--init", "stranger.pth"), "stranger.pth is not a checkpoint written by gan-train"),
        (("--init", "a/last.pt"), "a/last.pt is not a checkpoint written by gan-train"),
    ):
        result = gan_train(str(first), *args, "--out", "b", "--steps", "1")
        assert (result.code, result.out) == (2, ""), args
        assert message in result.err
        assert result.err.splitlines()[-1].startswith("hint: ")
    assert not Path("b/g.pt").exists()
