"""The PyTorch side of a proof: what the module draws of the cases, and whether it can serve as a reference.

A module that draws noise, that normalises over the batch or was left in training mode makes no fixed image of a
latent; an export that copies it faithfully is as wrong as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gan_core.arrays import F32, I64
from gan_core.contract import Golden
from gan_core.errors import GanportError, JobError
from gan_core.golden import golden_entry
from gan_core.images import to_pixels
from gan_export.proof import Check, at_most
from gan_export.proof.cases import BUDGET, LATENT_PRODUCTS, NEARER, PRODUCTS, Case, alone, cases, ordinary, widest
from gan_export.proof.exact import Strips
from gan_export.source import Source, as_taken
from gan_serve.runtime import Given
from gan_serve.runtime.styles import noise_behind

SECTION = "reference"

ROUNDING_FACTOR = 4.0
"""A file may be this much further from PyTorch than PyTorch's float32 is from exact arithmetic, where that is more than
the usual limit: two right computations differ by the sum of their roundings."""
STEADY = 1e-4
"""The usual limit of max |Δ|, which decides how far the far latents go."""
BETWEEN = 0.01
"""Of so many pixels at least the far images show how they were rounded."""
KEPT_BYTES = 1 << 26
"""Images that are kept for the next file that is compared (int8 tries dozens): all of small ones."""
GOLDEN_IMAGES = 4
ROUNDED = 8
"""The most ordinary images that are computed in float64, too, which takes longer."""


class Reference:
    """Draws the cases of a proof, within `budget` pixels, with a source's module on the CPU.

    Networks may spend thousands of times as much on a pixel as others: their images are fewer then, and in smaller
    batches where they are made of images.
    """

    def __init__(self, source: Source, budget: int = BUDGET) -> None:
        self.source = source
        self._most_images: int | None = None
        if source.interface.input is None:
            self._most_images = LATENT_PRODUCTS // max(source.products, 1)
        else:
            area = source.interface.height * source.interface.width
            budget = min(budget, PRODUCTS // max(source.products // area, 1))
        self._budget = budget
        self._kept: dict[Case, F32] = {}
        self._roundings: dict[Case, float | None] = {}
        self._room = KEPT_BYTES

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases of its interface. Networks that multiply what they make of z (BigGAN) are not steady at 4 sigma, or
        make images of nothing but the ends of the value range there, which show no rounding."""
        interface = self.source.interface
        made = cases(interface, self._budget, most_images=self._most_images)
        self.images(made[0])  # a single latent, whose error is the plainest
        for nearer in NEARER if interface.input is None and interface.latent == "normal" else ():
            far = [case for case in made if case.kind == "far"]
            steady = max(self._rounding(case) or 0.0 for case in far) <= ROUNDING_FACTOR * STEADY
            if steady and max(map(self._between, far)) >= BETWEEN:
                break
            made = cases(interface, self._budget, nearer, self._most_images)
        return made

    def _between(self, case: Case) -> float:
        """Which share of the pixels of a case is neither 0 nor 255."""
        pixels_NHWC = to_pixels(self.images(case), self.source.interface.value_range)
        return float(((pixels_NHWC > 0) & (pixels_NHWC < 255)).mean())

    def images(self, case: Case) -> F32:
        """float32 (n, C, H, W), not to be changed. Raises `JobError` when the module cannot draw them."""
        image_NCHW = self._kept.get(case)
        if image_NCHW is None:
            image_NCHW = self.draw(case)
            if image_NCHW.nbytes <= self._room:
                self._room -= image_NCHW.nbytes
                self._kept[case] = image_NCHW
        return image_NCHW

    @cached_property
    def rounding(self) -> float | None:
        """How far the module's own float32 images are from the same computed in float64: max |Δ|.

        Measured on the far latents, an ordinary batch, and the least images where those are of any size: an instance
        norm over a few pixels enlarges what rounding leaves. None for a module that does not run in float64.
        """
        taken = self.source.interface.input
        least = 0 if taken is None else taken.next_side(1)
        small = (case for case in self.cases if case.kind == "size" and case.z.shape[1] == least)
        some = widest(case for case in self.cases if len(case.z) <= ROUNDED)
        asked = (*(case for case in self.cases if case.kind == "far"), *small, some)
        found = [rounding for case in asked if (rounding := self._rounding(case)) is not None]
        return max(found) if len(found) == len(asked) else None

    def _rounding(self, case: Case) -> float | None:
        """`rounding` of one case."""
        if case not in self._roundings:
            exact = copy.deepcopy(self.source.module).double()
            arguments = [as_taken(torch.from_numpy(case.z), self.source.interface.input, torch.float64)]
            arguments += [] if case.label is None else [torch.from_numpy(case.label)]
            image_NCHW = self.images(case)
            try:
                with torch.no_grad(), Strips():
                    truth_NCHW = exact(*arguments).numpy()
                self._roundings[case] = float(np.nan_to_num(np.abs(image_NCHW - truth_NCHW), nan=0.0).max())
            except Exception:  # a module with float32 written into it; its rounding stays unknown
                self._roundings[case] = None
        return self._roundings[case]

    @cached_property
    def again(self) -> tuple[F32, F32]:
        """The widest ordinary batch drawn again, and a few of its rows alone: max |Δ| of each image."""
        wide = widest(self.cases)
        together, rows = self.images(wide), alone(wide)
        again = self.run(wide.z, wide.label)
        singles = [self.run(wide.z[i : i + 1], None if wide.label is None else wide.label[i : i + 1]) for i in rows]
        return _per_row(again, together), _per_row(np.concatenate(singles), together[rows])

    def allow(self, tolerance: float) -> float:
        """`tolerance`, or a few times the module's own rounding where that is more.

        Latents at four sigma drive a steep generator far out; there PyTorch's float32 can be 1e-4 from exact
        arithmetic itself, and no file can be closer to it than that.
        """
        return max(tolerance, ROUNDING_FACTOR * (self.rounding or 0.0))

    @property
    def weight_bytes(self) -> int:
        """Size of the module's parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.source.module.state_dict().values())

    def run(self, z: Given, label: I64 | None, options: Mapping[str, float] | None = None) -> F32:
        """One batch, with styles in the place of z where that has three dimensions, and noise of the seeds behind z
        where there are: float32 (n, C, H, W) in `value_range`."""
        z, noise = noise_behind(z, self.source.interface)
        given = {name: torch.tensor([value]) for name, value in (options or {}).items()}
        given |= {name: torch.from_numpy(value) for name, value in noise.items()}
        taken = as_taken(torch.from_numpy(z), self.source.interface.input)
        if z.ndim == 3:
            given |= {"w": taken, "from_w": torch.tensor([True])}
            taken = torch.zeros(len(z), self.source.interface.z_dim)
        arguments = [taken] + ([] if label is None else [torch.from_numpy(label)])
        with torch.no_grad():
            image: F32 = self.source.module(*arguments, **given).float().numpy()
        return image

    def styles(self, case: Case) -> F32:
        """The styles of a batch of latents, float32 (n, num_ws, w_dim), of the module of a spec that has some."""
        module: Any = self.source.module
        label = None if case.label is None else torch.from_numpy(case.label)
        with torch.no_grad():
            styles: F32 = module.values(torch.from_numpy(case.z), label)[1].float().numpy()
        return styles

    def draw(self, case: Case) -> F32:
        """float32 (n, C, H, W), drawn now and not kept. Raises as `images`."""
        try:
            image = self.run(case.z, case.label, case.options)
        except GanportError:
            raise
        except Exception as error:
            raise JobError(
                f"the PyTorch generator fails on a {case.name}: {str(error).strip().splitlines()[0][:200]}",
                hint="a generator must take any number of latents, or of images",
            ) from error
        expected = (len(case.z), *self.source.interface.made_of(case.z.shape))
        if image.shape != expected:
            raise JobError(
                f"the PyTorch generator makes {image.shape} of a {case.name}, expected {expected}",
                hint="a generator must make one image a latent, of one size; `image` says another size",
            )
        return image


def make_golden(reference: Reference) -> tuple[Golden, ...]:
    """A file's golden set: the first seeds as PyTorch draws them, with the labels that count through the classes."""
    source = reference.source
    entries = []
    for seed in range(GOLDEN_IMAGES):
        case = ordinary(range(seed, seed + 1), source.interface)
        pixels_HWC = to_pixels(reference.draw(case), source.interface.value_range)[0]
        entries.append(golden_entry(seed, None if case.label is None else int(case.label[0]), pixels_HWC))
    return tuple(entries)


