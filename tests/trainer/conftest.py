"""Small trainings, shared by the tests of the trainer."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.arrays import I64, U8
from gan_trainer.config import Limit, RunConfig
from gan_trainer.data import builtin
from gan_trainer.loop import Training
from gan_trainer.recipes import Recipe
from gan_trainer.rundir import RunDir
from gan_trainer.speed import Speed, choose
from gan_trainer.state import TrainState, read_last
from gan_trainer.terminal import Bar
from trainer.data_files import Opened

CPU = torch.device("cpu")
CPU_SPEED = choose(CPU, exact=True)


def blobs(n: int, size: int, channels: int, seed: int = 0) -> U8:
    """`n` images of one bright disc each, somewhere, in some colour, on black: uint8 (n, size, size, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(0.3, 0.7, (2, n, 1, 1)) * size
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (size / 5) ** 2
    colours = rng.integers(100, 256, (n, 1, 1, channels))
    pixels_NHWC: U8 = np.where(disc[..., None], colours, 0).astype(np.uint8)
    pixels_NHWC.flags.writeable = False  # as the memory-mapped cache is
    return pixels_NHWC


TINY = Recipe(
    name="tiny", size=28, channels=1, width=2, z_dim=6, batch_size=8, steps=20, ema_beta=0.99, report_every=5,
    sample_every=10, n_fixed=4, cols=2,
)  # fmt: skip

StartRun = Callable[..., Training]


@pytest.fixture
def start_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartRun:
    """start_run(recipe, limit, name, pixels, **changes of the recipe) → a `Training` in tmp_path/name, ready to run.

    Resumes when the folder holds a run. losses.png, progress.webp and real_vs_fake.png, which take longer than these
    trainings, are drawn with pictures=True only. Progress goes to a buffer: `printed`.
    """

    def start(
        recipe: Recipe = TINY,
        limit: Limit | None = None,
        name: str = "run",
        pixels_NHWC: U8 | None = None,
        seed: int = 0,
        pictures: bool = False,
        speed: Speed = CPU_SPEED,
        labels: I64 | None = None,
        class_names: tuple[str, ...] = (),
        **changes: Any,
    ) -> Training:
        recipe = dataclasses.replace(recipe, **changes)
        assert recipe.size is not None
        assert recipe.channels is not None
        pixels = blobs(42, recipe.size, recipe.channels) if pixels_NHWC is None else pixels_NHWC
        limit = limit or Limit("steps", 10)
        run = RunDir(tmp_path / name)
        config = RunConfig("blobs", "blobs", "f" * 64, len(pixels), recipe, seed, limit, class_names)
        if run.last.exists():
            _, content = read_last(run.last)
            state = TrainState.fresh(config, CPU)
            state.restore(content, "last.pt")
            run.rewind(state.step)
        else:
            run.start(config.to_json())
            state = TrainState.fresh(config, CPU)
        training = Training(state, pixels, run, CPU, labels=labels, speed=speed, progress=Bar(io.StringIO()))
        if not pictures:
            monkeypatch.setattr(training.gallery, "redraw", lambda: None)
        return training

    return start


def printed(training: Training) -> str:
    """What the training has shown."""
    progress = training.reporter.progress
    assert isinstance(progress, Bar)
    assert isinstance(progress.stream, io.StringIO)
    return progress.stream.getvalue()


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens data sets, with a cache of its own."""
    return Opened(tmp_path / "cache")


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data set lies here."""
    monkeypatch.delenv("GANPORT_DATA", raising=False)
    monkeypatch.setattr(builtin, "DEBIAN", tmp_path / "debian")


def fake_cuda(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As on a machine with `count` GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
