"""Ctrl-C, SIGTERM, SIGHUP and kill -9: what they leave can always be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.test_gan_train_distributed import make_images
from gan_trainer.networks.generator import load_generator
from gan_trainer.state import read_last

pytestmark = pytest.mark.slow

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PICTURED = signal.SIGTERM
"""One of them draws losses.png and the others as well, which takes longer than the training."""
GAN_TRAIN = (sys.executable, "-c", "from gan_trainer.cli import main; main()")
OPTIONS = (
    "--width", "2", "--z-dim", "4", "--batch-size", "8", "--device", "cpu", "--steps", "100000",
    "--report-every", "1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "GANPORT_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stopped")


@pytest.fixture(scope="module")
def stopped(folder: Path, environment: dict[str, str]) -> dict[signal.Signals, tuple[int, str, str]]:
    """How gan-train ended by each signal: forks of a process that has imported what it needs (cli.ranks)."""
    make_images(folder / "images")
    jobs = []
    for number in SIGNALS:
        (folder / number.name).mkdir()
        sample = f"{number.name}/my run/samples/step-0000020.png"
        arguments = [*OPTIONS, "--data", "../images", "--size", "28", "--sample-every", "20", "--out", "my run"]
        job = {"args": arguments, "world": 0, "cwd": [number.name], "signal": [number, 0, sample]}
        jobs.append(job | ({"pictures": True} if number == PICTURED else {}))
    done = subprocess.run(
        (sys.executable, "-m", "cli.ranks"), input=json.dumps(jobs), cwd=folder, env=environment,
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return dict(zip(SIGNALS, (tuple(ended[0]) for ended in json.loads(done.stdout)), strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_save_and_exit_130(
    number: signal.Signals, stopped: dict[signal.Signals, tuple[int, str, str]], folder: Path
) -> None:
    code, out, err = stopped[number]
    assert (code, out) == (130, "")
    run = folder / number.name / "my run"
    config, content = read_last(run / "last.pt")
    step = content["step"]
    assert 20 <= step < 1000
    assert f"interrupted at step {step}, saved\n" in err
    assert err.splitlines()[-1] == "hint: go on with gan-train --resume --out 'my run'"
    assert "Traceback" not in err
    assert config.limit.amount == 100000
    assert load_generator(run / "g.pt").training["steps"] == step
    assert not (run / "log.jsonl").exists(), "no report was due"
    assert (run / "losses.png").exists() == (number == PICTURED)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_at_30_moments(tmp_path: Path, environment: dict[str, str]) -> None:
    """Other moments in every run of the test; a failure prints the seed that brings its own back."""
    seed = os.environ.get("KILL_SEED") or str(time.time_ns() % 10**6)
    done = subprocess.run(
        (sys.executable, "-m", "cli.kill_moments", "run", "30", seed),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"KILL_SEED={seed}\n{done.stderr}"
    steps = json.loads(done.stdout)["steps"]
    assert len(steps) == 31
    assert steps[-1] > 0, "the run got on, for all the kills"
    finished = subprocess.run(
        (*GAN_TRAIN, "--resume", "--out", "run", "--steps", str(steps[-1] + 4)),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (finished.returncode, finished.stdout) == (0, "run/g.pt\n"), finished.stderr
    assert not [file for file in (tmp_path / "run").rglob(".*") if file.name != ".lock"], "no leftovers"
