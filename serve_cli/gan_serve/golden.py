"""The golden set: a few seeds and the images they must give, inside the file, so that any machine can prove it.

The exporter keeps what PyTorch drew; `gan-gen --selftest` draws the same seeds with whatever runs the file now and
compares within the limits of the file's precision. Images over 64 pixels a side are kept at a fraction of their size,
as area means: enough to catch a wrong generator, little enough to carry along.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_serve import limits
from gan_serve.contract import Golden
from gan_serve.errors import ContractError, GanportError
from gan_serve.generator import Generator, check_drawn
from gan_serve.images import encode_png
from gan_serve.latents import latents

U8 = npt.NDArray[np.uint8]

MAX_SIDE = 64


@dataclass(frozen=True)
class GoldenResult:
    """One golden image drawn again. `psnr_db` is infinite when no pixel differs; NaN or infinity in `image` fails."""

    seed: int
    label: int | None
    max_lsb: int
    psnr_db: float
    ok: bool


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
            found = (picture.height, picture.width, {"L": 1, "RGB": 3}.get(picture.mode, 0))
            if found == shape_HWC:
                pixels: U8 = np.asarray(picture)
    except Exception as error:  # Pillow raises a dozen classes, some of its own
        raise ContractError(f"{which} is damaged", hint="export it again") from error
    if found != shape_HWC:
        kind = f"{found[:2]} in Pillow's mode {picture.mode}"
        raise ContractError(f"{which} is {kind}, expected {shape_HWC}", hint="export it again")
    return pixels.reshape(shape_HWC)


def check_golden(generator: Generator, entries: Iterable[Golden] | None = None) -> Sequence[GoldenResult]:
    """Draws the golden set again and compares, within the limits of `generator.held_to`.

    entries   what to compare with; None: the file's own set, and a `GanportError` when it carries none.
    Raises `ContractError` for an entry that is damaged or of another size. A difference is no error but a result
    with `ok` False.
    """
    wanted = tuple(generator.contract.golden if entries is None else entries)
    if not wanted:
        raise GanportError(
            "the file carries no golden set, so there is nothing to compare with",
            hint="export it with gan-export, which keeps a few expected images",
        )
    allowed = limits.limits_for(generator.held_to)
    return [_check(generator, entry, allowed) for entry in wanted]


def _check(generator: Generator, entry: Golden, allowed: limits.Limits) -> GoldenResult:
    contract = generator.contract
    z = latents([entry.seed], contract.z_dim, contract.latent)
    label = None
    if contract.conditional:
        if entry.label is not None and not 0 <= entry.label < contract.n_classes:
            raise ContractError(
                f"the golden image of seed {entry.seed} is of class {entry.label}, classes are 0 … "
                f"{contract.n_classes - 1}",
                hint="export it again",
            )
        label = np.array([0 if entry.label is None else entry.label], np.int64)
    c, h, w = contract.image
    if entry.scale < 1:
        raise ContractError(f"the golden image of seed {entry.seed} has scale {entry.scale}", hint="export it again")
    expected = decode(entry, (h // entry.scale, w // entry.scale, c))
    image_NCHW, pixels_NHWC = generator.run(z, label)
    check_drawn(contract, 1, image_NCHW=image_NCHW, pixels_NHWC=pixels_NHWC)
    drawn = reduce(pixels_NHWC[0], entry.scale)
    finite = bool(np.isfinite(image_NCHW).all())
    lsb, psnr = limits.max_lsb(drawn, expected), limits.psnr_db(drawn, expected)
    return GoldenResult(entry.seed, entry.label, lsb, psnr, finite and allowed.allows(max_lsb=lsb, psnr_db=psnr))


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
