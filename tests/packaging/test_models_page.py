"""docs/models.md, the record and the file in the package tell of the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gan_core.files.model_file import sha256_of
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from gan_trainer.evaluation import Evaluation
from lab.ship.command import card, held_card

ROOT = Path(__file__).parents[2]
RECORD = "benchmarks/results/default-model.json"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / RECORD).read_text("utf-8"))
    return found


def test_the_record_is_of_the_file_that_ships(record: dict[str, Any]) -> None:
    assert record["shipped"] == {
        "file": DEFAULT_MODEL.name,
        "sha256": sha256_of(DEFAULT_MODEL),
        "size_bytes": DEFAULT_MODEL.stat().st_size,
    }, "make default-model writes file, record and card together"


def test_the_page_says_what_the_record_says(record: dict[str, Any]) -> None:
    assert held_card(ROOT / "docs" / "models.md", DEFAULT_MODEL.stem) == card(record, RECORD)


def test_exports_are_as_good_as_the_checkpoint_and_damage_is_clearly_worse(record: dict[str, Any]) -> None:
    found = {row["variant"]: Evaluation.from_json(row["evaluation"]) for row in record["rows"]}
    assert len({(each.features.hash, each.n, each.n_real, each.seed) for each in found.values()}) == 1
    distances = {variant: each.metrics.distance for variant, each in found.items()}
    checkpoint, damaged = distances.pop("checkpoint"), distances.pop("damaged")
    assert sorted(distances) == ["fp16", "fp32", "int8", "store fp16"]
    assert damaged > 2 * max(checkpoint, *distances.values())
    for variant in ("fp32", "fp16", "store fp16"):
        assert distances[variant] == pytest.approx(checkpoint, rel=0.05)
    accuracy = found["store fp16"].metrics.label_accuracy
    assert accuracy is not None
    assert accuracy > 0.75
