"""Jobs under kill -9: the script that makes the record, with a few kills; what it detects; wrong input."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from bench.running import run, run_alone
from gan_core.errors import JobError
from lab.job_faults import KilledJob, app
from serve import onnx_files

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.save(tmp_path / "g.onnx", onnx_files.contract(image=(3, 32, 32)))


@pytest.mark.long
@pytest.mark.parametrize("way", ["local", "parts"])
def test_jobs_that_are_killed_end_with_the_same_bytes(model: Path, tmp_path: Path, way: str) -> None:
    row = KilledJob(way, model, tmp_path / "jobs", 3000, 100, random.Random(1)).run(5)
    assert row["kills"] == 5
    assert row["jobs"] >= 1


@pytest.mark.long
def test_ray_jobs_that_are_killed_end_with_the_same_bytes(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not in the dev extra")
    assert KilledJob("ray", model, tmp_path / "jobs", 3000, 100, random.Random(1)).run(2)["kills"] == 2


@pytest.mark.long
@pytest.mark.slow
def test_a_record(model: Path, tmp_path: Path) -> None:
    options = ("--kills", 1, "--engine", "local", "--model", model, "--n", 1000, "--shard-size", 100)
    assert "every job ended with the bytes" in run_alone("job_faults", *options, "--json", tmp_path / "faults.json")
    record = json.loads((tmp_path / "faults.json").read_text())
    assert [(row["way"], row["kills"]) for row in record["ways"]] == [("local", 1)]


def test_other_bytes_are_noticed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = KilledJob("local", model, tmp_path / "jobs", 20, 10, random.Random(1))

    def complete(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "shard-000000.tar").write_text(folder.name)

    monkeypatch.setattr(job, "_complete", complete)
    monkeypatch.setattr(job, "_killed", lambda _: False)
    with pytest.raises(JobError, match="differ from an undisturbed job's"):
        job.run(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "spark"], "--engine takes local, parts, ray, got spark"),
        (["--kills", "0"], "--kills takes 1 to 10000, got 0"),
        (["--n", "0"], "--n takes 1 to"),
        (["--n", "10", "--shard-size", "11"], "--shard-size takes 1 to 10, got 11"),
        (["--json", "."], ". is a folder, expected a file name"),
    ],
)
def test_wrong_input(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(app, *arguments) == 2
    assert message in capsys.readouterr().err
