"""PNG written directly: the format is four chunks, and Pillow's route to it costs more than the compression.

Each row is stored as its difference from the row above (filter 2, "Up"), which on generated images compresses about as
well as Pillow's choice per row, and is one subtraction for the whole picture. zlib lets go of Python's lock, so threads
encode at the same time. Source: PNG Specification, third edition (W3C 2025), sections 5, 9 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_FILTER_UP = 2
_BLOCK_BYTES = 1 << 20


def encode(pixels_HWC: U8, text: Mapping[str, str] | None = None, compress_level: int = 1) -> bytes:
    """One uint8 image (H, W, 1 or 3) as the bytes of a PNG file, 8 bits a channel, not interlaced.

    text            keyword (1 to 79 Latin-1 characters) → value, kept as tEXt, or iTXt where Latin-1 does not do
    compress_level  zlib's, 0 … 9; lossless at any
    """
    height, width, channels = pixels_HWC.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if channels == 1 else _RGB, 0, 0, 0)
    packer = zlib.compressobj(compress_level)
    data = [packer.compress(block) for block in _filtered(pixels_HWC)]
    chunks = [_chunk(b"IHDR", header), *(_text(key, value) for key, value in (text or {}).items())]
    chunks += [_chunk(b"IDAT", b"".join([*data, packer.flush()])), _chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def _filtered(pixels_HWC: U8) -> Iterator[bytes]:
    """The rows with their filter byte in front, about a megabyte at a time."""
    height, width, channels = pixels_HWC.shape
    rows = pixels_HWC.reshape(height, width * channels)
    step = max(1, _BLOCK_BYTES // max(1, width * channels))
    for start in range(0, height, step):
        block = rows[start : start + step]
        out = np.empty((len(block), width * channels + 1), np.uint8)
        out[:, 0] = _FILTER_UP
        out[0, 1:] = block[0] - rows[start - 1] if start else block[0]
        np.subtract(block[1:], block[:-1], out=out[1:, 1:])
        yield out.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(key: str, value: str) -> bytes:
    keyword = key.encode("latin-1")
    if not 1 <= len(keyword) <= 79:
        raise ValueError(f"a PNG keyword has 1 to 79 characters, got {len(keyword)}")
    try:
        return _chunk(b"tEXt", keyword + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode("utf-8"))
