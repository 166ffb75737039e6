"""The PyTorch side of a proof: what the module draws, and whether it can serve as a reference at all.

A module that draws noise, that normalises over the batch or was left in training mode makes no fixed image of a
latent; an export that copies it faithfully is as wrong as it is.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from gan_export.proof.cases import Case, cases
from gan_export.proof.report import Check
from gan_export.source import Source
from gan_serve.errors import GanportError, JobError
from gan_serve.generator import F32, I64

SECTION = "reference"


class Reference:
    """Draws with a source's module on the CPU. The cases of a proof are drawn once and kept."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.cases = cases(source.z_dim, source.latent, source.n_classes)

    @cached_property
    def images(self) -> tuple[F32, ...]:
        """float32 (n, C, H, W), one array per case. Raises `JobError` when the module cannot draw them."""
        return tuple(self._checked(case) for case in self.cases)

    @property
    def weight_bytes(self) -> int:
        """Size of the module's parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.source.module.state_dict().values())

    def run(self, z: F32, label: I64 | None) -> F32:
        """One batch: float32 (n, C, H, W) in `value_range`."""
        arguments = [torch.from_numpy(z)] + ([] if label is None else [torch.from_numpy(label)])
        with torch.no_grad():
            image: F32 = self.source.module(*arguments).float().numpy()
        return image

    def _checked(self, case: Case) -> F32:
        try:
            image = self.run(case.z, case.label)
        except GanportError:
            raise
        except Exception as error:
            raise JobError(
                f"the PyTorch generator fails on a {case.name}: {str(error).strip().splitlines()[0][:200]}",
                hint="a generator must take any number of latents",
            ) from error
        expected = (len(case.z), *self.source.image)
        if image.shape != expected:
            raise JobError(f"the PyTorch generator makes {image.shape} of a {case.name}, expected {expected}")
        return image


def check_reference(reference: Reference, tolerance: float) -> list[Check]:
    """Whether the module is in eval mode, repeats itself, and draws each latent whatever its neighbours."""
    training = [name or "the module" for name, part in reference.source.module.named_modules() if part.training]
    wide = next(case for case in reference.cases if case.kind == "ordinary" and len(case.z) >= 8)
    index = reference.cases.index(wide)
    together = reference.images[index]
    again = reference.run(wide.z, wide.label)
    alone = np.concatenate(
        [reference.run(wide.z[i : i + 1], None if wide.label is None else wide.label[i : i + 1]) for i in range(4)]
    )
    repeat, neighbour = _per_row(again, together), _per_row(alone, together[:4])
    mode = Check(
        SECTION,
        "reference eval mode",
        not training,
        len(training) or "none",
        "none",
        "in training" if training else "",
        ", ".join(training[:3]),
    )
    return [
        mode,
        _limited("reference repeats", repeat, 0.0, wide),
        _limited("reference neighbours", neighbour, tolerance, wide),
    ]


def _per_row(a: F32, b: F32) -> F32:
    """max |Δ| of each image; NaN counts as infinite."""
    difference = np.abs(a - b).reshape(len(a), -1).max(axis=1)
    found: F32 = np.where(np.isnan(difference), np.float32(np.inf), difference)
    return found


def _limited(name: str, per_row: F32, limit: float, case: Case) -> Check:
    worst = int(per_row.argmax())
    value = float(per_row[worst])
    detail = "" if value <= limit else case.rows[worst]
    return Check(SECTION, name, value <= limit, value, f"<= {limit:g}", "max |Δ|", detail)
