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
