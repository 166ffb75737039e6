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

from gan_trainer.networks.checkpoint import load_generator
from gan_trainer.state import read_last

pytestmark = pytest.mark.slow

GAN_TRAIN = (sys.executable, "-c", "from gan_trainer.cli import main; main()")
OPTIONS = (
    "--width", "2", "--z-dim", "4", "--batch-size", "8", "--device", "cpu", "--steps", "100000",
    "--report-every", "1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "GANPORT_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_save_and_exit_130(number: signal.Signals, tmp_path: Path, environment: dict[str, str]) -> None:
    command = (*GAN_TRAIN, *OPTIONS, "--sample-every", "20", "--out", "my run")
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "my run/samples/step-0000020.png").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    config, content = read_last(tmp_path / "my run/last.pt")
    step = content["step"]
    assert 20 <= step < 1000
    assert f"interrupted at step {step}, saved\n" in err
    assert err.splitlines()[-1] == "hint: go on with gan-train --resume --out 'my run'"
    assert "Traceback" not in err
    assert config.limit.amount == 100000
    assert load_generator(tmp_path / "my run/g.pt").training["steps"] == step
    assert not (tmp_path / "my run/log.jsonl").exists(), "no report was due"
    assert (tmp_path / "my run/losses.png").exists()


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
