"""Fixtures of the benchmark's tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from bench.tiny_models import tiny_model


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A factory of model files; the arguments are `tiny_model`'s."""

    def make(file: str = "g.onnx", **options: object) -> Path:
        path = tmp_path / file
        onnx.save(tiny_model(**options), path)  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    return make_model()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny grey DCGAN's checkpoint."""
    import torch

    from gan_trainer.networks.architectures import network_spec
    from gan_trainer.networks.build import build
    from gan_trainer.networks.checkpoint import GeneratorCheckpoint, save_generator

    torch.manual_seed(0)
    spec = network_spec("dcgan", 28, 1, width=4, z_dim=8)
    save_generator(GeneratorCheckpoint(spec, build(spec).state_dict()), tmp_path / "g.pt")
    return tmp_path / "g.pt"


@pytest.fixture
def exported(tmp_path: Path, checkpoint: Path) -> Path:
    """The checkpoint's export."""
    exporter = [sys.executable, "-P", "-c", "from gan_export.cli import main; main()"]
    options = ["onnx", "--ckpt", str(checkpoint), "--out", str(tmp_path / "g.onnx")]
    subprocess.run([*exporter, *options], check=True, capture_output=True)
    return tmp_path / "g.onnx"
