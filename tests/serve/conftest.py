"""Model files shared by the runtime's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional generator of 6x5 RGB images with a golden set."""
    return onnx_files.save(tmp_path_factory.mktemp("model") / "g.onnx")


@pytest.fixture(scope="session")
def conditional_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of three named classes, 8x8 grey images."""
    return onnx_files.save(tmp_path_factory.mktemp("conditional") / "c.onnx", onnx_files.classes())


@pytest.fixture(scope="session")
def generator(model_path: Path) -> OnnxGenerator:
    return OnnxGenerator(model_path, "cpu", 1)


@pytest.fixture(scope="session")
def conditional(conditional_path: Path) -> OnnxGenerator:
    return OnnxGenerator(conditional_path, "cpu", 1)
