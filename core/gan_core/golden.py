"""The golden set: a few seeds and the images they must give, inside the file, so that any machine can prove it.

The exporter keeps what PyTorch drew; `gan-gen --selftest` draws the same seeds with whatever runs the file now and
compares within the limits of the file's precision. Images over 64 pixels a side are kept at a fraction of their size,
as area means: enough to catch a wrong generator, little enough to carry along.
"""

from __future__ import annotations

import base64
import io

import numpy as np

from gan_core.arrays import U8
from gan_core.contract import Golden
from gan_core.errors import ContractError
from gan_core.images import encode_png

MAX_SIDE = 64


def golden_entry(seed: int, label: int | None, pixels_HWC: U8) -> Golden:
    """The golden entry of one image: uint8 (H, W, C), reduced to at most 64 pixels a side."""
    scale = scale_for(pixels_HWC.shape[0], pixels_HWC.shape[1])
    png = encode_png(reduce(pixels_HWC, scale), compress_level=9)
    return Golden(seed=int(seed), label=None if label is None else int(label), scale=scale, png=_to_text(png))


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


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
