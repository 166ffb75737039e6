"""The record of a training run says what the run's own files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gan_core.errors import GanportError
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator
from lab import training


@pytest.fixture
def run(tmp_path: Path) -> Path:
    spec = network_spec("mlp", 28, 1, width=4, z_dim=3)
    said = {"data": {"name": "dots"}, "steps": 30, "images": 960, "minutes": 0.5}
    save_generator(GeneratorCheckpoint(spec, build(spec).state_dict(), "ema", said), tmp_path / "g.pt")
    lines = [{"step": 10 * i, "images_per_s": speed} for i, speed in ((1, 90.0), (2, 110.0), (3, 100.0))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_record(run: Path) -> None:
    made = training.record(run, "gan-train --data dots")
    assert made["environment"]["command"] == "gan-train --data dots"
    assert made["training"]["steps"] == 30
    assert made["images_per_s"] == {"median": 100.0, "lowest": 90.0, "highest": 110.0}
    assert made["last_report"]["step"] == 30
    assert made["generator"]["image"] == [1, 28, 28]
    assert "30 steps, 960 images in 0.5 minutes, 100 images/s (90 to 110)" in training.summary(made)


def test_folders_that_hold_no_run(run: Path) -> None:
    (run / "log.jsonl").write_text("")
    with pytest.raises(GanportError, match="made no report yet"):
        training.record(run, "")
    (run / "log.jsonl").unlink()
    with pytest.raises(GanportError, match=r"holds no log\.jsonl"):
        training.record(run, "")
