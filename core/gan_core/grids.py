"""Many images as one picture: in rows, enlarged where they are small, with a caption under each where one is asked for.

Images are enlarged by whole numbers, each pixel becoming a square: nothing is blurred, and every n-th pixel of each is
the image as it was.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.interface import Interface

MAX_GRID_PIXELS = 178_000_000
"""The size of picture that Pillow opens without a decompression-bomb warning."""
PADDING = 2
MAX_SCALE = 64
"""The most that gan-gen and gan-serve enlarge images."""
SMALL_SIDE = 64
"""Images with no side longer than this are enlarged where no scale is given."""
SEEN_SIDE = 512
"""To at least this many pixels on the longer side of their grid,"""
CAPTION_WIDTH = 64
"""and of this width each, where they have captions."""
FONT_PX, CAPTION_PX = 12, 17
"""The height of a caption's letters, and of its strip."""


def grid(
    pixels_NHWC: U8,
    cols: int | None = None,
    padding: int = PADDING,
    scale: int | None = 1,
    captions: Sequence[Sequence[str]] = (),
) -> U8:
    """One picture (H', W', C) of all images in reading order; the arguments are those of `Canvas`.

    captions  one for each image, see `Canvas.add`; none: no strips for them
    Raises `GanportError` as `grid_shape`.
    """
    n, height, width, channels = pixels_NHWC.shape
    canvas = Canvas(n, (channels, height, width), cols, padding, scale, captioned=bool(captions))
    canvas.add(pixels_NHWC, captions)
    return canvas.picture_HWC


class Canvas:
    """A grid that is filled batch by batch, so that the images are never held twice.

    n          images; one alone, without a caption, is the picture itself
    image      (C, H, W) of each
    cols       images a row; None: the smallest square that holds all
    padding    black (or clear) pixels around each
    scale      how many times as large; None: `auto_scale`
    captioned  whether a strip under each image is kept for a caption
    Raises `GanportError` as `grid_shape`, before anything is drawn. `picture_HWC` is the picture so far.
    """

    def __init__(
        self,
        n: int,
        image: tuple[int, int, int],
        cols: int | None = None,
        padding: int = PADDING,
        scale: int | None = 1,
        *,
        captioned: bool = False,
    ) -> None:
        channels, height, width = image
        self._padding = padding if n > 1 or captioned else 0
        self.scale = auto_scale(n, image, cols, captioned=captioned) if scale is None else check_scale(scale)
        self._height, self._width = height * self.scale, width * self.scale
        self._strip = CAPTION_PX if captioned else 0
        rows, self.cols = grid_shape(n, self._height + self._strip, self._width, cols, self._padding)
        self._filled = 0
        sides = (
            rows * (self._height + self._strip + self._padding) + self._padding,
            self.cols * (self._width + self._padding) + self._padding,
        )
        self.picture_HWC: U8 = np.zeros((*sides, channels), np.uint8)

    def add(self, pixels_NHWC: U8, captions: Sequence[Sequence[str]] = ()) -> None:
        """The next images, uint8 (N, H, W, C), in reading order.

        captions  of each image, the ways to say it: the first that fits is written, else the last, cut
        """
        for index, pixels in enumerate(pixels_NHWC):
            row, column = divmod(self._filled, self.cols)
            top = self._padding + row * (self._height + self._strip + self._padding)
            left = self._padding + column * (self._width + self._padding)
            bottom, right = top + self._height, left + self._width
            self.picture_HWC[top:bottom, left:right] = enlarged(pixels, self.scale)
            if self._strip and captions:
                strip = _caption(tuple(captions[index]), self._width, self.picture_HWC.shape[2])
                self.picture_HWC[bottom : bottom + self._strip, left:right] = strip
            self._filled += 1

    def restart(self) -> None:
        """The next image is the first again: of another picture, drawn over this one."""
        self._filled = 0


def enlarged(pixels_HWC: U8, scale: int) -> U8:
    """Images (…, H, W, C) `scale` times as large, each pixel a square."""
    return pixels_HWC if scale == 1 else pixels_HWC.repeat(scale, -3).repeat(scale, -2)


def auto_scale(
    n: int, image: tuple[int, int, int], cols: int | None = None, side: int = SEEN_SIDE, *, captioned: bool = False
) -> int:
    """How many times as large `n` small images have to be, so that their grid is `side` pixels on its longer side.

    1 for images with a side over `SMALL_SIDE`.
    """
    _, height, width = image
    if max(height, width) > SMALL_SIDE:
        return 1
    rows, columns = grid_shape(n, height, width, cols)
    padding = PADDING if n > 1 or captioned else 0
    count, pixels = max((rows, height), (columns, width), key=lambda axis: axis[0] * (axis[1] + padding))
    wanted = (side - padding) / count - padding
    return max(1, math.ceil(wanted / pixels), math.ceil(CAPTION_WIDTH / width) if captioned else 1)


def check_scale(scale: int) -> int:
    """Raises `GanportError` for less than 1."""
    if scale < 1:
        raise GanportError(f"`scale` must be at least 1, got {scale}", hint="2 makes every pixel a square of 2x2")
    return scale


def grid_shape(n: int, height: int, width: int, cols: int | None = None, padding: int = PADDING) -> tuple[int, int]:
    """(rows, cols) of a grid of `n` images; the checks of `grid`, before anything is computed.

    Raises `GanportError` for no images, for cols < 1, and for a picture over `MAX_GRID_PIXELS`.
    """
    if n < 1:
        raise GanportError(f"a grid needs at least 1 image, got {n}", hint="generate some images first")
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


def class_caption(interface: Interface, label: int) -> tuple[str, ...]:
    """The words for a class: its name, cut where it is long; its number where Pillow's own font cannot write that."""
    name = interface.class_names[label] if interface.class_names else ""
    if name and max(map(ord, name)) < _LETTERS:
        return (name,)
    return f"class {label}", str(label)


@functools.lru_cache(4096)
def _caption(ways: tuple[str, ...], width: int, channels: int) -> U8:
    """The strip (CAPTION_PX, width, channels) with the first of `ways` that fits; grey on black, or on nothing."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(FONT_PX)
    text = next((way for way in ways if font.getlength(way) <= width), ways[-1])
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    strip = Image.new("L", (width, CAPTION_PX))
    ImageDraw.Draw(strip).text((width // 2, CAPTION_PX // 2), text, fill=220, font=font, anchor="mm")
    grey = np.asarray(strip)[..., None]
    if channels == 4:
        return np.concatenate([np.full_like(grey, 128).repeat(3, 2), grey], axis=2)
    return grey.repeat(channels, 2)


_LETTERS = 0x180
"""Pillow's own font has no letters from here on."""
