"""Pixels: from the generator's values to uint8, from uint8 to PNG files (grids are in `gan_core.grids`).

The rounding is torchvision's save_image: floor(255 v + 0.5), clamped to 0 … 255, v in [0, 1].

PNG is written directly: the format is four chunks, and Pillow's route to it costs more than the compression. Every
pixel is stored as its difference from what its left, upper and upper left neighbours foretell (filter 4, Paeth). At
level 1 only runs of equal bytes are shortened and the rest is left to the Huffman code (zlib's Z_RLE): on real and
generated 64x64 pictures that gave smaller files than Pillow's level 1, with no search for matches. docs/speed.md has
what was measured. The images of a batch are filtered together; zlib lets go of Python's lock, so threads encode at the
same time. Source: PNG Specification, third edition (W3C 2025), sections 5, 9 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, U8
from gan_core.printable import printable

if TYPE_CHECKING:
    from PIL import Image


ANIMATIONS = (".webp", ".gif", ".mp4")

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIZES_END = len(SIGNATURE) + 25
"""Where the first chunk of a PNG ends, which says the image's size; in ours, the text follows."""
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG's, by an image's channels."""
_PAETH = 4
_BLOCK_BYTES = 1 << 15
"""Filtered at a time: the dozen arrays on the way stay in the cache, and the allocator keeps their memory."""


def to_pixels(image_NCHW: F32, value_range: tuple[float, float] = (-1.0, 1.0)) -> U8:
    """Float images (N, C, H, W) in `value_range` to uint8 (N, H, W, C), rounded as the artefact does.

    NaN becomes 0.
    """
    black, white = value_range
    scaled = (image_NCHW.astype(np.float32) - np.float32(black)) * np.float32(255.0 / (white - black)) + np.float32(0.5)
    clamped = np.clip(np.nan_to_num(np.floor(scaled), nan=0.0), 0, 255)
    return np.ascontiguousarray(clamped.astype(np.uint8).transpose(0, 2, 3, 1))


def to_pil(pixels_HWC: U8) -> Image.Image:
    """One uint8 image (H, W, 1, 3 or 4) as a Pillow image, mode L, RGB or RGBA."""
    from PIL import Image

    return Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC)


def encode_png(pixels_HWC: U8, text: Mapping[str, str] | None = None, compress_level: int = 1) -> bytes:
    """One uint8 image (H, W, 1, 3 or 4) as the bytes of a PNG file, 8 bits a channel, not interlaced.

    text            keyword (1 to 79 Latin-1 characters) → value, kept as tEXt, or iTXt where Latin-1 does not do
    compress_level  0 … 9, as zlib's, but 1 is faster and mostly smaller than zlib's own; lossless at any
    """
    return encode_batch(pixels_HWC[None], [text_chunks(text or {})], compress_level)[0]


def encode_batch(pixels_NHWC: U8, chunks: Sequence[bytes], compress_level: int = 1) -> list[bytes]:
    """Images of one size, uint8 (N, H, W, 1, 3 or 4), as one PNG file each; `chunks` are their `text_chunks`."""
    n, height, width, channels = pixels_NHWC.shape
    sizes = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    head, end = SIGNATURE + _chunk(b"IHDR", sizes), _chunk(b"IEND", b"")
    row_bytes = width * channels
    files: list[bytes] = []
    together = max(1, _BLOCK_BYTES // max(1, height * row_bytes))
    for start in range(0, n, together):
        part = pixels_NHWC[start : start + together].reshape(-1, height, row_bytes)
        blocks = _filtered(part, channels)
        # One block of several images, or several blocks of one: zlib's 384 KiB of state are needed once.
        images = ((rows,) for rows in next(blocks)) if len(part) > 1 else (map(itemgetter(0), blocks),)
        for pieces, text in zip(images, chunks[start : start + together], strict=True):
            packer = _packer(compress_level)
            data = b"".join([*map(packer.compress, pieces), packer.flush()])
            files.append(b"".join([head, text, _chunk(b"IDAT", data), end]))
    return files


def write_png(
    file: IO[bytes], size: tuple[int, int], channels: int, bands: Iterable[U8], text: Mapping[str, str] | None = None
) -> None:
    """One PNG of `size` (width, height) as its rows come: bands uint8 (rows, width, channels), from the top to the
    bottom. No more than a band is in memory."""
    width, height = size
    sizes = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    file.write(b"".join([SIGNATURE, _chunk(b"IHDR", sizes), text_chunks(text or {})]))
    packer, above = _packer(1), np.zeros((1, 1, width * channels), np.uint8)
    for band_HWC in bands:
        rows = np.concatenate([above, band_HWC.reshape(1, -1, width * channels)], axis=1)
        pieces, skip = [], 1  # the row above is filtered, too, and left out
        for filtered in _filtered(rows, channels):
            pieces.append(packer.compress(filtered[0, skip:].tobytes()))
            skip = 0
        file.write(_chunk(b"IDAT", b"".join(pieces)))
        above = rows[:, -1:]
    file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def text_chunks(text: Mapping[str, str]) -> bytes:
    """What `encode_png` writes for `text`, to be made once and joined with others."""
    return b"".join(_text(key, value) for key, value in text.items())


def _packer(compress_level: int) -> zlib._Compress:
    strategy = zlib.Z_RLE if compress_level == 1 else zlib.Z_DEFAULT_STRATEGY
    return zlib.compressobj(compress_level, zlib.DEFLATED, 15, 9, strategy)


def _filtered(rows_NHS: U8, channels: int) -> Iterator[U8]:
    """The rows (N, H, bytes of a row) with their filter byte in front, a block of rows at a time."""
    n, height, row_bytes = rows_NHS.shape
    step = max(1, _BLOCK_BYTES // max(1, n * row_bytes))
    for start in range(0, height, step):
        # One row above and one pixel to the left, zero at the picture's edge.
        block = np.zeros((n, min(step, height - start) + 1, row_bytes + channels), np.uint8)
        block[:, 1 if start == 0 else 0 :, channels:] = rows_NHS[:, max(0, start - 1) : start + step]
        out = np.empty((n, block.shape[1] - 1, row_bytes + 1), np.uint8)
        out[:, :, 0] = _PAETH
        np.subtract(block[:, 1:, channels:], _foretold(block, channels), out=out[:, :, 1:])
        yield out


def _foretold(block: U8, channels: int) -> U8:
    """Of each pixel but the first row and column, the neighbour nearest to left + upper - upper left; ties go left,
    upper, upper left.

    In bytes without overflow, and without branches: with a = |upper - corner| and b = |left - corner|, the corner's own
    distance is a + b when it lies on one side of both, and so never the least; else it is |a - b|.
    """
    left = np.ascontiguousarray(block[:, 1:, :-channels])
    upper = np.ascontiguousarray(block[:, :-1, channels:])
    corner = np.ascontiguousarray(block[:, :-1, :-channels])
    one_side = (upper < corner) == (left < corner)
    least = np.minimum(upper, corner)
    far_left = np.maximum(upper, corner)
    far_left -= least
    np.minimum(left, corner, out=least)
    far_upper = np.maximum(left, corner)
    far_upper -= least
    foretold = left ^ upper
    foretold &= _mask(far_left <= far_upper)
    foretold ^= upper
    np.minimum(far_left, far_upper, out=least)
    far_corner = np.maximum(far_left, far_upper, out=far_left)
    far_corner -= least
    take_corner = far_corner < least
    take_corner &= ~one_side
    corner ^= foretold
    corner &= _mask(take_corner)
    foretold ^= corner
    return foretold


def _mask(condition: npt.NDArray[np.bool_]) -> U8:
    """255 where true, else 0."""
    mask = condition.view(np.uint8)
    return np.negative(mask, out=mask)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


def _text(key: str, value: str) -> bytes:
    value = printable(value)
    keyword = key.encode("latin-1")
    if not 1 <= len(keyword) <= 79:
        raise ValueError(f"a PNG keyword has 1 to 79 characters, got {len(keyword)}")
    try:
        return _chunk(b"tEXt", keyword + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode("utf-8"))
