"""The file's side of a proof: every case run once through the runtime that `gan-gen` uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gan_export.proof.cases import BATCHES, Case
from gan_export.proof.report import Check
from gan_serve.runtime.generator import F32, U8, Generator

SECTION = "structure"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the file drew for one case: `image` (n, C, H, W), `pixels` (n, H, W, C); `index` is the case's number."""

    index: int
    case: Case
    image: F32
    pixels: U8


@dataclass(frozen=True, eq=False)
class Runs:
    """The cases that ran with the right shapes, and why the others did not."""

    drawn: tuple[Drawn, ...]
    failures: tuple[tuple[Case, str], ...]

    def of_kind(self, kind: str, at_least: int = 1) -> list[Drawn]:
        """The drawn cases of a kind with `at_least` rows, largest first."""
        found = [drawn for drawn in self.drawn if drawn.case.kind == kind and len(drawn.case.z) >= at_least]
        return sorted(found, key=lambda drawn: -len(drawn.case.z))

    def check_batches(self) -> Check:
        """Whether every batch size ran and made the shapes and types of the contract."""
        wanted = " ".join(str(size) for size in BATCHES)
        if not self.failures:
            return Check(SECTION, "batch sizes", True, wanted, "all run")
        case, message = self.failures[0]
        failing = sorted({len(case.z) for case, _ in self.failures})
        value = f"fails at {' '.join(map(str, failing))}"
        return Check(SECTION, "batch sizes", False, value, f"{wanted} run", "", f"{case.name}: {message}")


def run_cases(generator: Generator, cases: tuple[Case, ...]) -> Runs:
    """Runs every case; a case that raises, or makes something else than the contract says, is a failure."""
    drawn: list[Drawn] = []
    failures: list[tuple[Case, str]] = []
    for index, case in enumerate(cases):
        try:
            image, pixels = generator.run(case.z, case.label)
        except Exception as error:  # whatever the runtime raises on a batch it cannot run is a finding
            failures.append((case, _one_line(error)))
            continue
        wrong = _misshapen(generator, len(case.z), image, pixels)
        if wrong:
            failures.append((case, wrong))
        else:
            drawn.append(Drawn(index, case, image, pixels))
    return Runs(tuple(drawn), tuple(failures))


def _misshapen(generator: Generator, n: int, image: F32, pixels: U8) -> str:
    c, h, w = generator.contract.image
    if image.shape != (n, c, h, w) or image.dtype != np.float32:
        return f"image is {image.dtype} {image.shape}, expected float32 {(n, c, h, w)}"
    if pixels.shape != (n, h, w, c) or pixels.dtype != np.uint8:
        return f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 {(n, h, w, c)}"
    return ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:157]}…"
