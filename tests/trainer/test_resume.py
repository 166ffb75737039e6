"""--resume continues exactly: on the CPU, 20 steps are 10 + 10, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from gan_trainer.config import Limit
from gan_trainer.loop import StopRequest
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe
from trainer.conftest import TINY, StartRun
from trainer.same_runs import assert_same_bits, log_without_timings, whole_and_parts

pytestmark = pytest.mark.slow

RECIPES = {
    "default": TINY,
    "g_first": dataclasses.replace(TINY, arch="mlp", order="g_first", d_loss="mean", ema_beta=None),
    "every epoch": dataclasses.replace(TINY, checkpoint_every_epoch=True),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_parts_equal_the_whole(recipe: Recipe, start_run: StartRun) -> None:
    """Cut at a report, between two, and at a report that is a sample too."""
    whole, parts = whole_and_parts(functools.partial(start_run, recipe), 5, 7, 10, 20)
    reports = [line for line in log_without_timings(parts) if line["step"] != 7]
    assert reports == log_without_timings(whole)
    for sample in whole.run_dir.sample_files():
        assert sample.read_bytes() == (parts.run_dir.path / "samples" / sample.name).read_bytes()


def test_a_hundred_steps_are_fifty_and_fifty(start_run: StartRun) -> None:
    recipe = dataclasses.replace(preset("mlp-mnist"), width=2, batch_size=8, report_every=25, sample_every=50)
    whole, parts = whole_and_parts(functools.partial(start_run, recipe), 50, 100)
    assert log_without_timings(parts) == log_without_timings(whole)


def test_an_interruption_leaves_no_trace(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between two reports: the log and the samples of the resumed run are those of an unbroken one."""
    whole = start_run(limit=Limit("steps", 20), name="whole")
    whole.run()
    stopped = start_run(limit=Limit("steps", 20), name="parts")
    with monkeypatch.context() as patched:
        stop_at_7 = property(lambda _: stopped.state.step >= 7, lambda *_: None)
        patched.setattr(StopRequest, "requested", stop_at_7, raising=False)
        outcome = stopped.run()
    assert (outcome.interrupted, outcome.step) == (True, 7)
    assert [line["step"] for line in stopped.run_dir.read_log()] == [5]
    assert [file.stem for file in stopped.run_dir.sample_files()] == ["step-0000000"]
    resumed = start_run(limit=Limit("steps", 20), name="parts")
    assert resumed.state.step == 7
    resumed.run()
    assert log_without_timings(resumed) == log_without_timings(whole)
    assert_same_bits(whole.run_dir.path, resumed.run_dir.path, "last.pt", ("/seconds", "/config"))
    names = [[file.name for file in run.run_dir.sample_files()] for run in (whole, resumed)]
    assert names[0] == names[1]


def test_pictures_and_reports_change_no_weight(start_run: StartRun) -> None:
    often = start_run(limit=Limit("steps", 12), name="often", report_every=1, sample_every=1, print_every=1)
    often.run()
    seldom = start_run(limit=Limit("steps", 12), name="seldom", report_every=100, sample_every=100)
    seldom.run()
    seen = tuple(f"/watch/{name}" for name in often.state.watch.state_dict())  # more samples, more to watch
    assert_same_bits(often.run_dir.path, seldom.run_dir.path, "last.pt", ("/seconds", "/config", *seen))


def test_saved_between_reports_when_they_are_long_apart(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr("gan_trainer.loop.SAVE_EVERY_S", 0.0)
    training = start_run(limit=Limit("steps", 4), report_every=100)
    save = training.reporter.save_generator

    def note(target: Path) -> None:
        saved.append(training.state.step)
        save(target)

    monkeypatch.setattr(training.reporter, "save_generator", note)
    training.run()
    assert saved == [1, 2, 3, 4, 4]
    assert [line["step"] for line in training.run_dir.read_log()] == [4]


def test_seeds_differ_and_repeat(start_run: StartRun) -> None:
    def weights(name: str, seed: int) -> torch.Tensor:
        training = start_run(limit=Limit("steps", 2), name=name, seed=seed)
        training.run()
        return torch.cat([tensor.flatten().float() for tensor in training.state.exported.state_dict().values()])

    first = weights("a", 1)
    assert torch.equal(first, weights("b", 1))
    assert not torch.equal(first, weights("c", 2))


def test_finished_minutes_stay_finished(start_run: StartRun) -> None:
    training = start_run(limit=Limit("minutes", 0.002))
    steps = training.run().step
    assert steps >= 1
    assert training.state.seconds >= 0.12
    again = start_run(limit=Limit("minutes", 0.002))
    assert again.reached
    assert again.run().step == steps
