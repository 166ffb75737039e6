"""A labelled data set that a small classifier learns in a second: discs and bars."""

from __future__ import annotations

import numpy as np

from gan_core.arrays import U8
from gan_trainer.data import ImageDataset
from gan_trainer.data.cache import fingerprint
from trainer.conftest import blobs

NAMES = ("disc", "bar")


def bars(n: int, size: int, channels: int, seed: int = 0) -> U8:
    """`n` images of one bright vertical bar each: uint8 (n, size, size, channels)."""
    rng = np.random.default_rng(seed)
    left = rng.integers(3, size - 8, n)
    x = np.arange(size)
    inside = (x >= left[:, None]) & (x < left[:, None] + 4)
    level = rng.integers(100, 256, (n, 1, 1, channels))
    pixels_NHWC: U8 = np.where(inside[:, None, :, None], level, 0).astype(np.uint8).repeat(size, 1)
    return pixels_NHWC


def shapes(n: int, size: int = 28, channels: int = 1, *, labelled: bool = True, seed: int = 0) -> ImageDataset:
    """`n` discs and bars in turn."""
    pixels = np.empty((n, size, size, channels), np.uint8)
    pixels[0::2] = blobs(n - n // 2, size, channels, seed)
    pixels[1::2] = bars(n // 2, size, channels, seed)
    labels = np.arange(n, dtype=np.int64) % 2 if labelled else None
    names = NAMES if labelled else ()
    return ImageDataset(pixels, labels, names, "shapes", fingerprint(pixels, labels, names), ())
