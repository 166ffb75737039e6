"""The programs of examples/ run as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gan_serve
from conftest import shared_by_workers
from export import npm
from gan_core.contract import Contract
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from serve import onnx_files

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    "about", [onnx_files.classes(), onnx_files.contract(latent="uniform")], ids=["grey", "uniform"]
)
def test_python(about: Contract, tmp_path: Path) -> None:
    """Without ganport: its packages cannot be imported."""
    model = onnx_files.save(tmp_path / "g.onnx", about)
    forbidden = "import sys; sys.modules.update(dict.fromkeys(['gan_core', 'gan_serve', 'torch', 'onnx']));"
    command = f"{forbidden} import runpy; runpy.run_path({str(EXAMPLES / 'generate.py')!r})"
    subprocess.run([sys.executable, "-c", command, str(model)], cwd=tmp_path, check=True, timeout=60)
    images = [np.asarray(Image.open(tmp_path / f"{number}.png")) for number in range(8)]
    assert {image.shape for image in images} == {(8, 8) if about.interface.conditional else (6, 5, 3)}
    assert len({image.tobytes() for image in images}) == 8


def test_python_with_the_model_that_ships(tmp_path: Path) -> None:
    """Whose contract is of version 1."""
    command = [sys.executable, str(EXAMPLES / "generate.py"), str(DEFAULT_MODEL)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert len({(tmp_path / f"{number}.png").read_bytes() for number in range(8)}) == 8


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("g++") and os.environ.get("ORT_ROOT")), reason="needs g++, and ORT_ROOT")
def test_cpp(tmp_path: Path) -> None:
    ort = Path(os.environ["ORT_ROOT"])
    command = ["g++", "-std=c++17", str(EXAMPLES / "generate.cpp"), "-o", str(tmp_path / "generate")]
    command += ["-I", str(ort / "include"), "-L", str(ort / "lib"), "-lonnxruntime", f"-Wl,-rpath,{ort / 'lib'}"]
    subprocess.run(command, check=True, timeout=120)
    seeds = [7, 123, 2**53 - 1]
    subprocess.run([str(tmp_path / "generate"), str(DEFAULT_MODEL), *map(str, seeds)], cwd=tmp_path, check=True)
    images = np.stack([np.asarray(Image.open(tmp_path / f"{seed}.pgm")) for seed in seeds])
    expected = gan_serve.load(DEFAULT_MODEL, provider="cpu").generate(seeds)[..., 0]
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.long
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_node(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A copy of the tree that it reads, so that its imports find the packages of npm."""
    modules = npm.node_modules(shared_by_workers(tmp_path_factory))
    for name in ("examples", "serve_cli/gan_serve/page"):
        shutil.copytree(EXAMPLES.parent / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(modules)
    seeds = [7, 123, 2**53 - 1]
    command = ["node", str(tmp_path / "examples" / "generate.mjs"), str(DEFAULT_MODEL), *map(str, seeds)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    images = np.stack([np.asarray(Image.open(tmp_path / f"{seed}.png")) for seed in seeds])
    expected = gan_serve.load(DEFAULT_MODEL, provider="cpu").generate(seeds)[..., 0]
    assert np.abs(images.astype(int) - expected).max() <= 1
