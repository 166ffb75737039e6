"""What a training of an upscaler needs beside that of a GAN: reduced images, images left out, and PSNR.

An image is reduced by antialiased bicubic interpolation, rounded to the 256 levels of a file, and the upscaler learns
to undo that. Images of another origin (compressed, blurred, noisy) are not what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.limits import decibels

if TYPE_CHECKING:
    from gan_serve.runtime.generator import Generator
    from gan_trainer.data import ImageDataset

BATCH = 32

Enlarge = Callable[[U8], U8]
"""uint8 (n, H, W, C) → (n, scale H, scale W, C)."""


def reduced(images_NCHW: Tensor, scale: int) -> Tensor:
    """Images in [-1, 1], as an upscaler gets them: (N, C, H / scale, W / scale)."""
    small = _resized(images_NCHW.float(), 1 / scale)
    return ((small + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def reduced_pixels(pixels_NHWC: U8, scale: int) -> U8:
    """The same of pixels."""
    return _as_pixels(_resized(_as_images(pixels_NHWC), 1 / scale))


def bicubic(scale: int) -> Enlarge:
    """What an upscaler is compared with: bicubic interpolation."""
    return lambda pixels_NHWC: _as_pixels(_resized(_as_images(pixels_NHWC), scale))


def _resized(images_NCHW: Tensor, factor: float) -> Tensor:
    return torch.nn.functional.interpolate(images_NCHW, scale_factor=factor, mode="bicubic", antialias=factor < 1)


def _as_images(pixels_NHWC: U8) -> Tensor:
    return torch.from_numpy(np.array(pixels_NHWC)).permute(0, 3, 1, 2).float()


def _as_pixels(images_NCHW: Tensor) -> U8:
    pixels_NHWC: U8 = images_NCHW.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels_NHWC


@dataclass(frozen=True)
class Enlarged:
    """How near enlarged images are to the originals: `psnr_db` of the mean squared error over all of them, and the same
    of bicubic interpolation."""

    images: int
    psnr_db: float
    bicubic_psnr_db: float


def measure(enlarge: Enlarge, originals_NHWC: U8, scale: int) -> Enlarged:
    """Reduces the originals, uint8 (n, H, W, C), enlarges them again, and compares."""
    errors = [
        [_squared(way(reduced_pixels(batch, scale)), batch) for way in (enlarge, bicubic(scale))]
        for batch in _batches(originals_NHWC)
    ]
    mine, theirs = (psnr_db(float(sum(column)) / originals_NHWC.size) for column in zip(*errors, strict=True))
    return Enlarged(len(originals_NHWC), mine, theirs)


def psnr_db(mean_squared_error: float) -> float:
    """`decibels`, at most the 120 of an error of 0.000255 levels, which equal images get: JSON has no infinity."""
    return min(decibels(mean_squared_error), 120.0)


def _batches(pixels_NHWC: U8) -> Iterator[U8]:
    for start in range(0, len(pixels_NHWC), BATCH):
        yield pixels_NHWC[start : start + BATCH]


def _squared(a_NHWC: U8, b_NHWC: U8) -> float:
    return float(np.square(a_NHWC.astype(np.int32) - b_NHWC).sum(dtype=np.float64))


def side_by_side(enlarge: Enlarge, originals_NHWC: U8, scale: int) -> U8:
    """For each original four images: reduced (its pixels as squares), bicubic, `enlarge`'s, the original."""
    low_NHWC = reduced_pixels(originals_NHWC, scale)
    squares_NHWC = low_NHWC.repeat(scale, 1).repeat(scale, 2)
    columns = (squares_NHWC, bicubic(scale)(low_NHWC), enlarge(low_NHWC), originals_NHWC)
    made: U8 = np.stack(columns, 1).reshape(-1, *originals_NHWC.shape[1:])
    return made


def check_alike(names: Sequence[Path], opened: Sequence[Any]) -> list[Generator]:
    """`opened`, generators or sets of shards, if they are upscalers by one factor. Raises `GanportError` otherwise."""
    found = [generator.contract.interface for generator in opened]
    for name, interface in zip(names, found, strict=True):
        taken = interface.input
        if taken is None or taken.scale == 1 or taken.channels != interface.channels:
            raise GanportError(
                f"{name} is no upscaler", hint="eval takes upscalers, or generators of new images, and not both at once"
            )
        if (taken.scale, taken.channels) != (found[0].input.scale, found[0].channels):
            raise GanportError(
                f"{name} is another kind of upscaler than {names[0]}", hint="evaluate them in separate commands"
            )
    return list(opened)


def measured(upscalers: Sequence[Generator], dataset: ImageDataset, n: int) -> list[Json]:
    """What each upscaler does on the images of `dataset` that its training left out, or, of other data, on `n` images:
    `Enlarged`'s fields, and "which" images they are."""
    from gan_trainer.config import left_out

    rows = []
    for generator in upscalers:
        interface, trained = generator.contract.interface, generator.contract.training.get("data")
        assert interface.input is not None
        own = isinstance(trained, dict) and trained.get("fingerprint") == dataset.fingerprint
        chosen = left_out(len(dataset)) if own else np.arange(min(n, len(dataset)))
        found = measure(generator.run_pixels, dataset.pixels_NHWC[chosen], interface.input.scale)
        which = "that their training left out" if own else "of these data"
        rows.append({"sha256": generator.sha256, "data": dataset.name, "which": which, **vars(found)})
    return rows
