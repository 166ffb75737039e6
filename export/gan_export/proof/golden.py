"""The golden set of a file: made from what PyTorch drew, read back through the runtime."""

from __future__ import annotations

from gan_core.contract import Golden
from gan_core.errors import GanportError
from gan_core.golden import golden_entry
from gan_core.images import to_pixels
from gan_core.limits import limits_for
from gan_export.proof.reference import Reference
from gan_export.proof.report import Check
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.golden import check_golden

SECTION = "golden"
SIZE = 4
"""Images in a golden set: seeds 0 … 3."""


def make_golden(reference: Reference) -> tuple[Golden, ...]:
    """Seeds 0 … 3 as PyTorch drew them, with the labels of the proof's batch of 8."""
    index = next(i for i, case in enumerate(reference.cases) if case.kind == "ordinary" and len(case.z) >= SIZE)
    label = reference.cases[index].label
    pixels_NHWC = to_pixels(reference.images[index][:SIZE], reference.source.value_range)
    return tuple(
        golden_entry(seed, None if label is None else int(label[seed]), pixels_NHWC[seed]) for seed in range(SIZE)
    )


def check_golden_set(generator: Generator) -> list[Check]:
    """Whether the file carries a golden set and draws it."""
    entries = generator.contract.golden
    present = Check(SECTION, "golden set", bool(entries), len(entries), ">= 1", "images")
    if not entries:
        return [present]
    limit = str(limits_for(generator.held_to))
    try:
        results = check_golden(generator)
    except GanportError as error:
        return [present, Check(SECTION, "golden images", False, "cannot be drawn", limit, "", str(error))]
    worst = max(results, key=lambda result: (not result.ok, result.max_lsb))
    where = f"seed {worst.seed}" + ("" if worst.label is None else f" class {worst.label}")
    ok = all(result.ok for result in results)
    detail = where if worst.max_lsb or not ok else ""
    return [present, Check(SECTION, "golden images", ok, worst.max_lsb, limit, "LSB", detail)]
