"""Generators with styles (StyleGAN): truncation by psi, noise, and latents w in the place of seeds.

A generator takes w where it takes z: (n, num_ws, w_dim) in the place of (n, z_dim). What is the same for all images,
psi and how much noise, belongs to a view of the generator (`with_options`). Where each seed has noise of its own, its
latent has the seed behind it (`gan_core.latents.with_seeds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.interface import Interface, Styles
from gan_core.latents import (
    noise_maps,
    seeds_of,
    with_seeds,
    without_seeds,
)
from gan_core.printable import shorten

if TYPE_CHECKING:
    from gan_serve.runtime import Classes, Labels

Options = dict[str, npt.NDArray[Any]]
MAX_PSI = 10.0
SEED: Literal["seed"] = "seed"
Noise = float | Literal["seed"] | None
"""What the constant noise is multiplied by; "seed": noise of its own for each seed; None: what the file has."""
_AT_ONCE = 256


def options_of(interface: Interface, psi: float | None = None, noise: Noise = None) -> Options:
    """The optional inputs by name, each one row for all images. Raises `GanportError` for a generator without them."""
    if psi is not None and interface.styles is None:
        raise GanportError(
            "`psi` is for generators with styles (StyleGAN), this one has no mapping network",
            hint="`truncation` bounds its latents",
        )
    if noise is not None and not interface.noise:
        raise GanportError("this generator adds no noise", hint="leave `noise` out")
    if noise == SEED and interface.noise_maps is None:
        raise GanportError(
            "the noise of this file is constant, the same for all seeds",
            hint="leave `noise` out, or export its checkpoint again with a newer gan-export",
        )
    if isinstance(noise, str) and noise != SEED:
        raise GanportError(f"`noise` must be a number or {SEED!r}, got {shorten(noise, 40)!r}", hint="0 for none")
    given = {"psi": psi, "noise": None if isinstance(noise, str) else noise}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and abs(value) <= MAX_PSI):
            raise GanportError(f"`{name}` must be -{MAX_PSI:g} … {MAX_PSI:g}, got {value}", hint="0.7 is usual for psi")
    return {name: np.array([value], np.float32) for name, value in given.items() if value is not None}


def noise_behind(given: npt.NDArray[Any], interface: Interface) -> tuple[npt.NDArray[Any], Options]:
    """The latents of a batch, and the noise of the seeds behind them, as the input of the graph; none without seeds."""
    maps = interface.noise_maps
    if maps is None:
        return given, {}
    z, seeds = without_seeds(given, interface.z_dim)
    return z, {} if seeds is None else {"noise_maps": noise_maps(seeds, maps.size, maps.law)}


def fit_styles(w: npt.NDArray[Any], styles: Styles | None, what: str = "`w`") -> F32:
    """(n, num_ws, w_dim) of w (n, w_dim), one style for all layers, also as (n, 1, w_dim), or (n, num_ws, w_dim).

    Raises `GanportError` for another shape, for numbers that are not finite, and for a generator without styles.
    """
    if styles is None:
        raise GanportError(f"{what} is for generators with styles (StyleGAN)", hint="give seeds, or latents z")
    w = np.asarray(w)
    wide = w[:, None] if w.ndim == 2 else w
    fits = wide.ndim == 3 and wide.shape[2] == styles.w_dim and wide.shape[1] in (1, styles.num_ws) and len(wide)
    if not fits or w.dtype.kind not in "fiu":
        raise GanportError(
            f"{what} has {w.dtype} {w.shape}, expected numbers (n, {styles.w_dim}) or "
            f"(n, {styles.num_ws}, {styles.w_dim})",
            hint="to_w() gives such arrays",
        )
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(np.broadcast_to(wide, (len(w), styles.num_ws, styles.w_dim)), np.float32)
    if not np.isfinite(made).all():
        raise GanportError(f"{what} holds NaN or infinity", hint="save finite numbers")
    return made


class WithStyles:
    """What a `Generator` with styles can do beside others."""

    contract: Contract
    noise_of_seeds: bool = False
    """Whether each seed has noise of its own."""

    def with_options(self, *, psi: float | None = None, noise: Noise = None) -> Self:
        """The generator with other values of its optional inputs; it shares the session with this one.

        psi    truncation: how far w is from its mean, 1 as it is, 0.7 safer and less varied, 0 the mean image
        noise  what its constant noise is multiplied by: 1 as it is, 0 for none; or "seed": noise of its own for each
               seed, always the same for the same seed

        Raises `GanportError` for a generator without them.
        """
        options = options_of(self.contract.interface, psi, noise)
        return self._with(options, noise == SEED) if options or noise == SEED else self

    def latents_of(self, seeds: I64, truncation: float | None = None) -> F32:
        """What a batch of `seeds` is made of: their latents, with the seeds behind where these have noise."""
        z = self.contract.interface.latents(seeds, truncation)
        return with_seeds(z, seeds) if self.noise_of_seeds else z

    def given_styles(self, w: npt.NDArray[Any]) -> F32:
        """`w` as a batch. Raises as `fit_styles`."""
        self.refuse_noise_of_seeds("given styles have no seeds")
        return fit_styles(w, self.contract.interface.styles)

    def refuse_noise_of_seeds(self, why: str) -> None:
        """Raises `GanportError` where each seed has noise of its own."""
        if self.noise_of_seeds:
            raise GanportError(f"{why}, so no noise of seeds is possible", hint="leave `noise` out, or 0 for none")

    def _with(self, options: Options, noise_of_seeds: bool = False) -> Self:  # noqa: ARG002 (other runtimes have none)
        raise GanportError("this runtime takes no optional inputs", hint="export the generator to ONNX")

    def styles_of(self, z: F32, label: Labels = None) -> F32:  # noqa: ARG002 (other runtimes have none)
        """The styles of latents z (n, z_dim), with a label (n,) where it has classes: float32 (n, num_ws, w_dim)."""
        raise GanportError("this generator has no styles", hint="a StyleGAN has")

    def to_w(self, seeds: int | Iterable[int], labels: Classes = None, *, psi: float | None = None) -> F32:
        """The styles of `seeds` (and `labels`, as of `generate`): float32 (n, num_ws, w_dim), truncated by `psi`.

        They are what `generate` takes as `w`. Raises `GanportError` for a generator without styles.
        """
        from gan_serve.runtime import indices_of

        every, interface = seeds_of(seeds), self.contract.interface
        if interface.styles is None:
            raise GanportError("this generator has no styles, so there is no w", hint="a StyleGAN has")
        generator: Any = self.with_options(psi=psi)
        given = indices_of(labels, len(every), interface)
        made = np.empty((len(every), interface.styles.num_ws, interface.styles.w_dim), np.float32)
        for start in range(0, len(every), _AT_ONCE):
            array = every.array(start, min(start + _AT_ONCE, len(every)))
            part = given if given is None or np.ndim(given) == 0 else np.asarray(given)[start:][: len(array)]
            made[start : start + len(array)] = generator.styles_of(
                interface.latents(array), generator.check_labels(part, array)
            )
        return made


def reopened_with(reopen: Callable[[], WithStyles], options: Options, noise_of_seeds: bool) -> WithStyles:
    """What a pickled view of a generator becomes."""
    return reopen()._with(options, noise_of_seeds)


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
