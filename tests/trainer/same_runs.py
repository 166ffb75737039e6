"""Whether two trainings left the same: to the bit, timings aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gan_trainer.config import Limit
from gan_trainer.loop import Training

TIMINGS = ("images_per_s", "minutes")


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every tensor, number and text of a nested structure under its path."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in leaves(item, f"{path}/{name}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for index, item in enumerate(value) for k, v in leaves(item, f"{path}/{index}").items()}
    return {path: value}


def assert_same_bits(first: Path, second: Path, file: str, ignore: tuple[str, ...] = ()) -> None:
    a, b = (leaves(torch.load(folder / file, weights_only=True)) for folder in (first, second))
    assert a.keys() == b.keys()
    for path, value in a.items():
        if path not in ignore:
            same = torch.equal(value, b[path]) if isinstance(value, torch.Tensor) else value == b[path]
            assert same, path


def log_without_timings(training: Training) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in training.run_dir.read_log()]


def whole_and_parts(start: Callable[[Limit, str], Training], *stops: int) -> tuple[Training, Training]:
    """Trains to the last of `stops` at once, and in parts that end at each: both leave the same weights and state.

    `start(limit, name)` starts, or resumes, the run of that name.
    """
    whole = start(Limit("steps", stops[-1]), "whole")
    whole.run()
    for stop in stops:
        parts = start(Limit("steps", stop), "parts")
        parts.run()
    assert parts.state.step == stops[-1]
    for file in ("last.pt", "g.pt"):
        assert_same_bits(whole.run_dir.path, parts.run_dir.path, file, ("/seconds", "/training", "/config"))
    return whole, parts
