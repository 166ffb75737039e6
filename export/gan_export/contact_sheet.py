"""A picture that lets a person decide: one row of images for each candidate, labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

U8 = npt.NDArray[np.uint8]

MARGIN = 12
GAP = 4
TEXT_SIZE = 15
MIN_SIDE = 64
MIN_WIDTH = 640
INK, PAPER = (20, 20, 20), (255, 255, 255)


def contact_sheet(rows: Sequence[tuple[str, U8]]) -> Image.Image:
    """An RGB picture of `rows`: (label, pixels uint8 (n, H, W, C)), one under the other.

    Images smaller than 64 pixels are enlarged by a whole factor, without smoothing; long labels are wrapped.
    """
    font = ImageFont.load_default(size=TEXT_SIZE)
    strips = [_strip(pixels) for _, pixels in rows]
    width = max(MIN_WIDTH, *(strip.width for strip in strips))
    labels = [_wrapped(label, width, font.getlength) for label, _ in rows]
    line = TEXT_SIZE + GAP
    height = sum(strip.height + len(lines) * line + MARGIN for strip, lines in zip(strips, labels, strict=True))
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for lines, strip in zip(labels, strips, strict=True):
        for text in lines:
            draw.text((MARGIN, top), text, font=font, fill=INK)
            top += line
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + MARGIN
    return sheet


def _wrapped(label: str, width: int, measure: Callable[[str], float]) -> list[str]:
    """The label in lines of at most `width` pixels; Pillow's own font has no arrow."""
    lines: list[str] = []
    for word in label.replace("→", "to").split():
        if lines and measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


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
