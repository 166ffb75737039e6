"""Pixels: from the generator's values to uint8, from uint8 to grids and files.

The rounding is torchvision's save_image: floor(255 v + 0.5), clamped to 0 … 255, v in [0, 1].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gan_core import png
from gan_core.errors import GanportError

if TYPE_CHECKING:
    from PIL import Image

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_GRID_PIXELS = 178_000_000
"""The size of picture that Pillow opens without a decompression-bomb warning."""


def to_pixels(image_NCHW: F32, value_range: tuple[float, float] = (-1.0, 1.0)) -> U8:
    """Float images (N, C, H, W) in `value_range` to uint8 (N, H, W, C), rounded as the artefact does.

    NaN becomes 0.
    """
    black, white = value_range
    scaled = (image_NCHW.astype(np.float32) - np.float32(black)) * np.float32(255.0 / (white - black)) + np.float32(0.5)
    clamped = np.clip(np.nan_to_num(np.floor(scaled), nan=0.0), 0, 255)
    return np.ascontiguousarray(clamped.astype(np.uint8).transpose(0, 2, 3, 1))


def grid(pixels_NHWC: U8, cols: int | None = None, padding: int = 2) -> U8:
    """One picture (H', W', C) of all images in reading order, `padding` black pixels around each.

    `cols` defaults to the smallest square that holds all. Raises `GanportError` for no images, for
    cols < 1, and for a picture over `MAX_GRID_PIXELS`.
    """
    n, height, width, channels = pixels_NHWC.shape
    canvas = Canvas(n, (channels, height, width), cols, padding)
    canvas.add(pixels_NHWC)
    return canvas.picture_HWC


class Canvas:
    """A grid that is filled batch by batch, so that the images are never held twice.

    Raises as `grid`, before anything is drawn. `picture_HWC` is the picture so far.
    """

    def __init__(self, n: int, image: tuple[int, int, int], cols: int | None = None, padding: int = 2) -> None:
        channels, self._height, self._width = image
        rows, self.cols = grid_shape(n, self._height, self._width, cols, padding)
        self._padding = padding
        self._filled = 0
        sides = (rows * (self._height + padding) + padding, self.cols * (self._width + padding) + padding)
        self.picture_HWC: U8 = np.zeros((*sides, channels), np.uint8)

    def add(self, pixels_NHWC: U8) -> None:
        """The next images, uint8 (N, H, W, C), in reading order."""
        for pixels in pixels_NHWC:
            row, column = divmod(self._filled, self.cols)
            top = self._padding + row * (self._height + self._padding)
            left = self._padding + column * (self._width + self._padding)
            self.picture_HWC[top : top + self._height, left : left + self._width] = pixels
            self._filled += 1


def grid_shape(n: int, height: int, width: int, cols: int | None = None, padding: int = 2) -> tuple[int, int]:
    """(rows, cols) of a grid of `n` images; the checks of `grid`, before anything is computed."""
    if n < 1:
        raise GanportError(f"a grid needs at least 1 image, got {n}", hint="draw some images first")
    if cols is not None and cols < 1:
        raise GanportError(f"`cols` must be at least 1, got {cols}", hint="leave it out for a nearly square grid")
    columns = min(n, cols if cols is not None else math.isqrt(n - 1) + 1)
    rows = -(-n // columns)
    total = (rows * (height + padding) + padding) * (columns * (width + padding) + padding)
    if total > MAX_GRID_PIXELS:
        raise GanportError(
            f"{n} images of {width}x{height} make a picture of {total / 1e6:.0f} megapixels, "
            f"the most for one grid is {MAX_GRID_PIXELS / 1e6:.0f}",
            hint='write a folder instead (`out="FOLDER"`), one file per seed',
        )
    return rows, columns


def to_pil(pixels_HWC: U8) -> Image.Image:
    """One uint8 image (H, W, 1 or 3) as a Pillow image, mode L or RGB."""
    from PIL import Image

    return Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC)


def encode_png(pixels_HWC: U8, text: dict[str, str] | None = None, compress_level: int = 1) -> bytes:
    """One image as PNG bytes, lossless, with `text` in its tEXt/iTXt chunks (see `gan_core.png`).

    zlib level 1 by default: a few per cent larger than level 6 on generated images, several times faster.
    """
    return png.encode(pixels_HWC, text, compress_level)
