"""Parity: the file draws what PyTorch draws, for every latent, batch and class of the proof."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_core.images import to_pixels
from gan_core.limits import Limits
from gan_export.proof.reference import Reference
from gan_export.proof.report import Check
from gan_export.proof.runs import Runs
from gan_serve.runtime.generator import F32

SECTION = "parity"
PSNR_CEILING_DB = 200.0
"""Reported for equal images, whose PSNR is infinite, which JSON cannot say."""


@dataclass(frozen=True)
class Worst:
    """The largest value seen, and on which row of which case."""

    value: float = 0.0
    where: str = ""

    def against(self, per_row: F32, rows: tuple[str, ...], batch: str) -> Worst:
        worst = int(np.argmax(per_row))
        value = float(per_row[worst])
        return Worst(value, f"{rows[worst]}, {batch}") if value > self.value else self


@dataclass(frozen=True)
class Parity:
    """max |Δ| of `image`, max |Δ| of `pixels` in LSB, PSNR of `pixels` over all images and of the worst image."""

    image: Worst
    pixels: Worst
    psnr_db: float
    worst_psnr_db: float
    worst_psnr_where: str
    images: int

    def summary(self) -> dict[str, Any]:
        """What the artefact's contract keeps of it (`gan.parity`)."""
        return {
            "image_max_abs": self.image.value,
            "pixels_max_lsb": int(self.pixels.value),
            "psnr_db": round(self.psnr_db, 2),
            "worst_psnr_db": round(self.worst_psnr_db, 2),
            "images": self.images,
        }


def measure(runs: Runs, reference: Reference) -> Parity:
    """Compares what ran with what PyTorch drew. NaN on either side counts as an infinite difference."""
    image, pixels = Worst(), Worst()
    squares, values, count = 0.0, 0, 0
    least_db, least_where = PSNR_CEILING_DB, ""
    for drawn in runs.drawn:
        case = drawn.case
        expected = reference.images[drawn.index]
        n = len(expected)
        with np.errstate(invalid="ignore"):
            difference = np.abs(drawn.image.astype(np.float64) - expected).reshape(n, -1).max(axis=1)
        image = image.against(np.nan_to_num(difference, nan=math.inf, posinf=math.inf), case.rows, case.name)
        expected_pixels = to_pixels(expected, reference.source.value_range)
        lsb = np.abs(drawn.pixels.astype(np.int16) - expected_pixels.astype(np.int16)).reshape(n, -1)
        pixels = pixels.against(lsb.max(axis=1).astype(np.float32), case.rows, case.name)
        mean_squares = np.square(lsb.astype(np.float64)).mean(axis=1)
        row = int(mean_squares.argmax())
        if (db := _db(float(mean_squares[row]))) < least_db:
            least_db, least_where = db, f"{case.rows[row]}, {case.name}"
        squares += float(mean_squares.sum()) * lsb.shape[1]
        values += lsb.size
        count += n
    overall = _db(squares / values) if values else PSNR_CEILING_DB
    return Parity(image, pixels, overall, least_db, least_where, count)


def check_parity(parity: Parity, limits: Limits, tolerance: float | None) -> list[Check]:
    """Holds the measured parity to the limits; a number without a limit at this precision is reported.

    `tolerance` is the limit on |Δ| in the units of `image` (see `gan_export.proof.tolerance`).
    """
    drew = Check(SECTION, "images compared", parity.images > 0, parity.images, ">= 1")
    image = Check(
        SECTION,
        "image values",
        tolerance is None or parity.image.value <= tolerance,
        parity.image.value,
        "" if tolerance is None else f"<= {tolerance:.3g}",
        "max |Δ|",
        parity.image.where,
    )
    pixels = Check(
        SECTION,
        "pixel values",
        limits.max_lsb is None or parity.pixels.value <= limits.max_lsb,
        int(parity.pixels.value),
        "" if limits.max_lsb is None else f"<= {limits.max_lsb}",
        "LSB",
        parity.pixels.where,
    )
    psnr = Check(
        SECTION,
        "worst PSNR",
        limits.min_psnr_db is None or parity.worst_psnr_db >= limits.min_psnr_db,
        parity.worst_psnr_db,
        "" if limits.min_psnr_db is None else f">= {limits.min_psnr_db:g}",
        "dB",
        parity.worst_psnr_where or "equal",
    )
    if limits.min_psnr_db is None:
        return [drew, image, pixels, psnr]
    overall = Check(SECTION, "PSNR of all", True, parity.psnr_db, "", "dB", f"{parity.images} images, what it costs")
    return [drew, image, pixels, psnr, overall]


def _db(mean_square: float) -> float:
    return PSNR_CEILING_DB if mean_square == 0 else min(PSNR_CEILING_DB, 10 * math.log10(255.0**2 / mean_square))
