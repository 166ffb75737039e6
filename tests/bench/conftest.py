"""Fixtures of the benchmark's tests."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def tiny_dcgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with g.pt, the checkpoint of a tiny grey DCGAN, and g.onnx, its export. Not to be written to."""
    import torch

    from gan_export.exporting import export_onnx
    from gan_export.source import from_spec
    from gan_trainer.networks.architectures import network_spec
    from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator

    folder = tmp_path_factory.mktemp("tiny-dcgan")
    torch.manual_seed(0)
    spec = network_spec("dcgan", 28, 1, width=4, z_dim=8)
    module = build(spec)
    save_generator(GeneratorCheckpoint(spec, module.state_dict()), folder / "g.pt")
    assert export_onnx(from_spec(spec, module), folder / "g.onnx").ok
    return folder
