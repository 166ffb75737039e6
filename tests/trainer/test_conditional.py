"""Training with classes: labels reach G and D, survive the checkpoint, resume, and show as one row a class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_trainer import pictures
from gan_trainer.batches import Batches
from gan_trainer.config import Limit, RunConfig, TrainRequest
from gan_trainer.discriminators import Discriminator
from gan_trainer.loop import Training
from gan_trainer.networks.architectures import ARCHITECTURES, network_spec
from gan_trainer.networks.generator import SpecGenerator, build, load_generator
from gan_trainer.recipes import MAX_ROWS, DNorm, Recipe
from gan_trainer.state import load_networks
from trainer.conftest import CPU, TINY, StartRun
from trainer.same_runs import whole_and_parts

NAMES = ("dark", "bright")
CONDITIONAL = dataclasses.replace(TINY, conditional=True, d_norm="spectral", d_loss="joined", loss="hinge")


def two_greys(n: int = 40) -> tuple[U8, np.ndarray]:
    """Flat images, dark ones of class 0 and bright ones of class 1, with a little noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % 2
    level = np.where(labels == 0, 40, 215)[:, None, None, None]
    pixels = np.clip(level + rng.integers(-20, 20, (n, 28, 28, 1)), 0, 255).astype(np.uint8)
    return pixels, labels


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_projection_discriminator_is_its_equation(arch: str, norm: DNorm) -> None:
    """D(x, y) = ψ(φ(x)) + v_y · φ(x)."""
    torch.manual_seed(0)
    D = Discriminator(arch, (1, 28, 28), 4, norm, n_classes=3).eval()
    x, label = torch.randn(5, 1, 28, 28), torch.tensor([0, 1, 2, 1, 0])
    features = D.layers[:-1](x).flatten(1)
    assert isinstance(D.projection, (nn.Conv2d, nn.Linear))
    last, v = D.layers[-1], D.projection.weight.flatten(1)
    assert isinstance(last, (nn.Conv2d, nn.Linear))
    expected = features @ last.weight.flatten() + (0 if last.bias is None else last.bias) + (features * v[label]).sum(1)
    torch.testing.assert_close(D(x, label), expected)
    torch.testing.assert_close(D(x, label)[3:], D(x[3:], label[3:]))
    if norm == "spectral":
        for _ in range(50):
            D.train()(x, label)
        assert torch.linalg.matrix_norm(D.projection.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_a_discriminator_without_classes_is_as_before() -> None:
    plain = Discriminator("dcgan", (1, 28, 28), 4)
    assert plain.projection is None
    assert all(name.startswith("layers.") for name in plain.state_dict())


def test_batches_give_the_classes_of_their_images() -> None:
    pixels, labels = two_greys(10)
    batches = Batches(pixels, 4, 0, CPU, labels=labels)
    for step in (0, 1, 2, 5):
        of_batch = batches.labels(step)
        assert of_batch is not None
        assert torch.equal(of_batch, (batches(step).mean((1, 2, 3)) > 0).long())
    assert Batches(pixels, 4, 0, CPU).labels(0) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        CONDITIONAL,
        dataclasses.replace(TINY, conditional=True, arch="mlp", order="g_first", d_loss="mean"),
        dataclasses.replace(TINY, conditional=True, d_loss="sum", ema_beta=None),
    ],
    ids=["joined", "mlp", "sum"],
)
def test_parts_equal_the_whole(recipe: Recipe, start_run: StartRun, tmp_path: Path) -> None:
    pixels, labels = two_greys()

    def start(limit: Limit, name: str) -> Training:
        return start_run(recipe, limit, name, pixels, labels=labels, class_names=NAMES)

    whole_and_parts(start, 7, 20)
    sample = "samples/step-0000020.png"
    assert (tmp_path / "whole" / sample).read_bytes() == (tmp_path / "parts" / sample).read_bytes()


