"""The sdist and the wheel that a release would have, built once, without the network."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import shared_by_workers

ROOT = Path(__file__).parents[2]

Build = Callable[..., None]


@pytest.fixture(scope="session")
def build() -> Build:
    """Called with a source, a folder and options: `python -m build`, with the build backend that is installed here."""
    for package in ("build", "hatchling"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}, which the extra dev brings")

    def built(source: Path, out: Path, *options: str) -> None:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return built


@pytest.fixture(scope="session")
def sdist(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the wheel that was built from it beside it; by one worker for all."""
    out = shared_by_workers(tmp_path_factory) / "dist"
    with Path(f"{out}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(out.glob("*.whl")):
            build(ROOT, out)
    (found,) = out.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def wheel(sdist: Path) -> Path:
    (found,) = sdist.parent.glob("*.whl")
    return found
