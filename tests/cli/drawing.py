"""What the tests of gan-gen read back: images from a session, pictures and their texts from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gan_core.grids import grid
from gan_serve.runtime.onnx_generator import OnnxGenerator


def drawn(model: Path | str, seeds: object, labels: object = None, **options: object) -> np.ndarray:
    return OnnxGenerator(model, "cpu", 1).generate(seeds, labels, **options)  # type: ignore[arg-type]


def seen(pixels_NHWC: np.ndarray, cols: int | None = None) -> np.ndarray:
    """The grid of gan-gen where no --scale is asked for: of one image, that image."""
    return grid(pixels_NHWC, cols, scale=None if len(pixels_NHWC) > 1 else 1)


def read(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def text_of(path: Path | str) -> dict[str, str]:
    with Image.open(path) as picture:
        picture.load()
        return dict(picture.text)  # type: ignore[attr-defined]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
