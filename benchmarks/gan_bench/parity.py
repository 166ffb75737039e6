"""Whether a row draws the right pixels: each timed batch is compared with what the CPU provider drew one by one.

The reference is this file on the CPU provider, not PyTorch: that the file draws what PyTorch draws is the export's
proof (and `gan-gen --selftest`). Here the question is whether this provider, with these threads and this batch size,
draws the same. The batches that are timed hold the reference seeds over and over, so that what is timed is what
is compared, in every place of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_serve.limits import limits_for

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

REFERENCE_SEEDS = 8


@dataclass(frozen=True)
class Parity:
    """How far pixels are from the reference: the largest difference in LSB, and the sum of squares over `count`."""

    max_lsb: int = 0
    squares: int = 0
    count: int = 0

    def __add__(self, other: Parity) -> Parity:
        return Parity(max(self.max_lsb, other.max_lsb), self.squares + other.squares, self.count + other.count)

    @property
    def psnr_db(self) -> float | None:
        """Peak signal-to-noise ratio in dB against 255; None for equal pixels (it would be infinite)."""
        return 10 * math.log10(255.0**2 * self.count / self.squares) if self.squares else None


def seed_batches(batch: int) -> list[I64]:
    """The batches that are timed in turn: int64 (batch,) each, together holding every reference seed."""
    count = max(2, -(-REFERENCE_SEEDS // batch))
    return [(np.arange(batch, dtype=np.int64) + index * batch) % REFERENCE_SEEDS for index in range(count)]


def compare(pixels_NHWC: U8, seeds: I64, reference_NHWC: U8) -> Parity:
    """Compares the images of `seeds` with `reference_NHWC[seed]`, image by image, so that the peak memory stays.

    Raises `ValueError` when the pixels are not uint8 (len(seeds), H, W, C) as the reference's.
    """
    expected = (len(seeds), *reference_NHWC.shape[1:])
    if pixels_NHWC.shape != expected or pixels_NHWC.dtype != np.uint8:
        raise ValueError(f"expected pixels uint8 {expected}, got {pixels_NHWC.dtype} {pixels_NHWC.shape}")
    total = Parity()
    for pixels, seed in zip(pixels_NHWC, seeds, strict=True):
        if np.array_equal(pixels, reference_NHWC[seed]):
            total += Parity(count=pixels.size)
            continue
        difference = np.abs(pixels.astype(np.int32) - reference_NHWC[seed].astype(np.int32))
        total += Parity(int(difference.max()), int((difference**2).sum()), pixels.size)
    return total


def verdict(parity: Parity, precision: str) -> str:
    """The empty string when the pixels keep the limits of their precision, else one sentence."""
    limits = limits_for(precision)
    psnr = math.inf if parity.psnr_db is None else parity.psnr_db
    if limits.allows(max_lsb=parity.max_lsb, psnr_db=psnr):
        return ""
    return f"pixels differ from the CPU provider's by up to {parity.max_lsb} LSB, PSNR {psnr:.1f} dB; {limits} expected"
