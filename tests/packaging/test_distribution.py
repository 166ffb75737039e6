"""What an installation brings: the wheel's top-level names, its commands, and what each command imports."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_wheel_claims_only_our_names(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gan_trainer",
        "gan_export",
        "gan_serve",
        "gan_bench",
    }


def test_wheel_carries_no_data_it_should_not(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "docs/")) or name.endswith((".pt", ".npy"))]
    for package in ("gan_trainer", "gan_export", "gan_serve", "gan_bench"):
        assert f"{package}/py.typed" in names


def test_wheel_metadata_names_the_extras(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(metadata).decode()
    for extra in ("cpu", "cuda", "train", "export", "video", "plot", "dev"):
        assert f"Provides-Extra: {extra}" in text
    base = [line for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert {line.split()[1].split(">")[0] for line in base} == {"numpy", "pillow", "typer"}
