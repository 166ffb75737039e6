"""Style mixing: the styles of one seed up to a layer, and of another from there on (StyleGAN, Karras et al. 2019,
arXiv:1812.04948); and styles from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32
from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.latents import parse_seeds
from gan_core.printable import shorten
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.plan import LatentPlan
from gan_serve.runtime.styles import fit_styles

MAX_MIXED = 10_000


class Mix:
    """What `--mix 7:12@8` says; lists of seeds make a table of all pairs: `0-3:10-13@8`.

    Raises `GanportError` for another text.
    """

    def __init__(self, text: str) -> None:
        pair, at, layer = text.rpartition("@")
        first, colon, second = pair.partition(":")
        if not (at and colon and layer.isascii() and layer.isdecimal() and len(layer) < 5):
            raise GanportError(
                f"a mix must be SEEDS:SEEDS@LAYER, got {shorten(text, 40)!r}",
                hint="7:12@8 takes the first 8 styles of seed 7 and the others of seed 12",
            )
        self.text, self.layer = text, int(layer)
        self.first, self.second = parse_seeds(first), parse_seeds(second)
        if len(self.first) * len(self.second) > MAX_MIXED:
            raise GanportError(
                f"{len(self.first)} x {len(self.second)} mixes are too many, the most is {MAX_MIXED:,}",
                hint="list fewer seeds",
            )

    def plan(self, generator: Generator, label: int | None = None) -> LatentPlan:
        """The images: a row for each of the first seeds, a column for each of the second; all of one class, where it is
        given. Raises `GanportError` for a layer that the generator does not have."""
        rows, cols, styles = len(self.first), len(self.second), generator.contract.interface.styles
        if styles is not None and not 1 <= self.layer < styles.num_ws:
            raise GanportError(
                f"the layer of a mix must be 1 … {styles.num_ws - 1}, got {self.layer}",
                hint="low layers decide the pose, high ones the colours",
            )
        coarse, fine = (generator.to_w(seeds.array(0, len(seeds)), label) for seeds in (self.first, self.second))
        w = np.repeat(coarse, cols, axis=0)
        w[:, self.layer :] = np.tile(fine, (rows, 1, 1))[:, self.layer :]
        plan = LatentPlan(generator.contract, w, f"mix {self.text}", () if label is None else (label,))
        plan.cols = cols
        return plan


def styles_in(z: npt.NDArray[Any], path: Path, interface: Interface, psi: float | None = None) -> F32 | None:
    """The styles that an array of a file holds; None for latents z, and for a generator without styles.

    (n, z_dim) is z, even where w has as many numbers: such w are given as (n, 1, w_dim). Raises `GanportError` for
    another shape, and for a truncation `psi`, which given styles do not have.
    """
    styles = interface.styles
    if styles is None or (z.ndim in (1, 2) and z.shape[-1] == interface.z_dim) or z.ndim == 4:
        return None
    if psi is not None:
        raise GanportError("given styles are taken as they are, so `psi` has no meaning", hint="leave it out")
    return fit_styles(z[None] if z.ndim == 1 else z, styles, str(path))
