"""What must hold of any generator file, with no PyTorch beside it: seeds, labels, repeats, neighbours, no NaN."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, F64, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.images import to_pixels
from gan_core.limits import max_lsb
from gan_export.proof import Check, at_most
from gan_export.proof.cases import Case, alone
from gan_export.proof.parity import Worst
from gan_serve.runtime.generator import Generator

SECTION = "meaning"

MAX_OUTSIDE = 0.25
"""Share of values that may lie outside `value_range`: a generator without a last activation overshoots a little."""
FLAT_LSB = 2
"""An image whose pixels span no more than this looks like one colour."""
SAME = 1e-6
"""Images of two classes that differ by less than this share of the value range are the same image."""

_BLOCKS = 8
"""Blocks a side whose means tell two images apart."""


@dataclass(frozen=True, eq=False)
class Widest:
    """The largest batch of ordinary latents that ran: a digest of each of its images, and a few of them whole."""

    case: Case
    digests: tuple[bytes, ...]
    images: dict[int, F32]


@dataclass(frozen=True, eq=False)
class AsClass:
    """Seed 0 as one class: the row's latent, label and name, and the means of its image's blocks."""

    z: F32
    label: I64
    row: str
    means: F64


class Statistics:
    """What is kept of the images that a file draws of `cases` (a `gan_export.proof.parity.Observer`): numbers, a digest
    of every seed's pixels, the `Widest` batch, and every class (`AsClass`)."""

    def __init__(self, contract: Contract, cases: Iterable[Case]) -> None:
        self.value_range, self.n_classes = contract.interface.value_range, contract.interface.n_classes
        drawn = [case.label for case in cases if case.kind == "class" and case.label is not None]
        self.planned_classes = len(set(np.concatenate(drawn).tolist())) if drawn else 0
        self.not_finite, self.first_not_finite = 0, ""
        self.unrounded = Worst()
        self.values, self.outside = 0, 0
        self.low, self.high = math.inf, -math.inf
        self.seeds: dict[str, tuple[bytes, int]] = {}
        self.widest: Widest | None = None
        self.classes: dict[int, AsClass] = {}

    def add(self, case: Case, image_NCHW: F32, pixels_NHWC: U8) -> None:
        """As `Observer.add`. Image by image: the temporaries are as large as one image, not as a batch."""
        for row, (image_CHW, pixels_HWC) in enumerate(zip(image_NCHW, pixels_NHWC, strict=True)):
            bad = image_CHW.size - int(np.isfinite(image_CHW).sum())
            if bad and not self.not_finite:
                self.first_not_finite = f"{case.rows[row]}, {case.name}"
            self.not_finite += bad
            rounded_HWC = to_pixels(image_CHW[None], self.value_range)[0]
            self.unrounded.see(max_lsb(pixels_HWC, rounded_HWC), case, row)
            if case.kind == "ordinary":
                self._add_values(image_CHW)
                flat = pixels_HWC.reshape(-1, pixels_HWC.shape[-1])
                span = int((flat.max(axis=0).astype(np.int16) - flat.min(axis=0)).max())
                self.seeds[case.rows[row]] = (_digest(pixels_HWC), span)
            elif case.kind == "class" and case.label is not None:
                label = case.label[row : row + 1]
                if int(label[0]) not in self.classes:  # the cases of seed 0 come first
                    made = AsClass(case.z[row : row + 1], label, case.rows[row], _block_means(image_CHW))
                    self.classes[int(label[0])] = made
        if case.kind == "ordinary" and len(case.z) > (len(self.widest.case.z) if self.widest else 1):
            digests = tuple(_digest(*both) for both in zip(image_NCHW, pixels_NHWC, strict=True))
            kept = {int(row): image_NCHW[row].copy() for row in alone(case)}
            self.widest = Widest(case, digests, kept)

    def _add_values(self, image_CHW: F32) -> None:
        black, white = self.value_range
        slack = 1e-3 * (white - black)
        finite = image_CHW[np.isfinite(image_CHW)]
        if finite.size:
            self.values += finite.size
            self.outside += int(((finite < black - slack) | (finite > white + slack)).sum())
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


def check_meaning(generator: Generator, seen: Statistics, tolerance: float) -> list[Check]:
    """All checks of this section. `tolerance` limits how much a neighbour may change an image."""
    if seen.widest is None:
        return [Check(SECTION, "images generated", False, 0, ">= 2", "", "no batch of ordinary latents ran")]
    rounded = seen.unrounded
    with np.errstate(invalid="ignore"):  # differences of infinities; the first check reports them
        return [
            _finite(seen),
            at_most(SECTION, "pixels are image, rounded", int(rounded.value), 0, "LSB", rounded.where),
            _in_range(seen),
            _not_flat(seen),
            _seeds_differ(seen),
            *([_labels_matter(generator, seen)] if generator.contract.interface.conditional else []),
            _repeats(generator, seen.widest),
            _neighbours(generator, seen.widest, tolerance),
        ]


def _finite(seen: Statistics) -> Check:
    total = seen.not_finite
    unit = "values" if total else ""
    return Check(SECTION, "NaN or Inf", total == 0, total or "none", "none", unit, seen.first_not_finite)