@pytest.mark.slow
def test_the_class_decides_the_image(start_run: StartRun, tmp_path: Path) -> None:
    """120 steps are enough to draw class 0 dark and class 1 bright."""
    recipe = dataclasses.replace(
        CONDITIONAL, width=4, z_dim=4, lr_g=2e-3, lr_d=4e-3, betas=(0.0, 0.99), batch_size=20, ema_beta=0.9,
        report_every=50, sample_every=1000,
    )  # fmt: skip
    pixels, labels = two_greys()
    start_run(recipe, Limit("steps", 120), pixels_NHWC=pixels, labels=labels, class_names=NAMES).run()
    checkpoint = load_generator(tmp_path / "run" / "g.pt")
    assert checkpoint.spec.interface.class_names == NAMES
    module = checkpoint.module()
    dark, bright = (pictures.draw_seeds(module, range(16), [label] * 16).mean().item() for label in (0, 1))
    assert dark < -0.2 < 0.2 < bright
    G, D = load_networks(tmp_path / "run" / "last.pt")
    label = torch.tensor([0, 1])
    assert D(G(torch.randn(2, 4), label), label).shape == (2,)


def test_a_fake_of_its_class_stands_beside_each_real(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = two_greys()
    training = start_run(CONDITIONAL, pixels_NHWC=pixels, labels=labels, class_names=NAMES, pictures=True)
    drawn: list[list[int]] = []
    compared: list[U8] = []
    draw = pictures.draw_seeds

    def note(generator: SpecGenerator, seeds: range, classes: list[int]) -> torch.Tensor:
        drawn.append(classes)
        return draw(generator, seeds, classes)

    monkeypatch.setattr(pictures, "draw_seeds", note)
    monkeypatch.setattr(pictures, "animate", lambda *_: None)
    monkeypatch.setattr(pictures, "compare", lambda reals, *_: compared.append(reals))
    training.gallery.redraw()
    dark = int((compared[0].mean((1, 2, 3)) < 127).sum())
    assert drawn == [[0] * dark + [1] * (len(compared[0]) - dark)]
    assert 0 < dark < len(compared[0])


def test_fixed_samples_are_one_row_a_class() -> None:
    G = build(network_spec("dcgan", 28, 1, width=2, z_dim=4, n_classes=3)).eval()
    images = pictures.draw_fixed(G, 64, 5)
    assert images.shape == (15, 1, 28, 28)
    torch.testing.assert_close(images[5:10], pictures.draw_seeds(G, range(5), [1] * 5))
    assert (images[0] - images[5]).abs().max() > 0
    torch.testing.assert_close(pictures.draw_seeds(G, [3, 4]), pictures.draw_seeds(G, [3, 4], [0, 1]))
    many = build(network_spec("dcgan", 28, 1, width=2, z_dim=4, n_classes=50)).eval()
    assert len(pictures.draw_fixed(many, 64, 2)) == 2 * MAX_ROWS


def test_conditional_needs_classes() -> None:
    with pytest.raises(GanportError, match="`conditional` needs images with classes, blobs has none") as caught:
        RunConfig("blobs", "blobs", "f", 4, CONDITIONAL, 0, Limit("steps", 1))
    assert "subfolder" in caught.value.hint


def test_configs_from_before_classes_still_read() -> None:
    config = RunConfig("blobs", "blobs", "f", 4, TINY, 0, Limit("steps", 1))
    values = config.to_json()
    del values["class_names"]
    del values["recipe"]["conditional"]
    assert RunConfig.from_json(values) == config


def test_a_resumed_run_stays_conditional() -> None:
    config = RunConfig("greys", "greys", "f", 4, CONDITIONAL, 0, Limit("steps", 1), class_names=NAMES)
    assert RunConfig.from_json(config.to_json()) == config
    config.check_resumed("f", TrainRequest(changes={"conditional": True}))
    with pytest.raises(GanportError, match="started with `conditional=True`, asked is `conditional=False`"):
        config.check_resumed("f", TrainRequest(changes={"conditional": False}))
