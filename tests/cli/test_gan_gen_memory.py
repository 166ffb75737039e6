"""Memory does not grow with --n, whatever is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve import onnx_files

# VmHWM, not getrusage's ru_maxrss, which remembers what the tests' own process held before exec.
PEAK = """
import os, sys
def leave(code, really=os._exit):
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM:")), file=sys.stderr, flush=True)
    really(code)
os._exit = leave
from gan_serve.gen.cli import main; main()
"""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("memory") / "g.onnx", onnx_files.contract(image=(3, 64, 64)))


def peak_kib(folder: Path, *arguments: object) -> int:
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("out", "n"),
    [
        ("many/ --overwrite", 200),
        ("o.npy", 200),
        ("o.npz", 200),
        ("s/ --overwrite --format tar", 200),
        ("s/ --overwrite --format parquet --shard-size 200", 800),
    ],
)
def test_memory_is_flat_in_n(model: Path, tmp_path: Path, out: str, n: int) -> None:
    few, many = (peak_kib(tmp_path, "--model", model, "--n", count, "--out", *out.split()) for count in (n, n + 1800))
    # 1800 more images are 22 MB: a fifth of what the process takes.
    assert few > 30_000
    assert many < 1.1 * few


def test_memory_of_a_film_is_flat_in_its_frames(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    few, many = (  # 200 more frames of 256x256 are 39 MB
        peak_kib(tmp_path, "--model", model, "--walk", 2, "--frames", n, "--out", "w.mp4") for n in (50, 250)
    )
    assert many < 1.1 * few