def _in_range(seen: Statistics) -> Check:
    if not seen.values:
        return Check(SECTION, "outside the value range", False, "all", f"<= {100 * MAX_OUTSIDE:g} %")
    black, white = seen.value_range
    middle = (black + white) / 2
    outside = 100.0 * seen.outside / seen.values
    span = f"values {seen.low:.3g} to {seen.high:.3g} in [{black:g}, {white:g}]"
    pale = seen.low >= middle or seen.high <= middle
    if pale:
        span += ": only half of the range is used, is it the right one?"
    check = at_most(SECTION, "outside the value range", outside, 100 * MAX_OUTSIDE, "%", span)
    return dataclasses.replace(check, warning=pale)


def _not_flat(seen: Statistics) -> Check:
    """Images of one colour are what a wrong latent, a lost weight or a collapsed training looks like.

    All of exactly one colour fails; all of nearly one (an untrained network, too) is a warning.
    """
    spans = [span for _, span in seen.seeds.values()]
    single, n = spans.count(0), len(spans)
    pale = max(spans) <= FLAT_LSB
    detail = f"of {n}"
    if pale:
        detail = "every image is nearly one colour: is the generator trained, are weights and latents the right ones?"
    return Check(SECTION, "flat images", single < n, single, f"< {n}", "", detail, pale)


def _seeds_differ(seen: Statistics) -> Check:
    n, distinct = len(seen.seeds), len({digest for digest, _ in seen.seeds.values()})
    return Check(SECTION, "seeds differ", 2 * distinct > n, distinct, f"> {n / 2:g}", "distinct", f"of {n} seeds")


def _labels_matter(generator: Generator, seen: Statistics) -> Check:
    """Seed 0 drawn as every class of the proof: no two classes give the same image.

    Images are at least as far apart as the means of their blocks, so only classes whose means agree are drawn again.
    """
    limit = SAME * (seen.value_range[1] - seen.value_range[0])
    drawn = list(seen.classes.values())
    means = np.array([each.means for each in drawn])
    same: list[str] = []
    for index in range(1, len(drawn)):
        near = np.flatnonzero(np.abs(means[:index] - means[index]).max(axis=1) <= limit)
        if any(_same_image(generator, drawn[other], drawn[index], limit) for other in near):
            same.append(drawn[index].row)
    distinct, planned = len(drawn) - len(same), seen.planned_classes
    detail = f"{same[0]} gives the image of a lower class" if same else ""
    if not same and planned < seen.n_classes:
        detail = f"{planned} of {seen.n_classes} classes generated"
    limit_text = f">= {max(planned, 1)}"
    return Check(SECTION, "labels matter", distinct == max(planned, 1), distinct, limit_text, "distinct", detail)


def _same_image(generator: Generator, a: AsClass, b: AsClass, limit: float) -> bool:
    """Whether two classes draw the same; so does what cannot be drawn."""
    try:
        first, second = generator.run(np.concatenate([a.z, b.z]), np.concatenate([a.label, b.label]))[0]
    except GanportError:
        return True
    return bool(np.abs(first - second).max() <= limit)


def _repeats(generator: Generator, widest: Widest) -> Check:
    """The same batch again: the same bits."""
    image, pixels = generator.run(widest.case.z, widest.case.label)
    again = [_digest(*both) for both in zip(image, pixels, strict=True)]
    differing = [row for row, (a, b) in enumerate(zip(again, widest.digests, strict=True)) if a != b]
    where = widest.case.rows[differing[0]] if differing else ""
    return at_most(SECTION, "repeats to the bit", len(differing), 0, "images differ", where)


def _neighbours(generator: Generator, widest: Widest, tolerance: float) -> Check:
    """Each of a few latents alone, against the same latent among others. Catches normalising over the batch."""
    case, name = widest.case, "independent of neighbours"
    worst, where = 0.0, ""
    for row, together in widest.images.items():
        label = None if case.label is None else case.label[row : row + 1]
        try:
            alone: F32 = generator.run(case.z[row : row + 1], label)[0]
        except GanportError as error:
            return Check(SECTION, name, False, "cannot be generated alone", f"<= {tolerance:.3g}", "", str(error))
        difference = float(np.abs(alone[0] - together).max())
        if np.isnan(difference):
            difference = float("inf")
        if difference > worst:
            worst, where = difference, f"{case.rows[row]}, alone and in a {case.name}"
    return at_most(SECTION, name, worst, tolerance, "max |Δ|", where)


def _digest(*arrays: npt.NDArray[np.generic]) -> bytes:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.digest()


def _block_means(image_CHW: F32) -> F64:
    """The means of `_BLOCKS` x `_BLOCKS` blocks of every channel: float64 (n,)."""
    sides = [np.linspace(0, side, min(_BLOCKS, side), endpoint=False).astype(int) for side in image_CHW.shape[1:]]
    counts = [np.diff(starts, append=side) for starts, side in zip(sides, image_CHW.shape[1:], strict=True)]
    with np.errstate(invalid="ignore"):  # infinities, which another check reports
        sums = np.add.reduceat(image_CHW, sides[0], axis=1, dtype=np.float64)
        sums = np.add.reduceat(sums, sides[1], axis=2)
    means: F64 = (sums / np.outer(*counts)).reshape(-1)
    return means
