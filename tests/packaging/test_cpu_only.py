"""The wheel, built from the sdist and installed as `ganport[cpu]` with what it requires: no torch, no onnx.

The environment is real (its own interpreter and site-packages) but made offline: the closure of the requirements is
read from the metadata of what is installed here, and exactly those distributions are linked into it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

COMMANDS = ("gan-gen", "gan-bench", "gan-train", "gan-export")


def closure(name: str, extras: set[str]) -> dict[str, importlib.metadata.Distribution]:
    """Every distribution that `name[extras]` requires, itself excluded, by lower-case name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    pending = [(name, frozenset(extras))]
    while pending:
        current, wanted = pending.pop()
        distribution = importlib.metadata.distribution(current)
        for text in distribution.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                continue
            key = requirement.name.lower()
            if key not in found:
                found[key] = importlib.metadata.distribution(key)
                pending.append((key, frozenset(requirement.extras)))
    return found


@pytest.fixture(scope="module")
def cpu_only(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's bin folder."""
    root = tmp_path_factory.mktemp("cpu-only") / "env"
    venv.create(root, with_pip=False, symlinks=True)
    (site,) = root.glob("lib/python*/site-packages")
    for distribution in closure("ganport", {"cpu"}).values():
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        root / "bin" / "python",
        "install",
        "--no-index",
        "--no-deps",
    ]
    installed = run([*pip, wheel])
    assert installed.returncode == 0, installed.stderr
    return root / "bin"


def run(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small proved generator, exported by the full environment."""
    from gan_export.exporting import export_onnx
    from gan_export.source import from_spec
    from gan_trainer.networks.architectures import network_spec
    from gan_trainer.networks.generator import build

    path = tmp_path_factory.mktemp("model") / "g.onnx"
    spec = network_spec("dcgan", 28, 1, width=4, z_dim=8)
    export_onnx(from_spec(spec, build(spec)), path)
    return path


@pytest.mark.parametrize("package", ["torch", "onnx", "torchvision", "matplotlib", "sklearn", "scipy"])
def test_the_environment_lacks(cpu_only: Path, package: str) -> None:
    assert run([cpu_only / "python", "-c", f"import {package}"]).returncode == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help(cpu_only: Path, command: str) -> None:
    shown = run([cpu_only / command, "--help"])
    assert shown.returncode == 0, shown.stderr
    assert "Usage:" in shown.stdout


def test_generate_and_selftest(cpu_only: Path, model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "grid.png"
    drawn = run([cpu_only / "gan-gen", "--model", model, "--n", "25", "--out", picture])
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.strip() == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    proved = run([cpu_only / "gan-gen", "--model", model, "--selftest"])
    assert proved.returncode == 0, proved.stderr


def test_the_default_model_draws(cpu_only: Path, tmp_path: Path) -> None:
    drawn = run([cpu_only / "gan-gen", "--class", "sneaker", "--n", "4"], cwd=tmp_path)
    assert (drawn.returncode, drawn.stdout) == (0, "fashion-mnist.png\n"), drawn.stderr
    assert (tmp_path / "fashion-mnist.png").is_file()


QUICK = ("--quick", "--seconds", "0.01", "--rounds", "3", "--no-roofline")


def test_bench(cpu_only: Path, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "bench.json"
    measured = run([cpu_only / "gan-bench", "--model", model, "--batch", "1,4", *QUICK, "--json", record])
    assert measured.returncode == 0, measured.stderr
    assert len(json.loads(record.read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["gan-train", "--data", "digits"], "train"),
        (["gan-export", "onnx", "--ckpt", "MODEL", "--out", "again.onnx"], "export"),
    ],
)
def test_commands_that_need_more_say_which_extra(
    cpu_only: Path, wheel: Path, model: Path, tmp_path: Path, arguments: list[str], extra: str
) -> None:
    command = [str(model) if argument == "MODEL" else argument for argument in arguments]
    refused = run([cpu_only / command[0], *command[1:]], cwd=tmp_path)
    assert refused.returncode == 2
    assert f"install --python {cpu_only.parent} '{wheel}[{extra}]'\n" in refused.stderr
    assert "Traceback" not in refused.stderr
