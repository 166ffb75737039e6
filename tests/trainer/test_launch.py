"""What torchrun says of a process, read from its environment."""

from __future__ import annotations

import pytest

from gan_core.errors import GanportError
from gan_trainer.distributed import Launch, read_launch
from gan_trainer.terminal import launched

ENVIRONMENT = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({name: None}, f"{name} is not set") for name in ENVIRONMENT if name not in ("RANK", "WORLD_SIZE")],
        ({"RANK": None}, "RANK is not set"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is not set"),
        ({"RANK": "two"}, "RANK must be a whole number from 0, got 'two'"),
        ({"RANK": "-1"}, "RANK must be a whole number from 0, got '-1'"),
        ({"RANK": "2"}, "RANK must lie below WORLD_SIZE, got 2 and 2"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK must lie below WORLD_SIZE, got 0 and 0"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK cannot exceed RANK, got 2 and 1"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT must be a port"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT must be a port"),
        ({"TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT must be a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_environment(changes: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRONMENT | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(GanportError, match=message) as caught:
        read_launch()
    assert "torchrun" in caught.value.hint


def test_a_right_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert not launched()
    for name, value in (ENVIRONMENT | {"TORCHELASTIC_RESTART_COUNT": "3"}).items():
        monkeypatch.setenv(name, value)
    assert launched()
    assert read_launch() == Launch(1, 2, 1, "host", 29500, 3, agent=False)
