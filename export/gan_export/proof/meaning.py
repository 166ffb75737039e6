"""What must hold of any generator file, with no PyTorch beside it: seeds, labels, repeats, neighbours, no NaN."""

from __future__ import annotations

import numpy as np

from gan_core.errors import GanportError
from gan_core.images import to_pixels
from gan_export.proof.report import Check
from gan_export.proof.runs import Drawn, Runs
from gan_serve.runtime.generator import F32, Generator

SECTION = "meaning"

MAX_OUTSIDE = 0.25
"""Share of values that may lie outside `value_range`: a generator without a last activation overshoots a little."""
FLAT_LSB = 2
"""An image whose pixels span no more than this looks like one colour."""
SAME = 1e-6
"""Images of two classes that differ by less than this share of the value range are the same image."""
ALONE = 4
"""How many rows of a batch are drawn again, alone."""


def check_meaning(generator: Generator, runs: Runs, tolerance: float) -> list[Check]:
    """All checks of this section. `tolerance` limits how much a neighbour may change an image."""
    ordinary = runs.of_kind("ordinary", at_least=2)
    if not ordinary:
        return [Check(SECTION, "images drawn", False, 0, ">= 2", "", "no batch of ordinary latents ran")]
    widest = ordinary[0]
    with np.errstate(invalid="ignore"):  # differences of infinities; the first check reports them
        return [
            _finite(runs),
            _rounding(generator, runs),
            _in_range(generator, runs),
            _not_flat(widest),
            _seeds_differ(widest),
            *([_labels_matter(generator, runs)] if generator.contract.conditional else []),
            _repeats(generator, widest),
            _neighbours(generator, widest, tolerance),
        ]


def _finite(runs: Runs) -> Check:
    total, where = 0, ""
    for drawn in runs.drawn:
        bad = (~np.isfinite(drawn.image)).reshape(len(drawn.image), -1).sum(axis=1)
        if bad.any() and not where:
            where = f"{drawn.case.rows[int(bad.argmax())]}, {drawn.case.name}"
        total += int(bad.sum())
    return Check(SECTION, "NaN or Inf", total == 0, total or "none", "none", "values" if total else "", where)


def _rounding(generator: Generator, runs: Runs) -> Check:
    """`pixels` is `image`, rounded: the two outputs are one picture."""
    worst, where = 0, ""
    for drawn in runs.drawn:
        expected = to_pixels(drawn.image, generator.contract.value_range)
        per_row = np.abs(drawn.pixels.astype(np.int16) - expected).reshape(len(expected), -1).max(axis=1)
        if (value := int(per_row.max())) > worst:
            worst, where = value, f"{drawn.case.rows[int(per_row.argmax())]}, {drawn.case.name}"
    return Check(SECTION, "pixels are image, rounded", worst == 0, worst, "<= 0", "LSB", where)


def _in_range(generator: Generator, runs: Runs) -> Check:
    black, white = generator.contract.value_range
    middle, slack = (black + white) / 2, 1e-3 * (white - black)
    values = np.concatenate([drawn.image.reshape(-1) for drawn in runs.of_kind("ordinary")])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Check(SECTION, "outside the value range", False, "all", f"<= {100 * MAX_OUTSIDE:g} %")
    outside = 100.0 * float(np.mean((finite < black - slack) | (finite > white + slack)))
    low, high = float(finite.min()), float(finite.max())
    span = f"values {low:.3g} to {high:.3g} in [{black:g}, {white:g}]"
    pale = low >= middle or high <= middle
    if pale:
        span += ": only half of the range is used, is it the right one?"
    limit = f"<= {100 * MAX_OUTSIDE:g}"
    return Check(SECTION, "outside the value range", outside <= 100 * MAX_OUTSIDE, outside, limit, "%", span, pale)


def _not_flat(widest: Drawn) -> Check:
    """Images of one colour are what a wrong latent, a lost weight or a collapsed training looks like.

    All of exactly one colour fails; all of nearly one (an untrained network, too) is a warning.
    """
    pixels = widest.pixels.reshape(len(widest.pixels), -1, widest.pixels.shape[-1]).astype(np.int16)
    spans = (pixels.max(axis=1) - pixels.min(axis=1)).max(axis=1)
    single, n = int((spans == 0).sum()), len(spans)
    pale = bool((spans <= FLAT_LSB).all())
    detail = f"of {n}"
    if pale:
        detail = "every image is nearly one colour: is the generator trained, are weights and latents the right ones?"
    return Check(SECTION, "flat images", single < n, single, f"< {n}", "", detail, pale)


def _seeds_differ(widest: Drawn) -> Check:
    n = len(widest.pixels)
    distinct = len({image.tobytes() for image in widest.pixels})
    return Check(SECTION, "seeds differ", 2 * distinct > n, distinct, f"> {n / 2:g}", "distinct", f"of {n} seeds")


def _labels_matter(generator: Generator, runs: Runs) -> Check:
    """Seed 0 drawn as every class: no two classes give the same image."""
    black, white = generator.contract.value_range
    images = [drawn.image for drawn in runs.drawn if drawn.case.kind == "class"]
    rows = [row for drawn in runs.drawn if drawn.case.kind == "class" for row in drawn.case.rows]
    n_classes = generator.contract.n_classes
    stacked = np.concatenate(images)[:n_classes] if images else np.zeros((0, 1), np.float32)
    flat = stacked.reshape(len(stacked), -1)
    same: list[str] = []
    for index in range(1, len(flat)):
        nearest = float(np.abs(flat[:index] - flat[index]).max(axis=1).min())
        if nearest <= SAME * (white - black):
            same.append(rows[index])
    distinct = len(flat) - len(same)
    ok = distinct == n_classes
    detail = f"{same[0]} draws what a lower class draws" if same else ""
    return Check(SECTION, "labels matter", ok, distinct, f">= {n_classes}", "distinct", detail)


def _repeats(generator: Generator, widest: Drawn) -> Check:
    """The same batch again: the same bits."""
    image, pixels = generator.run(widest.case.z, widest.case.label)
    differing = np.array([a.tobytes() != b.tobytes() for a, b in zip(image, widest.image, strict=True)])
    differing |= np.array([a.tobytes() != b.tobytes() for a, b in zip(pixels, widest.pixels, strict=True)])
    count = int(differing.sum())
    where = widest.case.rows[int(differing.argmax())] if count else ""
    return Check(SECTION, "repeats to the bit", count == 0, count, "<= 0", "images differ", where)


def _neighbours(generator: Generator, widest: Drawn, tolerance: float) -> Check:
    """Each of a few latents alone, against the same latent among others. Catches normalising over the batch."""
    case = widest.case
    worst, where = 0.0, ""
    for row in range(min(ALONE, len(case.z))):
        label = None if case.label is None else case.label[row : row + 1]
        try:
            image: F32 = generator.run(case.z[row : row + 1], label)[0]
        except GanportError as error:
            name = "independent of neighbours"
            return Check(SECTION, name, False, "cannot be drawn alone", f"<= {tolerance:.3g}", "", str(error))
        difference = float(np.abs(image[0] - widest.image[row]).max())
        if np.isnan(difference):
            difference = float("inf")
        if difference > worst:
            worst, where = difference, f"{case.rows[row]}, alone and in a {case.name}"
    return Check(
        SECTION, "independent of neighbours", worst <= tolerance, worst, f"<= {tolerance:.3g}", "max |Δ|", where
    )
