"""lab.jobs: a small record, shards that differ, wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.running import run, run_alone
from gan_core.errors import GanportError, JobError
from lab.jobs import app, best_row, check_same, evaluated
from serve import onnx_files


@pytest.mark.long
@pytest.mark.slow
def test_a_record(tmp_path: Path) -> None:
    model = onnx_files.save(tmp_path / "g.onnx")
    target = tmp_path / "jobs.json"
    table = run_alone("jobs", "--model", model, "--n", "20,60", "--runs", 1, "--json", target)
    assert "4 parts in turn" in table
    record = json.loads(target.read_text())
    assert [row["images"] for row in record["rows"]] == [20, 60, 60]
    assert record["rows"][1]["sha256"] == record["rows"][2]["sha256"]


@pytest.mark.long
def test_rows_of_an_evaluation(tmp_path: Path) -> None:
    model = onnx_files.save(tmp_path / "g.onnx", onnx_files.contract(image=(1, 28, 28)))
    (row,) = evaluated(model, [40], "digits", tmp_path, 1, ("swd",))
    assert (row["name"], row["images"], row["features"], len(row["wall_s_runs"])) == ("40 by swd", 40, "swd", 1)


def test_other_shards_are_noticed() -> None:
    rows = [{"name": "60", "sha256": ["a"]}, {"name": "Ray's own writer, 2 actors", "sha256": ["c"]}]
    check_same(rows)
    with pytest.raises(JobError, match="4 parts in turn: other shards"):
        check_same([*rows, {"name": "4 parts in turn", "sha256": ["b"]}])


def test_the_best_row(tmp_path: Path) -> None:
    rows = [("ganport", "fp32", 5.0), ("ganport", "fp32", 7.0), ("ganport", "int8", 9.0), ("eager", "fp32", 8.0)]
    record = {
        "models": [{"sha256": "a"}],
        "rows": [dict(zip(("runtime", "precision", "images_per_s"), row, strict=True)) for row in rows],
    }
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert best_row(tmp_path / "b.json", "a") == 7
    with pytest.raises(GanportError, match="of another model"):
        best_row(tmp_path / "b.json", "b")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(GanportError, match="no record of gan-bench"):
        best_row(tmp_path / "b.json", "a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "x"], "--n"),
        (["--n", "0"], "--n"),
        (["--runs", "0"], "--runs takes 1 to 1000, got 0"),
        (["--eval", "digits", "--bench", "x.json"], "--eval measures gan-train eval alone"),
        (["--ray", "-1"], "--ray takes 0 to 1000, got -1"),
        (["--model", "absent.onnx"], "no model at absent.onnx"),
        (["--bench", "absent.json"], "absent.json is no record of gan-bench"),
        (["--json", "."], ". is a folder"),
    ],
)
def test_wrong_input(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(app, *arguments) == 2
    assert message in capsys.readouterr().err
