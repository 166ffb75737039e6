"""Features that meet: penalties, classes, augmentation, bfloat16 and --resume in one run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gan_trainer.config import Limit
from gan_trainer.loop import Training
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe
from gan_trainer.report import render
from gan_trainer.report.gather import gather
from gan_trainer.speed import Speed
from gan_trainer.state import load_networks
from trainer.conftest import CPU_SPEED, StartRun, blobs
from trainer.same_runs import log_without_timings, whole_and_parts

pytestmark = pytest.mark.slow

BF16 = Speed(channels_last=True, bf16=True)
SMALL = {"size": 28, "channels": 1, "width": 2, "z_dim": 4, "batch_size": 8, "report_every": 5, "sample_every": 10}
PIXELS = blobs(20, 28, 1)
LABELS = np.arange(20, dtype=np.int64) % 3
CLASSES = {"labels": LABELS, "class_names": ("a", "b", "c")}


def small(name: str, **changes: object) -> Recipe:
    return dataclasses.replace(preset(name), **SMALL | {"n_fixed": 4, "cols": 2} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("speed", [CPU_SPEED, BF16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "recipe",
    [
        small("wgan-gp", conditional=True, augment="auto"),
        small("r3gan", conditional=True, augment="auto", penalty_every=2, lr_d=1e-4),
        small("default", conditional=True, augment="flip,cutout", n_critic=3),
        small("dcgan64", conditional=True, arch="mlp", augment="translation"),
    ],
    ids=["wgan-gp", "r3gan", "default", "dcgan64 mlp"],
)
def test_parts_equal_the_whole(recipe: Recipe, speed: Speed, start_run: StartRun) -> None:
    """Cut at 7, inside n_critic and penalty_every."""

    def start(limit: Limit, name: str) -> Training:
        return start_run(recipe, limit, name, PIXELS, speed=speed, **CLASSES)

    whole, parts = whole_and_parts(start, 7, 12)
    kept = [line for line in log_without_timings(parts) if line["step"] != 7]
    assert kept == log_without_timings(whole)
    G, D = load_networks(whole.run_dir.last)
    label = torch.tensor([0, 2])
    assert D(G(torch.randn(2, 4), label), label).isfinite().all()
    page = render(gather(whole.run_dir.path))
    assert page.count("<svg") >= 3
    assert recipe.name in page


@pytest.mark.parametrize("name", ["wgan-gp", "r3gan"])
def test_bfloat16_penalises_nearly_as_float32(name: str, start_run: StartRun) -> None:
    """The double backward pass goes through autocast: the first losses agree, and D's weights move alike."""
    recipe = small(name, n_critic=1, report_every=1)
    runs = [start_run(recipe, Limit("steps", 3), speed.describe(), PIXELS, speed=speed) for speed in (CPU_SPEED, BF16)]
    for training in runs:
        training.run()
    exact, rounded = (training.run_dir.read_log() for training in runs)
    for a, b in zip(exact, rounded, strict=True):
        assert [b[name] for name in ("loss_d", "loss_g", "d_x")] == pytest.approx(
            [a[name] for name in ("loss_d", "loss_g", "d_x")], abs=0.05
        )
    for a, b in zip(*(training.state.discriminator.parameters() for training in runs), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=5e-3)


@pytest.mark.parametrize("name", ["wgan-gp", "r3gan"])
def test_channels_last_penalises_as_plain(name: str, start_run: StartRun) -> None:
    recipe = small(name, n_critic=2, report_every=1)
    runs = [
        start_run(recipe, Limit("steps", 4), speed.describe(), PIXELS, speed=speed) for speed in (CPU_SPEED, Speed())
    ]
    for training in runs:
        training.run()
    for a, b in zip(*(training.state.discriminator.parameters() for training in runs), strict=True):
        # Of a relativistic loss D's last bias has no gradient but rounding, which Adam makes steps of.
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 if a.numel() == 1 else 1e-5)
