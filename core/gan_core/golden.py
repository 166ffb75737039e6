"""The golden set: a few seeds and the images they must give, inside the file, so that any machine can prove it.

The exporter keeps what PyTorch drew; `gan-gen --selftest` draws the same seeds with whatever runs the file now and
compares within the limits of the file's precision. Images over 64 pixels a side are kept at a fraction of their size,
as area means: enough to catch a wrong generator, little enough to carry along.

A generator that takes images is given made ones (`example_images`), which a seed names as it names a latent.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np

from gan_core.arrays import F32, I64, U8, U32
from gan_core.contract import Golden
from gan_core.errors import ContractError
from gan_core.images import encode_png
from gan_core.interface import Interface
from gan_core.latents import check_seeds, philox4x32

MAX_SIDE = 64
_CELL, _NOISE = 8, 16


def inputs(interface: Interface, seeds: Iterable[int] | I64) -> F32 | U8:
    """What the images of `seeds` are made of: their latents, or uint8 (n, H, W, C) where a generator takes images."""
    if interface.input is None:
        return interface.latents(seeds)
    channels, height, width = interface.input_shape
    return example_images(seeds, height, width, channels)


def example_images(seeds: Iterable[int] | I64, height: int, width: int, channels: int) -> U8:
    """The example images of `seeds`, uint8 (n, height, width, channels): smooth colours and a little noise.

    In whole numbers, so that every machine makes the same. A word of Philox4x32-10 with the seed as its key and the
    counter (column, row, channel, 1) gives a corner of a cell of 8x8 pixels its value, by its highest 8 bits. Between
    corners the value is interpolated in both directions, rounded down. The counter (column, row, channel, 2) adds each
    pixel's noise, -8 … 7, by the word's highest 4 bits. What is below 0 or above 255 is clamped.
    """
    keys = check_seeds(seeds)
    rows, columns = np.arange(height), np.arange(width)
    corners = _words(keys, height // _CELL + 2, width // _CELL + 2, channels, 1) >> 24
    (cell_y, y), (cell_x, x) = np.divmod(rows, _CELL), np.divmod(columns, _CELL)
    along = corners[:, :, cell_x] * (_CELL - x)[:, None] + corners[:, :, cell_x + 1] * x[:, None]
    smooth = (along[:, cell_y] * (_CELL - y)[:, None, None] + along[:, cell_y + 1] * y[:, None, None]) // _CELL**2
    noise = (_words(keys, height, width, channels, 2) >> 28) - _NOISE // 2
    images: U8 = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    return images


def _words(seeds: I64, height: int, width: int, channels: int, round_index: int) -> I64:
    """The first word of each counter, int64 (n, height, width, channels)."""
    shape = (len(seeds), height, width, channels)
    row, column, channel = (np.arange(side, dtype=np.uint32) for side in (height, width, channels))
    counter: tuple[U32, U32, U32, U32] = (
        np.broadcast_to(column[:, None], shape),
        np.broadcast_to(row[:, None, None], shape),
        np.broadcast_to(channel, shape),
        np.full(shape, round_index, np.uint32),
    )
    low, high = ((part & 0xFFFFFFFF).astype(np.uint32)[:, None, None, None] for part in (seeds, seeds >> 32))
    words: I64 = philox4x32(counter, (low, high))[0].astype(np.int64)
    return words


def golden_entry(seed: int, label: int | None, pixels_HWC: U8) -> Golden:
    """The golden entry of one image: uint8 (H, W, C), reduced to at most 64 pixels a side."""
    scale = scale_for(pixels_HWC.shape[0], pixels_HWC.shape[1])
    png = base64.b64encode(encode_png(reduce(pixels_HWC, scale), compress_level=9)).decode()
    return Golden(seed=int(seed), label=None if label is None else int(label), scale=scale, png=png)


def scale_for(height: int, width: int) -> int:
    """The smallest whole factor that brings both sides to at most 64 pixels; 1 for an image that is that small."""
    return -(-max(height, width) // MAX_SIDE)


def reduce(pixels_HWC: U8, scale: int) -> U8:
    """Area means over scale x scale pixels, rounded half up, in whole numbers.

    What is left over at the right and the bottom, when `scale` does not divide the sides, is left out.
    """
    if scale == 1:
        return pixels_HWC
    h, w, c = pixels_HWC.shape
    rows, cols = h // scale, w // scale
    blocks = pixels_HWC[: rows * scale, : cols * scale].reshape(rows, scale, cols, scale, c)
    area = scale * scale
    means: U8 = ((2 * blocks.sum(axis=(1, 3), dtype=np.int64) + area) // (2 * area)).astype(np.uint8)
    return means


def decode(golden: Golden, shape_HWC: tuple[int, int, int]) -> U8:
    """The expected image of an entry, uint8, of `shape_HWC`: its header is looked at before it is unpacked.

    Raises `ContractError` when it is damaged, or of another size.
    """
    from PIL import Image

    which = f"the golden image of seed {golden.seed}"
    try:
        with Image.open(io.BytesIO(base64.b64decode(golden.png, validate=True)), formats=["PNG"]) as picture:
            found = (picture.height, picture.width, {"L": 1, "RGB": 3, "RGBA": 4}.get(picture.mode, 0))
            if found == shape_HWC:
                pixels: U8 = np.asarray(picture)
    except Exception as error:  # Pillow raises a dozen classes, some of its own
        raise ContractError(f"{which} is damaged", hint="export it again") from error
    if found != shape_HWC:
        kind = f"{found[:2]} in Pillow's mode {picture.mode}"
        raise ContractError(f"{which} is {kind}, expected {shape_HWC}", hint="export it again")
    return pixels.reshape(shape_HWC)