def check_reference(reference: Reference, tolerance: float) -> list[Check]:
    """Whether the module is in eval mode, repeats itself, draws each latent whatever its neighbours, and is steady."""
    training = [name or "the module" for name, part in reference.source.module.named_modules() if part.training]
    wide = widest(reference.cases)
    repeat, neighbour = reference.again
    names, where = ", ".join(training[:3]), "in training" if training else ""
    return [
        Check(SECTION, "reference eval mode", not training, len(training) or "none", "none", where, names),
        _limited("reference repeats", repeat, 0.0, wide.rows),
        _limited("reference neighbours", neighbour, reference.allow(tolerance), [wide.rows[i] for i in alone(wide)]),
        _rounding(reference.rounding, ROUNDING_FACTOR * tolerance),
    ]


def _rounding(rounding: float | None, limit: float) -> Check:
    """A module that float32 cannot hold steady has no image that an export could be held to."""
    name = "reference rounding"
    if rounding is None:
        return Check(SECTION, name, True, "unknown", "", "", "does not run in float64")
    return at_most(SECTION, name, rounding, limit, "max |Δ|", "float32 against float64")


def _per_row(a: F32, b: F32) -> F32:
    """max |Δ| of each image; NaN counts as infinite."""
    difference = np.abs(a - b).reshape(len(a), -1).max(axis=1)
    found: F32 = np.where(np.isnan(difference), np.float32(np.inf), difference)
    return found


def _limited(name: str, per_row: F32, limit: float, rows: Sequence[str]) -> Check:
    worst = int(per_row.argmax())
    value = float(per_row[worst])
    return at_most(SECTION, name, value, limit, "max |Δ|", "" if value <= limit else rows[worst])
