"""How far a file may be from what PyTorch draws: one table for the exporter's proof and for the golden set of a file.

The unit of a pixel is the LSB, one of its 256 steps. fp32 has to agree in each pixel; lower precisions move many
pixels a little, so they are held to the peak signal-to-noise ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gan_core.arrays import U8
from gan_core.errors import ContractError


@dataclass(frozen=True)
class Limits:
    """None where a precision has no such limit.

    max_abs      largest |Δ| of `image`, in the units of its value range
    max_lsb      largest |Δ| of `pixels`
    min_psnr_db  smallest peak signal-to-noise ratio of `pixels`, in dB
    """

    max_abs: float | None = None
    max_lsb: int | None = None
    min_psnr_db: float | None = None

    def allows(self, *, max_lsb: int, psnr_db: float) -> bool:
        """Whether pixels that differ so are the same images at this precision. NaN never is."""
        if self.max_lsb is not None and max_lsb > self.max_lsb:
            return False
        return self.min_psnr_db is None or psnr_db >= self.min_psnr_db

    def __str__(self) -> str:
        """The limits on pixels, as in "at most 1 LSB" or "at least 40 dB"."""
        parts = [] if self.max_lsb is None else [f"at most {self.max_lsb} LSB"]
        parts += [] if self.min_psnr_db is None else [f"at least {self.min_psnr_db:g} dB"]
        return " and ".join(parts)


LIMITS: dict[str, Limits] = {
    "fp32": Limits(max_abs=1e-4, max_lsb=1),
    "fp16": Limits(min_psnr_db=40.0),
    "int8": Limits(min_psnr_db=30.0),
}


def stricter(precision: str, other: str) -> str:
    """Of two precisions the one that is held to narrower limits."""
    order = list(LIMITS)
    return min(precision, other, key=order.index)


def limits_for(precision: str) -> Limits:
    """The limits of a precision. Raises `ContractError` for one that has none."""
    if precision not in LIMITS:
        raise ContractError(f"precision must be one of {', '.join(LIMITS)}, got {precision!r}", hint="export it again")
    return LIMITS[precision]


def max_lsb(pixels: U8, expected: U8) -> int:
    """The largest difference of two equally shaped arrays of pixels, in LSB."""
    return int(np.abs(pixels.astype(np.int16) - expected.astype(np.int16)).max(initial=0))


def mean_square(pixels: U8, expected: U8) -> float:
    """The mean squared difference of two equally shaped arrays of pixels, in LSB²; 0 for empty ones."""
    difference = pixels.astype(np.int16) - expected.astype(np.int16)
    return float(np.square(difference, dtype=np.float64).mean()) if difference.size else 0.0


def decibels(mean_square: float) -> float:
    """The peak signal-to-noise ratio of a mean squared difference of pixels: 10 log10(255² / it); infinite for 0."""
    return 10 * math.log10(255.0**2 / mean_square) if mean_square else math.inf


def psnr_db(pixels: U8, expected: U8) -> float:
    """The peak signal-to-noise ratio of two equally shaped arrays of pixels, in dB; infinite for equal ones."""
    return decibels(mean_square(pixels, expected))
