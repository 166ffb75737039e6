"""Steps recorded as a CUDA graph are the same steps; without a GPU, by a stand-in for the graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan_trainer.config import Limit
from gan_trainer.loop import Training
from gan_trainer.speed import WARM_UP, CudaRecorder, GraphedStep
from trainer.conftest import StartRun


class Tape(CudaRecorder):
    """A stand-in for a CUDA graph: replaying runs what was recorded, recording alone runs nothing that counts."""

    def __init__(self, refuse: bool = False) -> None:
        self.refuse = refuse
        self.events: list[str] = []
        self.run: Callable[[], Tensor] | None = None
        self.result = torch.zeros(5)

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        self.events.append("warm up")
        return run()

    def record(self, run: Callable[[], Tensor]) -> Tensor:
        if self.refuse:
            raise RuntimeError("operation not permitted when stream is capturing\nlong story")
        self.events.append("record")
        self.run = run
        return self.result

    def replay(self) -> None:
        assert self.run is not None
        self.events.append("replay")
        self.result.copy_(self.run())


def trained(start_run: StartRun, name: str, tape: Tape | None) -> Training:
    training = start_run(name=name, limit=Limit("steps", 14))
    if tape is not None:
        training._steps[True, False] = GraphedStep(training.plain_step(True, False), tape)
    training.run()
    return training


def test_recorded_steps_are_the_same_steps(start_run: StartRun) -> None:
    """42 images in batches of 8: the last of an epoch holds 2, and is stepped beside the graph."""
    tape = Tape()
    plain, graphed = trained(start_run, "plain", None), trained(start_run, "graphed", tape)
    assert tape.events == ["warm up"] * WARM_UP + ["record"] + ["replay"] * (14 - 2 - WARM_UP)
    for ours, theirs in zip(
        graphed.state.generator.state_dict().values(), plain.state.generator.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert [line["loss_d"] for line in graphed.run_dir.read_log()] == [
        line["loss_d"] for line in plain.run_dir.read_log()
    ]
    ours, theirs = graphed.state.history.state_dict(), plain.state.history.state_dict()
    assert str(ours) == str(theirs), "a replay must not overwrite the numbers of the step before"


@pytest.mark.slow
def test_what_cannot_be_recorded_goes_on(start_run: StartRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tape = Tape(refuse=True)
    plain, graphed = trained(start_run, "plain", None), trained(start_run, "graphed", tape)
    assert tape.events == ["warm up"] * WARM_UP
    said = caplog.text
    assert said.count("no CUDA graph, going on without: operation not permitted when stream is capturing") == 1
    assert "long story" not in said
    for ours, theirs in zip(
        graphed.state.discriminator.parameters(), plain.state.discriminator.parameters(), strict=True
    ):
        assert ours.requires_grad
        assert torch.equal(ours, theirs)


def test_labels_go_into_the_graph() -> None:
    tape = Tape()
    step = GraphedStep(lambda real, z, label: torch.stack([real.sum(), z.sum(), label.sum()]).repeat(2)[:5], tape)  # type: ignore[union-attr]
    for n in range(6):
        real, z, label = torch.full((2, 1), float(n)), torch.full((2, 1), 2.0 * n), torch.full((2,), n)
        assert step(real, z, label).tolist()[:3] == [2 * n, 4 * n, 2 * n]
    assert tape.events[-1] == "replay"
