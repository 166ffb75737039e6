"""A server of two tiny models, `g` without classes and `c` with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files
from server.running import Site, running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxGenerator]:
    folder: Path = tmp_path_factory.mktemp("served")
    files = {"g": onnx_files.save(folder / "g.onnx"), "c": onnx_files.save(folder / "c.onnx", onnx_files.classes())}
    return {name: OnnxGenerator(file, "cpu", 1) for name, file in files.items()}


@pytest.fixture(scope="session")
def site(models: dict[str, OnnxGenerator]) -> Iterator[Site]:
    with running(*models.items()) as site:
        yield site
