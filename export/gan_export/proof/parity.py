"""Parity: the file draws what PyTorch draws, for every latent, batch and class of the proof.

Each case is drawn once through the runtime that `gan-gen` uses, shown to those who look at it, and forgotten: what is
kept is numbers, whatever the number and size of the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gan_core import limits
from gan_core.arrays import F32, U8
from gan_core.images import to_pixels
from gan_core.limits import Limits
from gan_export.proof import Check, at_most
from gan_export.proof.cases import BATCHES, LEAST_BATCH, Case
from gan_export.proof.reference import Reference
from gan_serve.runtime import check_drawn
from gan_serve.runtime.generator import Generator

SECTION = "parity"
PSNR_CEILING_DB = 200.0
"""Reported for equal images, whose PSNR is infinite, which JSON cannot say."""

Failure = tuple[Case, str]
"""A case that did not run, and why."""


class Observer(Protocol):
    """Somebody who looks at the images of a case: `image` (n, C, H, W), `pixels` (n, H, W, C), not to be kept."""

    def add(self, case: Case, image_NCHW: F32, pixels_NHWC: U8) -> None: ...


def run_cases(generator: Generator, cases: Iterable[Case], observers: Iterable[Observer]) -> tuple[Failure, ...]:
    """Runs every case; one that raises, or makes something else than the contract says, is a failure."""
    failures: list[Failure] = []
    watching = tuple(observers)
    for case in cases:
        try:
            image, pixels = generator.with_options(**case.options).run(case.z, case.label)
            check_drawn(generator.contract, case.z.shape, image_NCHW=image, pixels_NHWC=pixels)
        except Exception as error:  # whatever the runtime raises on a batch it cannot run is a finding
            text = " ".join(str(error).split())
            failures.append((case, text if len(text) <= 160 else f"{text[:157]}…"))
            continue
        for observer in watching:
            observer.add(case, image, pixels)
    return tuple(failures)


def check_batches(cases: Iterable[Case], failures: tuple[Failure, ...]) -> Check:
    """Whether every batch size ran and made the shapes and types of the contract."""
    largest = max((len(case.z) for case in cases if case.kind == "ordinary"), default=0)
    wanted = " ".join(str(size) for size in BATCHES if size <= largest)
    if not failures:
        return Check("structure", "batch sizes", True, wanted, "all run")
    case, message = failures[0]
    value = f"fails at {' '.join(map(str, sorted({len(case.z) for case, _ in failures})))}"
    return Check("structure", "batch sizes", False, value, f"{wanted} run", "", f"{case.name}: {message}")


@dataclass
class Worst:
    """The largest value seen, and on which row of which case."""

    value: float = 0.0
    where: str = ""

    def see(self, value: float, case: Case, row: int) -> None:
        if value > self.value:
            self.value, self.where = value, f"{case.rows[row]}, {case.name}"


@dataclass
class Differences:
    """How far what a file draws is from what `reference` draws. NaN on either side counts as an infinite difference.

    image    max |Δ| of `image`
    pixels   max |Δ| of `pixels`, in LSB
    squares  the largest mean square of an image's Δ of `pixels`
    images   how many were compared
    """

    reference: Reference
    image: Worst = field(default_factory=Worst)
    pixels: Worst = field(default_factory=Worst)
    squares: Worst = field(default_factory=Worst)
    images: int = 0
    _sum_of_squares: float = 0.0

    def add(self, case: Case, image_NCHW: F32, pixels_NHWC: U8) -> None:
        """As `Observer.add`. Image by image: the temporaries are as large as one image, not as a batch."""
        value_range = self.reference.source.interface.value_range
        for row, expected_CHW in enumerate(self.reference.images(case)):
            with np.errstate(invalid="ignore"):
                difference = float(np.abs(image_NCHW[row].astype(np.float64) - expected_CHW).max())
            self.image.see(math.inf if math.isnan(difference) else difference, case, row)
            expected_HWC = to_pixels(expected_CHW[None], value_range)[0]
            self.pixels.see(limits.max_lsb(pixels_NHWC[row], expected_HWC), case, row)
            square = limits.mean_square(pixels_NHWC[row], expected_HWC)
            self.squares.see(square, case, row)
            self._sum_of_squares += square
            self.images += 1

    @property
    def psnr_db(self) -> float:
        """The PSNR of `pixels` over all images."""
        return min(PSNR_CEILING_DB, limits.decibels(self._sum_of_squares / max(self.images, 1)))

    @property
    def worst_psnr_db(self) -> float:
        """The PSNR of the image that is furthest off; `squares.where` says which."""
        return min(PSNR_CEILING_DB, limits.decibels(self.squares.value))

    def summary(self) -> dict[str, Any]:
        """What the artefact's contract keeps of it (`gan.parity`)."""
        return {
            "image_max_abs": self.image.value,
            "pixels_max_lsb": int(self.pixels.value),
            "psnr_db": round(self.psnr_db, 2),
            "worst_psnr_db": round(self.worst_psnr_db, 2),
            "images": self.images,
        }


def check_styles(generator: Generator, reference: Reference) -> list[Check]:
    """Whether the styles (w) of a few seeds are PyTorch's: max |Δ|, relative to the largest |w|. The limit is that of
    fp32 at every precision, because what makes them stays in float32."""
    interface = reference.source.interface
    if interface.styles is None or reference.source.spec is None:
        return []
    case = next(case for case in reference.cases if len(case.z) == LEAST_BATCH)
    expected = reference.styles(case)
    with np.errstate(invalid="ignore"):
        difference = np.abs(generator.styles_of(case.z, case.label) - expected).max() / np.abs(expected).max()
    value = float(np.nan_to_num(difference, nan=math.inf))
    return [at_most(SECTION, "styles", value, limits.LIMITS["fp32"].max_abs, "max |Δ| / max |w|")]


def check_parity(found: Differences, allowed: Limits, tolerance: float | None) -> list[Check]:
    """Holds what was found to the limits; a number without a limit at this precision is reported.

    `tolerance` is the limit on |Δ| in the units of `image` (see `gan_export.proof.prove.tolerance_of`).
    """
    least_db, worst_db = allowed.min_psnr_db, found.worst_psnr_db
    least = "" if least_db is None else f">= {least_db:g}"
    ok, where = least_db is None or worst_db >= least_db, found.squares.where or "equal"
    checks = [
        Check(SECTION, "images compared", found.images > 0, found.images, ">= 1"),
        at_most(SECTION, "image values", found.image.value, tolerance, "max |Δ|", found.image.where),
        at_most(SECTION, "pixel values", int(found.pixels.value), allowed.max_lsb, "LSB", found.pixels.where),
        Check(SECTION, "worst PSNR", ok, worst_db, least, "dB", where),
    ]
    if least_db is not None:
        cost = f"{found.images} images, what it costs"
        checks.append(Check(SECTION, "PSNR of all", True, found.psnr_db, "", "dB", cost))
    return checks
