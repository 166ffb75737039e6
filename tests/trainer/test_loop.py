"""The loop's output: every file of a run, each readable; divergence; every preset trained for a few steps."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.errors import GanportError, JobError
from gan_core.grids import grid
from gan_core.images import to_pixels
from gan_core.latents import latents
from gan_trainer.config import Limit
from gan_trainer.discriminators import Discriminator
from gan_trainer.loop import Training
from gan_trainer.networks.generator import load_generator
from gan_trainer.presets import PRESETS, preset
from gan_trainer.rundir import RunDir
from gan_trainer.state import load_networks
from gan_trainer.steps import d_step
from trainer.conftest import TINY, StartRun, blobs, printed

pytestmark = pytest.mark.slow

TINY_PRESET = {"width": 2, "z_dim": 8, "batch_size": 6, "report_every": 2, "sample_every": 2}


@pytest.fixture(params=[name for name, (recipe, _) in PRESETS.items() if recipe.task == "generate"])
def trained_preset(request: pytest.FixtureRequest, start_run: StartRun) -> Training:
    """Every preset, narrow, after four steps on 13 images of its size: `.run_dir.generator` is what to export."""
    name = request.param
    recipe = preset(name)
    size, channels = recipe.size or 32, recipe.channels or 3
    training = start_run(
        recipe, Limit("steps", 4), name, blobs(13, size, channels), size=size, channels=channels, **TINY_PRESET
    )
    training.run()
    return training


def test_presets_train_save_and_load_back(trained_preset: Training) -> None:
    run, state = trained_preset.run_dir, trained_preset.state
    checkpoint = load_generator(run.generator)
    assert checkpoint.which == ("ema" if trained_preset.recipe.ema_beta else "raw")
    assert checkpoint.training["recipe"]["name"] == trained_preset.recipe.name
    z = torch.randn(5, 8)
    generator, discriminator = load_networks(run.last)
    with torch.no_grad():
        images_NCHW = checkpoint.module()(z)
        # Close, not equal: training lays tensors out channels-last, and some processors then sum in another order.
        torch.testing.assert_close(images_NCHW, state.exported.eval()(z))
        torch.testing.assert_close(generator(z), state.generator.eval()(z))
        torch.testing.assert_close(discriminator(images_NCHW), state.discriminator.eval()(images_NCHW))
    for loaded, kept in ((generator, state.generator), (discriminator, state.discriminator)):
        saved = kept.state_dict()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())
    assert images_NCHW.abs().max() <= 1
    assert [line["step"] for line in run.read_log()] == [2, 4]
    assert run.epoch_checkpoint(1).exists() == trained_preset.recipe.checkpoint_every_epoch


def test_every_file_of_a_run(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 12), checkpoint_every_epoch=True, pictures=True)
    outcome = training.run()
    run = training.run_dir
    files = {str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file()}
    assert files == {
        "g.pt", "last.pt", "config.json", "log.jsonl", "losses.png", "progress.webp", "real_vs_fake.png",
        "samples/step-0000000.png", "samples/step-0000010.png", "samples/step-0000012.png",
        "checkpoints/g-epoch-0001.pt", "checkpoints/g-epoch-0002.pt",
    }  # fmt: skip
    assert (outcome.step, outcome.images, outcome.interrupted) == (12, 84, False)  # 5 batches of 8 and one of 2, twice
    assert load_generator(run.epoch_checkpoint(1)).training["steps"] == 6
    log = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["step"] for line in log] == [5, 6, 10, 12]
    assert [line["images"] for line in log] == [40, 42, 74, 84]
    assert [line["epoch"] for line in log] == [0.8333, 1, 1.6667, 2]
    for line in log:
        told = {"diversity"} if line["step"] >= 10 else set()  # of the first sample that was trained
        assert set(line) == told | {
            "step", "epoch", "images", "loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2", "images_per_s", "minutes",
        }  # fmt: skip
        assert line["images_per_s"] > 0
        assert all(0 <= line[name] <= 1 for name in ("d_x", "d_g_z1", "d_g_z2"))
    assert {name: log[-1][name] for name in outcome.numbers} == outcome.numbers
    for picture in (run.losses, run.real_vs_fake, *run.sample_files()):
        with Image.open(picture) as image:
            image.load()
            assert min(image.size) > 20
    with Image.open(run.progress) as animation:
        assert animation.format == "WEBP"


def test_samples_are_what_the_export_draws_for_seeds_from_0(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 10), ema_beta=0.5)
    training.run()
    checkpoint = load_generator(training.run_dir.generator)
    with torch.no_grad():
        images_NCHW = checkpoint.module()(torch.from_numpy(latents(range(4), 6)))
    with Image.open(training.run_dir.sample(10)) as picture:
        assert np.array_equal(np.asarray(picture), grid(to_pixels(images_NCHW.numpy()), 2)[..., 0])


def test_the_average_is_exported_and_is_not_the_last_weights(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 10))
    training.run()
    raw, _ = load_networks(training.run_dir.last)
    average = load_generator(training.run_dir.generator)
    assert average.which == "ema"
    for name, tensor in raw.state_dict().items():
        assert name.endswith("num_batches_tracked") or not torch.equal(tensor, average.weights[name]), name


def test_provenance(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 4), seed=5)
    training.run()
    provenance = load_generator(training.run_dir.generator).training
    assert provenance["data"] == {"name": "blobs", "fingerprint": "f" * 64, "images": 42}
    assert (provenance["seed"], provenance["steps"], provenance["images"], provenance["device"]) == (5, 4, 32, "cpu")
    assert provenance["recipe"]["name"] == "tiny"
    assert set(provenance["versions"]) == {"ganport", "torch", "numpy", "python"}


def test_printed_losses(start_run: StartRun) -> None:
    training = start_run(limit=Limit("epochs", 2), print_every=1, report_every=5)
    training.run()
    lines = printed(training).splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("step 1  epoch 1/2  loss D ")
    assert lines[7].startswith("step 8  epoch 2/2  loss D ")
    timed = [bool(re.search(r" \d+ images/s  \d:\d\d left$", line)) for line in lines]
    assert timed == [step % 5 == 0 for step in range(1, 13)]


@pytest.mark.parametrize("print_every", [0, 1])
def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(print_every: int, start_run: StartRun) -> None:
    good = start_run(limit=Limit("steps", 5))
    good.run()
    before = {file: (good.run_dir.path / file).read_bytes() for file in ("g.pt", "last.pt", "log.jsonl")}
    bad = start_run(limit=Limit("steps", 15), print_every=print_every)
    for group in bad.state.optimizer_g.param_groups:
        group["lr"] = 1e30
    with pytest.raises(JobError, match=r"(?m)the training diverged: (loss_d|loss_g) is nan at step [78]$") as caught:
        bad.run()
    assert "lower `lr`" in caught.value.hint
    assert caught.value.hint.endswith("g.pt of step 5 is kept")
    assert caught.value.exit_code == 1
    assert {file: (bad.run_dir.path / file).read_bytes() for file in before} == before


def test_divergence_before_the_first_report(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 10), lr_g=1e30, lr_d=1e30)
    with pytest.raises(JobError, match="diverged") as caught:
        training.run()
    assert caught.value.hint.endswith("no checkpoint was written yet")
    assert not training.run_dir.generator.exists()


@pytest.mark.parametrize("network", ["generator", "discriminator", "average"])
def test_weights_that_are_not_finite_are_not_saved(network: str, start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 5))
    training.run()
    before = training.run_dir.last.read_bytes()
    again = start_run(limit=Limit("steps", 5))
    state = again.state
    assert state.ema is not None
    module = {"generator": state.generator, "discriminator": state.discriminator, "average": state.ema.module}[network]
    with torch.no_grad():
        weight = next(module.parameters())
        weight[(0,) * weight.dim()] = float("inf")
    with pytest.raises(JobError, match=f"{network} holds NaN or infinite weights at step 5"):
        again.run()
    assert again.run_dir.last.read_bytes() == before


def test_fewer_images_than_a_batch(start_run: StartRun) -> None:
    training = start_run(limit=Limit("epochs", 3), pixels_NHWC=blobs(5, 28, 1), batch_size=64)
    outcome = training.run()
    assert (outcome.step, outcome.images) == (3, 15)


def test_a_run_folder_is_started_once(start_run: StartRun, tmp_path: Path) -> None:
    start_run(limit=Limit("steps", 1)).run()
    with pytest.raises(GanportError, match="already holds a run"):
        RunDir(tmp_path / "run").start({})


def test_a_joined_batch_has_the_same_loss_and_gradients() -> None:
    """Without BatchNorm in D, one pass over reals and fakes together is the sum of two."""
    torch.manual_seed(0)
    first = Discriminator("mlp", (1, 28, 28), width=8)
    second = copy.deepcopy(first)
    real_NCHW, fake_NCHW = torch.randn(6, 1, 28, 28), torch.randn(6, 1, 28, 28)
    recipe = dataclasses.replace(TINY, loss="hinge", d_norm="none")
    apart = d_step(first, torch.optim.SGD(first.parameters(), 0.1), real_NCHW, fake_NCHW, recipe)
    recipe = dataclasses.replace(recipe, d_loss="joined")
    joined = d_step(second, torch.optim.SGD(second.parameters(), 0.1), real_NCHW, fake_NCHW, recipe)
    torch.testing.assert_close(apart, joined)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)
