"""Pictures: found in a folder, read from files of many kinds or of idx, made square pixels of one size. Torch-free.

Here they are made: in threads, in order, in little memory. Each is made as in the DCGAN tutorial: Resize(size) of the
shorter side, then CenterCrop(size), with the arithmetic of torchvision's transforms on Pillow images, to the bit
(tests/trainer/test_data_decode.py); Pillow's bilinear filter widens with the reduction, which is what torchvision calls
antialias. Normalising to [-1, 1] is left to the training.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gan_core.arrays import I64, U8

VERSION = 3
"""Raise it when the same folder would give other pixels or classes: every cached data set is then decoded anew."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""The decoders Pillow may use, whatever a file's name says."""

MAX_PIXELS = 89_478_485
"""Where Pillow begins to suspect a decompression bomb (2^30 / 4 / 3). Anything larger counts as broken."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})

CHUNK = 32
"""Pictures a worker decodes in one go: enough to make the hand-over cheap, 1.5 MB at 128x128 RGB."""

_HEAD_BYTES = 16
"""What Pillow looks at to tell a format."""

Arrays = tuple[U8, I64 | None, tuple[str, ...]]
"""Pixels (N, H, W) grey or (N, H, W, 3) RGB, labels (N,), class names."""

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""(parts of a work, their length in all, its name) → the same parts: what shows how far it is, as a progress bar."""


def untracked(parts: Iterable[Any], _length: int, _label: str) -> Iterable[Any]:
    """The parts, with nothing shown."""
    return parts


class BrokenImageError(Exception):
    """A picture that cannot be used; the message is the reason, without the name."""


class Pictures:
    """Pictures in a fixed order, with or without classes.

    name          for people, and for the cache's file names
    place         where the pictures come from: two states of the same share it
    identity      a hex digest that changes whenever the pixels or labels could; cheap next to decoding
    natural_size  of a data set that was asked for without a size
    unreadable    (name, reason) of what is known to be lost before any decoding
    notes         lines for people about what is left out, and where its classes come from
    """

    def __init__(self, name: str, place: str, identity: str, natural_size: int) -> None:
        self.name, self.place, self.identity, self.natural_size = name, place, identity, natural_size
        self.unreadable: tuple[tuple[str, str], ...] = ()
        self.notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def natural_channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        raise NotImplementedError

    def load(self) -> tuple[I64 | None, tuple[str, ...]]:
        """Reads what `image` needs; returns the class index of every item and the classes' names, or (None, ())."""
        raise NotImplementedError

    def image(self, index: int) -> Image.Image:
        """Item `index`. Called from several threads. Raises `BrokenImageError`."""
        raise NotImplementedError

    def item_name(self, index: int) -> str:
        return f"image {index}"


