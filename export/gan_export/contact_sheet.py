"""A picture that lets a person decide: one row of images for each candidate, labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

U8 = npt.NDArray[np.uint8]

MARGIN = 12
GAP = 4
TEXT_SIZE = 15
MIN_SIDE = 64
INK, PAPER = (20, 20, 20), (255, 255, 255)


def contact_sheet(rows: Sequence[tuple[str, U8]]) -> Image.Image:
    """An RGB picture of `rows`: (label, pixels uint8 (n, H, W, C)), one under the other.

    Images smaller than 64 pixels are enlarged by a whole factor, without smoothing.
    """
    font = ImageFont.load_default(size=TEXT_SIZE)
    strips = [_strip(pixels) for _, pixels in rows]
    line = TEXT_SIZE + GAP
    widest = max(*(strip.width for strip in strips), *(int(font.getlength(label)) for label, _ in rows))
    width = widest + 2 * MARGIN
    height = sum(strip.height + line + MARGIN for strip in strips) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for (label, _), strip in zip(rows, strips, strict=True):
        draw.text((MARGIN, top), label, font=font, fill=INK)
        sheet.paste(strip, (MARGIN, top + line))
        top += line + strip.height + MARGIN
    return sheet


def _strip(pixels_NHWC: U8) -> Image.Image:
    """One row of images, GAP pixels apart."""
    n, height, width, channels = pixels_NHWC.shape
    factor = max(1, -(-MIN_SIDE // min(height, width)))
    big = pixels_NHWC.repeat(factor, axis=1).repeat(factor, axis=2)
    strip = np.full((height * factor, n * (width * factor + GAP) - GAP, 3), 255, np.uint8)
    for index in range(n):
        left = index * (width * factor + GAP)
        strip[:, left : left + width * factor] = big[index] if channels == 3 else big[index][..., :1]
    return Image.fromarray(strip)
