"""What make installs where there is a GPU, where there is none, and where torch has no CPU build by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPU = "torch for the CPU, about 2 GB\n"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("system", "gpu", "pip_has", "uv_has", "said", "installs"),
    [
        ("Linux", True, True, True, "torch for CUDA, about 6 GB\n", ["pip dev"]),
        ("Linux", False, True, True, CPU, ["pip cpu", "pip dev"]),
        ("Linux", False, False, True, CPU, ["pip cpu", "uv cpu", "pip dev"]),
        ("Linux", False, False, False, "torch for CUDA, about 6 GB: pip finds", ["pip cpu", "uv cpu", "pip dev"]),
        ("Darwin", False, True, True, CPU, ["pip dev"]),
        ("MINGW64_NT-10.0", True, True, True, CPU, ["pip dev"]),
    ],
)
def test_which_torch(
    system: str, gpu: bool, pip_has: bool, uv_has: bool, said: str, installs: list[str], tmp_path: Path
) -> None:
    log, venv = tmp_path / "log", tmp_path / "venv"
    script(tmp_path / "bin" / "uname", f"echo {system}")
    script(tmp_path / "bin" / "nvidia-smi", f"exit {int(not gpu)}")
    script(tmp_path / "bin" / "uv", f'echo "uv $@" >> {log}; exit {int(not uv_has)}')
    script(
        venv / "bin" / "python",
        f'echo "$@" >> {log}; case "$*" in *+cpu*) exit {int(not pip_has)};; esac',
    )
    done = subprocess.run(
        ["make", f"VENV={venv}", "PIP_ARGS=--find-links wheels", f"{venv}/.ganport-installed"],
        cwd=ROOT, env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert f"installing ganport and its tools into {venv}, with {said}" in done.stdout
    pins = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line.startswith("torch")]
    assert len(pins) == 2
    usual = "-m pip install --quiet --disable-pip-version-check --find-links wheels -c constraints.txt"
    expected = {
        "pip dev": f"{usual} -e .[dev]",
        "pip cpu": f"{usual} {pins[0]}+cpu {pins[1]}+cpu",
        "uv cpu": f"uv pip install --quiet --python {venv}/bin/python --torch-backend cpu {' '.join(pins)}",
    }
    assert log.read_text().splitlines() == [expected[name] for name in installs]
    assert (venv / ".ganport-installed").exists()
