"""One picture → square uint8 pixels: Resize(size) of the shorter side, then CenterCrop(size), as in the DCGAN tutorial.

The arithmetic is that of torchvision's transforms on Pillow images, to the bit (tests/trainer/test_data_transforms.py);
Pillow's bilinear filter widens with the reduction, which is what torchvision calls antialias. Normalising to [-1, 1]
is left to the training loop.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from gan_core.images import U8

VERSION = 2
"""Raise it when the same folder would give other pixels or classes: every cached data set is then decoded anew."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""The decoders Pillow may use, whatever a file's name says."""

_HEAD_BYTES = 16
"""What Pillow looks at to tell a format."""

MAX_PIXELS = 89_478_485
"""Where Pillow begins to suspect a decompression bomb (2^30 / 4 / 3). Anything larger counts as broken."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag Orientation → what makes the picture upright. 1 and anything unknown mean: as it is."""


class BrokenImageError(Exception):
    """A picture that cannot be used; the message is the reason, without the name."""


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """The first frame of a picture file, upright, in the mode the file has. Call it inside `quiet_pillow`.

    Raises `BrokenImageError` with a short reason for anything that cannot be read whole.
    """
    try:
        with _open(path) as image:
            image.load()
            return upright(image)
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise BrokenImageError(_reason(error)) from error


def read_mode(path: str | os.PathLike[str]) -> str:
    """The Pillow mode of a picture file, from its header alone. Raises `BrokenImageError`."""
    try:
        with _open(path) as image:
            return image.mode
    except BrokenImageError:
        raise
    except Exception as error:
        raise BrokenImageError(_reason(error)) from error


def looks_like_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a picture in one of `FORMATS` does. Raises `OSError` when it cannot be read."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return False
    accepts = (Image.OPEN[name][1] for name in _decoders())
    return any(accept is not None and accept(head) is True for accept in accepts)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as it is where there is none, or a damaged one."""
    try:
        turn = UPRIGHT.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Any Pillow image as grey (channels 1, mode L) or RGB (3). Transparency becomes white, 16-bit grey 8-bit."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray((np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        image = image.convert("RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to `size`, keeping the aspect, and takes the (size, size) square in the middle."""
    width, height = image.size
    long = int(size * max(width, height) / min(width, height))
    new_width, new_height = (size, long) if width <= height else (long, size)
    # Only the middle of a very long strip is needed, but a resize of the strip is what the tutorial does; past
    # this length it would cost memory out of all proportion.
    if long * size > MAX_PIXELS:
        raise BrokenImageError(f"{width}x{height}, too long a strip")
    if (width, height) != (new_width, new_height):
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    return image.crop((left, top, left + size, top + size))


def prepare(image: Image.Image, size: int, channels: int) -> U8:
    """A picture as the network sees it: uint8 (size, size, channels), C-contiguous. Raises `BrokenImageError`."""
    pixels = np.asarray(resize_and_crop(to_channels(image, channels), size))
    return pixels.reshape(size, size, channels)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of odd metadata and of large pictures: the first is harmless, the second an error of ours.

    Python keeps warning filters for the whole process: enter this in the thread that starts the workers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _open(path: str | os.PathLike[str]) -> Image.Image:
    image = Image.open(path, formats=_decoders())
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise BrokenImageError(f"{width}x{height}, larger than {MAX_PIXELS / 1e6:.0f} megapixels")
    if width < 1 or height < 1:
        image.close()
        raise BrokenImageError(f"{width}x{height}, no pixels")
    return image


def _decoders() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with. Image.init loads all decoders, the first time."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"larger than {MAX_PIXELS / 1e6:.0f} megapixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:80] or type(error).__name__