class ArrayPictures(Pictures):
    """Pictures that come as one array: `n` of them, of `channels`. `read` is called once, when they are needed."""

    def __init__(
        self, name: str, place: str, identity: str, natural_size: int, read: Callable[[], Arrays], n: int, channels: int
    ) -> None:
        super().__init__(name, place, identity, natural_size)
        self._read, self._n, self._channels = read, n, channels
        self._pixels: U8 | None = None

    def __len__(self) -> int:
        return self._n if self._pixels is None else len(self._pixels)

    def natural_channels(self) -> int:
        return self._channels

    def load(self) -> tuple[I64 | None, tuple[str, ...]]:
        self._pixels, labels, class_names = self._read()
        return labels, class_names

    def image(self, index: int) -> Image.Image:
        assert self._pixels is not None, "load() comes first"
        return Image.fromarray(self._pixels[index])


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items: the pixels of those that are usable, their indices, and (name, reason) of the others."""

    pixels_NHWC: U8  # noqa: N815
    kept: list[int]
    broken: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.kept) + len(self.broken)


def decode(pictures: Pictures, size: int, channels: int) -> Iterator[Chunk]:
    """All items of `pictures` as chunks of pixels (n, size, size, channels), in order.

    A pool of threads works a few chunks ahead, so memory does not grow with their number: Pillow lets go of
    Python's lock while it decodes and resizes. Call `pictures.load()` before, and be inside `quiet_pillow`.
    """
    workers = min(8, os.cpu_count() or 1)
    ahead: deque[Future[Chunk]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(pictures), CHUNK):
                indices = range(start, min(start + CHUNK, len(pictures)))
                ahead.append(pool.submit(_decode_chunk, pictures, indices, size, channels))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _decode_chunk(pictures: Pictures, indices: range, size: int, channels: int) -> Chunk:
    pixels_NHWC = np.empty((len(indices), size, size, channels), np.uint8)
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    for index in indices:
        try:
            pixels_NHWC[len(kept)] = prepare(pictures.image(index), size, channels)
        except BrokenImageError as error:
            broken.append((pictures.item_name(index), str(error)))
        except (ValueError, OSError, MemoryError) as error:  # a mode that Pillow cannot convert
            broken.append((pictures.item_name(index), f"cannot be converted: {error}"))
        else:
            kept.append(index)
    return Chunk(pixels_NHWC[: len(kept)], kept, broken)


def prepare(image: Image.Image, size: int, channels: int) -> U8:
    """A picture as the network sees it: uint8 (size, size, channels), C-contiguous. Raises `BrokenImageError`."""
    pixels = np.asarray(resize_and_crop(to_channels(image, channels), size))
    return pixels.reshape(size, size, channels)


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


def read_image(path: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """The first frame of a picture file, upright, in the mode the file has, wide numbers as 8-bit. Call it inside
    `quiet_pillow`.

    Raises `BrokenImageError` with a short reason for anything that cannot be read whole.
    """
    with _opened(path) as image:
        image.load()
        if image.mode == "LAB":
            raise BrokenImageError("its colours are L*a*b*, expected RGB or grey")
        with contextlib.suppress(Exception):  # a damaged EXIF: the picture as it is
            ImageOps.exif_transpose(image, in_place=True)
        return _eight_bit(image) if image.mode in ("I", "F") else image


def _eight_bit(image: Image.Image) -> Image.Image:
    """32-bit grey as 8-bit: floats of 0 … 1 or 0 … 255, whole numbers of 0 … 255 or 0 … 65535."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    most = 1.0 if image.mode == "F" and high <= 1 else 255.0 if high <= 255 else 65535.0 if image.mode == "I" else 0.0
    if not (low >= 0 and high <= most):
        raise BrokenImageError(f"its values are {low:g} … {high:g}, expected 0 … 255")
    return Image.fromarray(np.floor(values * (255 / most) + 0.5).astype(np.uint8))


def read_mode(path: str | os.PathLike[str]) -> str:
    """The Pillow mode of a picture file, from its header alone. Raises `BrokenImageError`."""
    with _opened(path) as image:
        return image.mode


def read_size(path: str | os.PathLike[str] | IO[bytes]) -> tuple[int, int]:
    """(width, height) of a picture file as it is stored, from its header alone. Raises `BrokenImageError`."""
    with _opened(path) as image:
        return image.size


def looks_like_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a picture in one of `FORMATS` does. Raises `OSError` when it cannot be read."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return False
    accepts = (Image.OPEN[name][1] for name in _decoders())
    return any(accept is not None and accept(head) is True for accept in accepts)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of odd metadata and of large pictures: the first is harmless, the second an error of ours.

    Python keeps warning filters for the whole process: enter this in the thread that starts the workers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str] | IO[bytes]) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_decoders()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BrokenImageError(f"{width}x{height}, larger than {MAX_PIXELS / 1e6:.0f} megapixels")
            if width < 1 or height < 1:
                raise BrokenImageError(f"{width}x{height}, no pixels")
            yield image
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise BrokenImageError(_reason(error)) from error


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
