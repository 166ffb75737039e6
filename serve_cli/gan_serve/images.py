"""Pixels: from the generator's values to uint8, from uint8 to grids and files.

The rounding is torchvision's save_image: floor(255 v + 0.5), clamped to 0 … 255, v in [0, 1].
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from gan_serve.errors import GanportError

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
    rows, cols = grid_shape(n, height, width, cols, padding)
    canvas = np.zeros((rows * (height + padding) + padding, cols * (width + padding) + padding, channels), np.uint8)
    for index, pixels in enumerate(pixels_NHWC):
        top = padding + (index // cols) * (height + padding)
        left = padding + (index % cols) * (width + padding)
        canvas[top : top + height, left : left + width] = pixels
    return canvas


def grid_shape(n: int, height: int, width: int, cols: int | None = None, padding: int = 2) -> tuple[int, int]:
    """(rows, cols) of a grid of `n` images; the checks of `grid`, before anything is computed."""
    if n < 1:
        raise GanportError(f"a grid needs at least 1 image, got {n}")
    if cols is not None and cols < 1:
        raise GanportError(f"cols must be at least 1, got {cols}")
    columns = min(n, cols if cols is not None else math.isqrt(n - 1) + 1)
    rows = -(-n // columns)
    total = (rows * (height + padding) + padding) * (columns * (width + padding) + padding)
    if total > MAX_GRID_PIXELS:
        raise GanportError(
            f"{n} images of {width}x{height} make a picture of {total / 1e6:.0f} megapixels, "
            f"the most for one grid is {MAX_GRID_PIXELS / 1e6:.0f}",
            hint="write a folder instead (--out FOLDER), one file per seed",
        )
    return rows, columns


def to_pil(pixels_HWC: U8) -> Image.Image:
    """One uint8 image (H, W, 1 or 3) as a Pillow image, mode L or RGB."""
    return Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC)


def encode_png(pixels_HWC: U8, text: dict[str, str] | None = None, compress_level: int = 1) -> bytes:
    """One image as PNG bytes, lossless, with `text` in its tEXt/iTXt chunks.

    zlib level 1 by default: within a few per cent of level 6 in size on generated images, several times faster.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    to_pil(pixels_HWC).save(buffer, "PNG", pnginfo=info, compress_level=compress_level)
    return buffer.getvalue()
