"""A discriminator that is too strong and images that become alike are noticed, once, with a hint, and logged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_serve.terminal import console
from gan_trainer import watch as watching
from gan_trainer.config import Limit
from gan_trainer.presets import preset
from gan_trainer.watch import COLLAPSED, HINTS, MEMORY, PATIENCE, STRONG_STEPS, Watch, diversity
from trainer.conftest import TINY, StartRun, printed
from trainer.same_runs import log_without_timings

pytestmark = pytest.mark.slow

BCE = preset("dcgan64")


def stats(loss_d: float, n: int) -> Tensor:
    return torch.tensor([[loss_d, 1.0, 0.5, 0.5, 0.5]]).repeat(n, 1)


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    images = torch.tensor([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    assert diversity(images) == pytest.approx((2 + 2**0.5 + 2**0.5) / 3)
    assert diversity(images, torch.tensor([0, 0, 1])) == pytest.approx(2.0)
    assert diversity(images, torch.tensor([0, 1, 2])) is None
    assert diversity(images[:1]) is None
    assert diversity(torch.ones(5, 3, 8, 8)) == 0.0


def test_a_strong_discriminator_is_noticed_after_long() -> None:
    watch = Watch()
    watch.steps(stats(1.2, 1000), BCE)
    watch.steps(stats(0.01, STRONG_STEPS // 2), BCE)
    assert not watch.noticed
    watch.steps(stats(0.01, STRONG_STEPS + MEMORY), BCE)
    assert watch.noticed == ["d_too_strong"]
    assert len(watch.news()) == 2
    assert watch.news() == [], "said once"
    watch.steps(stats(1.2, 100), BCE)
    assert not watch.noticed


def test_an_ordinary_discriminator_is_not() -> None:
    watch = Watch()
    watch.steps(torch.cat([stats(0.3, 2000), stats(0.05, 20), stats(0.3, 2000)]), BCE)
    assert not watch.noticed


@pytest.mark.parametrize(("loss_d", "noticed"), [(0.04, False), (0.03, True)])
def test_the_mean_of_two_losses_has_half_the_scale(loss_d: float, noticed: bool) -> None:
    watch = Watch()
    watch.steps(stats(loss_d, 2000), preset("gan-basic"))
    assert bool(watch.noticed) is noticed


def test_the_wasserstein_loss_has_no_scale() -> None:
    watch = Watch()
    watch.steps(stats(-50.0, 5000), preset("wgan-gp"))
    assert not watch.noticed


def test_how_the_steps_are_read_does_not_matter() -> None:
    numbers = torch.rand(3000, 5, generator=torch.Generator().manual_seed(0)) * 0.1
    one, many = Watch(), Watch()
    one.steps(numbers, BCE)
    for part in numbers.split(7):
        many.steps(part, BCE)
    assert one.state_dict() == many.state_dict()
    assert one.noticed == ["d_too_strong"]


@pytest.mark.parametrize(
    ("samples", "noticed"),
    [
        ([0.05, 0.1, 0.2], False),  # the first pictures of a training
        ([0.1, 0.9, 0.95, 0.2], False),  # one bad sample
        ([0.1, 0.9, 0.95, 0.2, 0.1], True),
        ([0.1, 0.9, 0.2, 0.9, 0.2], False),
        ([0.9, 0.4, 0.4], False),
    ],
)
def test_collapse(samples: list[float], noticed: bool) -> None:
    watch = Watch()
    for index, value in enumerate(samples):
        watch.sample(100 * index, value * 3, 3.0)
    assert watch.noticed == (["collapse"] if noticed else [])
    assert watch.log_fields()["diversity"] == pytest.approx(samples[-1])


def test_a_training_that_never_gets_anywhere_is_noticed_late() -> None:
    watch = Watch()
    for step in range(0, PATIENCE, 250):
        watch.sample(step, COLLAPSED / 2, 1.0)
        assert not watch.noticed
    watch.sample(PATIENCE, COLLAPSED / 2, 1.0)
    assert watch.noticed == ["collapse"]


@pytest.mark.parametrize(("images", "data"), [(None, 1.0), (0.5, None), (0.5, 0.0)])
def test_nothing_to_compare(images: float | None, data: float | None) -> None:
    watch = Watch()
    watch.sample(100, images, data)
    assert watch.log_fields() == {}


def collapse_after(training: Any, step: int) -> None:
    """Its samples are all alike from `step` on."""
    draw = training.gallery._draw

    def same() -> tuple[Path, Tensor]:
        target, images = draw()
        return target, images if training.state.step < step else images[:1].expand_as(images)

    training.gallery._draw = same


def test_a_run_says_it_once_and_logs_it(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "COLLAPSED", 1e-9)
    recipe = dataclasses.replace(TINY, sample_every=2, report_every=2)
    training = start_run(recipe, Limit("steps", 12))
    collapse_after(training, 6)
    training.run()
    log = training.run_dir.read_log()
    assert [line["step"] for line in log if "noticed" in line] == [8, 10, 12]
    assert log[-1]["noticed"] == ["collapse"]
    assert log[0]["diversity"] > 0 == log[-1]["diversity"]
    said = printed(training)
    assert said.count(f"warning: {HINTS['collapse'][0]}\nhint: {console.with_options(HINTS['collapse'][1])}\n") == 1


def test_a_resumed_run_does_not_say_it_again(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "COLLAPSED", 1e-9)
    recipe = dataclasses.replace(TINY, sample_every=2, report_every=2)
    said = []
    for last in (12, 14):
        training = start_run(recipe, Limit("steps", last))
        collapse_after(training, 6)
        training.run()
        said.append(printed(training).count("warning: "))
    assert training.run_dir.read_log()[-1]["noticed"] == ["collapse"]
    assert said == [1, 0]


def test_a_resumed_run_notices_the_same(start_run: StartRun) -> None:
    recipe = dataclasses.replace(TINY, sample_every=4, report_every=3)
    whole = start_run(recipe, Limit("steps", 12), "whole")
    whole.run()
    for last in (5, 8, 12):
        parts = start_run(recipe, Limit("steps", last), "parts")
        parts.run()
    assert parts.state.watch.state_dict() == whole.state.watch.state_dict()
    kept = [line for line in log_without_timings(parts) if line["step"] % 3 == 0]
    assert kept == log_without_timings(whole)
    assert all(("diversity" in line) == (line["step"] > 4) for line in kept), (
        "none before the first sample that is trained"
    )


def test_a_state_from_before_still_resumes(start_run: StartRun) -> None:
    start_run(limit=Limit("steps", 5)).run()
    folder = start_run(limit=Limit("steps", 5)).run_dir
    content = torch.load(folder.last, weights_only=True)
    del content["watch"]
    torch.save(content, folder.last)
    again = start_run(limit=Limit("steps", 10))
    assert again.state.watch.state_dict() == Watch().state_dict()
    again.run()
