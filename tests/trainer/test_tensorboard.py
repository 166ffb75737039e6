"""--tensorboard, with a stand-in for torch's SummaryWriter: the package need not be installed."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import Any

import numpy as np
import pytest

from gan_core.errors import MissingPackageError
from gan_core.installation import install
from gan_trainer.config import Limit, TrainRequest
from gan_trainer.session import train
from gan_trainer.tensorboard import Board, check_tensorboard
from trainer.conftest import StartRun

CALLS: list[tuple[Any, ...]] = []


class Writer:
    """Notes what SummaryWriter is asked for."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        CALLS.append(("open", folder.rsplit("/", 2)[-2:], purge_step))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        CALLS.append(("scalar", name, value, step))

    def add_image(self, name: str, pixels: np.ndarray, step: int, dataformats: str) -> None:
        assert pixels.dtype == np.uint8
        CALLS.append(("image", name, pixels.shape[2], dataformats, step))

    def flush(self) -> None: ...

    def close(self) -> None:
        CALLS.append(("close",))


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    package = types.ModuleType("tensorboard")
    package.__spec__ = importlib.machinery.ModuleSpec("tensorboard", None)
    writer = types.ModuleType("torch.utils.tensorboard")
    writer.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", package)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)


@pytest.mark.usefixtures("tensorboard")
def test_reports_and_samples_become_events_and_a_resumed_run_goes_on(start_run: StartRun) -> None:
    training = start_run()
    training.board = Board(training.run_dir.path, training.state.step)
    training.run()
    assert CALLS[0] == ("open", ["run", "tensorboard"], None)
    assert [call[4] for call in CALLS if call[0] == "image"] == [0, 10]
    losses = [call[2:] for call in CALLS if call[:2] == ("scalar", "loss/loss_d")]
    assert losses == [(line["loss_d"], line["step"]) for line in training.run_dir.read_log()]
    assert {call[1].split("/")[0] for call in CALLS if call[0] == "scalar"} == {"loss", "discriminator", "run"}
    assert CALLS[-1] == ("close",)
    CALLS.clear()
    resumed = start_run(limit=Limit("steps", 15))
    resumed.board = Board(resumed.run_dir.path, resumed.state.step)
    resumed.run()
    assert CALLS[0][2] == 11, "what was written after step 10 is hidden"
    assert {call[3] for call in CALLS if call[0] == "scalar"} == {15}


@pytest.mark.usefixtures("tensorboard")
def test_events_are_closed_when_the_training_fails(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start_run()
    training.board = Board(training.run_dir.path)
    monkeypatch.setattr(training, "_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.run()
    assert CALLS[-1] == ("close",)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.tensorboard.find_spec", lambda _: None)
    with pytest.raises(
        MissingPackageError, match="`tensorboard=True` needs tensorboard, which is not installed"
    ) as refused:
        check_tensorboard()
    assert refused.value.hint == install("tensorboard")
    with pytest.raises(MissingPackageError):
        train(TrainRequest(tensorboard=True))
