"""Whether a row draws the right pixels: each timed batch is compared with what the reference drew one by one.

The reference is the checkpoint in PyTorch on the CPU where there is one, else the first fp32 file on the CPU provider
(that the file draws what PyTorch draws is the export's proof, and `gan-gen --selftest`). The batches that are timed
hold the reference seeds over and over, so that what is timed is what is compared, in every place of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gan_core.arrays import F32, I64, U8
from gan_core.limits import decibels, limits_for

REFERENCE_SEEDS = 8


@dataclass(frozen=True)
class Difference:
    """How far pixels are from the reference.

    max_lsb, squares, count   of the pixels: the largest difference in LSB, the sum of squares, and over how many
    image_max_abs             of the floats: the largest |Δ| in units of the value range; None where they were not seen
    """

    max_lsb: int = 0
    squares: int = 0
    count: int = 0
    image_max_abs: float | None = None

    def __add__(self, other: Difference) -> Difference:
        seen = [value for value in (self.image_max_abs, other.image_max_abs) if value is not None]
        return Difference(
            max(self.max_lsb, other.max_lsb),
            self.squares + other.squares,
            self.count + other.count,
            max(seen) if seen else None,
        )

    @property
    def psnr_db(self) -> float | None:
        """Peak signal-to-noise ratio in dB against 255; None for equal pixels (it would be infinite)."""
        return decibels(self.squares / self.count) if self.squares else None


def seed_batches(batch: int) -> list[I64]:
    """The batches that are timed in turn: int64 (batch,) each, together holding every reference seed."""
    count = max(2, -(-REFERENCE_SEEDS // batch))
    return [(np.arange(batch, dtype=np.int64) + index * batch) % REFERENCE_SEEDS for index in range(count)]


def compare(pixels_NHWC: U8, seeds: I64, reference_NHWC: U8) -> Difference:
    """Compares the images of `seeds` with `reference_NHWC[seed]`, image by image, so that the peak memory stays.

    Raises `ValueError` when the pixels are not uint8 (len(seeds), H, W, C) as the reference's.
    """
    expected = (len(seeds), *reference_NHWC.shape[1:])
    if pixels_NHWC.shape != expected or pixels_NHWC.dtype != np.uint8:
        raise ValueError(f"expected pixels uint8 {expected}, got {pixels_NHWC.dtype} {pixels_NHWC.shape}")
    total = Difference()
    for pixels, seed in zip(pixels_NHWC, seeds, strict=True):
        if np.array_equal(pixels, reference_NHWC[seed]):
            total += Difference(count=pixels.size)
            continue
        difference = np.abs(pixels.astype(np.int32) - reference_NHWC[seed].astype(np.int32))
        total += Difference(int(difference.max()), int((difference**2).sum()), pixels.size)
    return total


def compare_floats(image_NCHW: F32, seeds: I64, reference_NCHW: F32) -> float:
    """The largest |Δ| of the images of `seeds` and `reference_NCHW[seed]`; infinite where one is NaN."""
    most = 0.0
    for image, seed in zip(image_NCHW, seeds, strict=True):
        difference = float(np.abs(image - reference_NCHW[seed]).max())
        most = max(most, difference if math.isfinite(difference) else math.inf)
    return most


def verdict(seen: Difference, precision: str, reference: str = "the CPU provider") -> str:
    """The empty string when the pixels keep the limits of their precision, else one sentence.

    `precision` "tf32", which rounds products to as many bits as fp16 has, is held to fp16's limits.
    """
    limits = limits_for("fp16" if precision == "tf32" else precision)
    if seen.image_max_abs is not None and not math.isfinite(seen.image_max_abs):
        return "its images hold NaN or infinity"
    psnr = math.inf if seen.psnr_db is None else seen.psnr_db
    if limits.allows(max_lsb=seen.max_lsb, psnr_db=psnr):
        return ""
    return f"pixels differ from {reference}'s by up to {seen.max_lsb} LSB, PSNR {psnr:.1f} dB; {limits} expected"
