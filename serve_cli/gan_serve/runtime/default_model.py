"""The generator that comes with ganport: Fashion-MNIST at 32x32, ten classes. docs/models.md is its card."""

from __future__ import annotations

from pathlib import Path

from gan_core.errors import GanportError

DEFAULT_MODEL = Path(__file__).parents[1] / "models" / "fashion-mnist.onnx"
MAX_BYTES = 2_000_000
"""The most that it may add to an installation."""


def default_model() -> Path:
    """Its file. Raises `GanportError` for an installation that lacks it."""
    if not DEFAULT_MODEL.is_file():
        raise GanportError(
            "this installation lacks the model that comes with ganport", hint="install ganport again, or name a `model`"
        )
    return DEFAULT_MODEL
