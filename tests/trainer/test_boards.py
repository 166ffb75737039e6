"""--log, with stand-ins for what the boards' packages do: none need be installed."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import Any, ClassVar

import numpy as np
import pytest

from gan_core.errors import GanportError, MissingPackageError
from gan_core.installation import install
from gan_trainer.boards import Boards, parse_boards
from gan_trainer.config import Limit, TrainRequest
from gan_trainer.session import train
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
    training.boards = Boards(("tensorboard",), training.run_dir.path, training.state.step, {})
    training.run()
    assert CALLS[0] == ("open", ["run", "tensorboard"], None)
    assert [call[4] for call in CALLS if call[0] == "image"] == [0, 10]
    losses = [call[2:] for call in CALLS if call[:2] == ("scalar", "loss/loss_d")]
    assert losses == [(line["loss_d"], line["step"]) for line in training.run_dir.read_log()]
    assert {call[1].split("/")[0] for call in CALLS if call[0] == "scalar"} == {"loss", "discriminator", "run"}
    assert CALLS[-1] == ("close",)
    CALLS.clear()
    resumed = start_run(limit=Limit("steps", 15))
    resumed.boards = Boards(("tensorboard",), resumed.run_dir.path, resumed.state.step, {})
    resumed.run()
    assert CALLS[0][2] == 11, "what was written after step 10 is hidden"
    assert {call[3] for call in CALLS if call[0] == "scalar"} == {15}


@pytest.mark.usefixtures("tensorboard")
def test_events_are_closed_when_the_training_fails(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start_run()
    training.boards = Boards(("tensorboard",), training.run_dir.path, 0, {})
    monkeypatch.setattr(training, "_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.run()
    assert CALLS[-1] == ("close",)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.boards.find_spec", lambda _: None)
    for name, hint in (("tensorboard", install("tensorboard")), ("wandb", "pip install wandb")):
        with pytest.raises(
            MissingPackageError, match=f'`log="{name}"` needs {name}, which is not installed'
        ) as refused:
            parse_boards(name)
        assert refused.value.hint == hint
        with pytest.raises(MissingPackageError):
            train(TrainRequest(log=name))
    with pytest.raises(GanportError, match="`log` takes tensorboard, wandb, mlflow, got 'comet'"):
        parse_boards("comet")


class Service:
    """wandb and mlflow at once: notes what they are asked for."""

    id = run_id = "abc123"
    calls: ClassVar[list[tuple[Any, ...]]] = []
    broken = False

    def __init__(self, name: str) -> None:
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.info = self

    def init(self, **settings: Any) -> Service:
        if self.broken:
            raise RuntimeError("no API key\nconfigured")
        self.calls.append(("init", settings["project"], settings["name"], settings["id"], settings["resume"]))
        return self

    def log(self, numbers: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("the network is down")
        self.calls.append(("log", step, sorted(numbers)))

    def Image(self, path: str) -> str:  # noqa: N802
        return path

    def finish(self) -> None:
        self.calls.append(("end",))

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def start_run(self, run_id: str | None, run_name: str) -> Service:
        self.calls.append(("init", run_name, run_id))
        return self

    def log_params(self, config: dict[str, Any]) -> None:
        self.calls.append(("params", config))

    def log_metrics(self, numbers: dict[str, float], step: int) -> None:
        self.log(numbers, step)

    def log_artifact(self, path: str, place: str) -> None:
        self.calls.append(("artifact", path.rsplit("/", 1)[-1], place))

    def end_run(self) -> None:
        self.finish()


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service(request.param)
    made.calls.clear()
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


NUMBERS = ["discriminator/d_g_z1", "discriminator/d_g_z2", "discriminator/d_x", "loss/loss_d", "loss/loss_g"]


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
def test_wandb(service: Service, start_run: StartRun, caplog: pytest.LogCaptureFixture) -> None:
    training = start_run()
    training.boards = Boards(parse_boards("wandb"), training.run_dir.path, 0, {"width": 2})
    training.run()
    assert service.calls[0] == ("init", "ganport", "run", None, None)
    assert [call[1] for call in service.calls if call[:1] == ("log",) and call[2] == ["samples"]] == [0, 10]
    reports = [call for call in service.calls if call[:1] == ("log",) and call[2] != ["samples"]]
    assert [call[1] for call in reports] == [line["step"] for line in training.run_dir.read_log()]
    assert set(NUMBERS) < set(reports[0][2])
    assert service.calls[-1] == ("end",)
    service.calls.clear()
    resumed = start_run(limit=Limit("steps", 15))
    resumed.boards = Boards(("wandb",), resumed.run_dir.path, resumed.state.step, {})
    service.broken = True
    resumed.run()
    assert service.calls == [("init", "ganport", "run", "abc123", "allow")]
    assert [each.message for each in caplog.records] == ["wandb gets nothing more: the network is down"]
    with pytest.raises(GanportError, match="wandb does not start: no API key configured"):
        Boards(("wandb",), resumed.run_dir.path, 0, {})


@pytest.mark.parametrize("service", ["mlflow"], indirect=True)
def test_mlflow(service: Service, start_run: StartRun) -> None:
    training = start_run()
    training.boards = Boards(parse_boards("mlflow"), training.run_dir.path, 0, {"width": 2})
    training.run()
    assert service.calls[:3] == [("experiment", "ganport"), ("init", "run", None), ("params", {"width": 2})]
    assert ("artifact", "step-0000010.png", "samples") in service.calls
    assert any(call[0] == "log" and set(NUMBERS) < set(call[2]) for call in service.calls)
    service.calls.clear()
    resumed = start_run(limit=Limit("steps", 15))
    resumed.boards = Boards(("mlflow",), resumed.run_dir.path, resumed.state.step, {})
    resumed.run()
    assert service.calls[:2] == [("experiment", "ganport"), ("init", "run", "abc123")]
    assert not [call for call in service.calls if call[0] == "params"]
