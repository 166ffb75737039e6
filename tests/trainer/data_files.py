"""Picture and idx files for the tests of gan_trainer.data, made on the spot."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from gan_core.arrays import U8
from gan_trainer.data import ImageDataset, open_dataset

FORMAT_OF = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP",
    ".gif": "GIF", ".tif": "TIFF", ".pgm": "PPM",
}  # fmt: skip


def picture(width: int = 40, height: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A gradient with noise: smooth and rough, so that a wrong filter or an offset of a pixel shows."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    values = np.stack([across, down, (across + down) / 2, 255 - across], axis=-1) + rng.integers(
        0, 55, (height, width, 4)
    )
    rgba = Image.fromarray(values.astype(np.uint8))
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def save(folder: Path, relative: str, image: Image.Image | None = None, seed: int = 0) -> Path:
    """Writes a picture in the format that its suffix names."""
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture(seed=seed) if image is None else image).save(path, FORMAT_OF[path.suffix.lower()])
    return path


def fill(folder: Path, *relatives: str) -> Path:
    """A folder of different pictures."""
    for seed, relative in enumerate(relatives):
        save(folder, relative, seed=seed)
    return folder


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header announces a size, with next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def idx_bytes(array: U8, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def save_idx(
    folder: Path, n: int = 12, side: int = 28, *, prefix: str = "train-", dot: str = "-", zipped: bool = True
) -> tuple[U8, U8]:
    """A split of `n` images with labels 0, 1, 2, …, 9, 0, … in `folder`; returns both arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(n).integers(0, 256, (n, side, side)).astype(np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    for name, array in ((f"{prefix}images{dot}idx3-ubyte", pixels), (f"{prefix}labels{dot}idx1-ubyte", labels)):
        data = idx_bytes(array)
        (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return pixels, labels


class Opened:
    """`open_dataset` with its own cache folder, keeping the notes of the last call."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.notes: list[str] = []

    def __call__(self, data: Path | str, **settings: Any) -> ImageDataset:
        with logged() as self.notes:
            return open_dataset(str(data), cache_dir=self.cache_dir, **settings)

    @property
    def entries(self) -> list[str]:
        """The names of the files in the cache, sorted."""
        return sorted(path.name for path in (self.cache_dir / "images").iterdir())

    @property
    def decoded(self) -> bool:
        """Whether the last call decoded anything (rather than reading the cache)."""
        return any("decoded" in note for note in self.notes)


def skipped(found: ImageDataset) -> list[str]:
    """The names of the files that could not be used."""
    return [name for name, _ in found.skipped]


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What gan_trainer logs meanwhile, in order."""
    notes: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("gan_trainer")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download of torchvision's fails at once, as without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError(OSError(-2, "Name or service not known"))

    for module in ("mnist", "cifar"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", refuse)
