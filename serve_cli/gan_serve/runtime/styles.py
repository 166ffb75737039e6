"""Generators with styles (StyleGAN): truncation by psi, noise, and latents w in the place of seeds.

A generator takes w where it takes z: (n, num_ws, w_dim) in the place of (n, z_dim). What is the same for all images,
psi and noise, belongs to a view of the generator (`with_options`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.interface import Interface, Styles
from gan_core.latents import seeds_of

if TYPE_CHECKING:
    from gan_serve.runtime.batches import Classes, Labels

Options = dict[str, npt.NDArray[Any]]
MAX_PSI = 10.0
_AT_ONCE = 256


def options_of(interface: Interface, psi: float | None = None, noise: float | None = None) -> Options:
    """The optional inputs by name, each one row for all images. Raises `GanportError` for a generator without them."""
    if psi is not None and interface.styles is None:
        raise GanportError(
            "`psi` is for generators with styles (StyleGAN), this one has no mapping network",
            hint="`truncation` bounds its latents",
        )
    if noise is not None and not interface.noise:
        raise GanportError("this generator adds no noise", hint="leave `noise` out")
    given = {"psi": psi, "noise": noise}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and abs(value) <= MAX_PSI):
            raise GanportError(f"`{name}` must be -{MAX_PSI:g} … {MAX_PSI:g}, got {value}", hint="0.7 is usual for psi")
    return {name: np.array([value], np.float32) for name, value in given.items() if value is not None}


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

    def with_options(self, *, psi: float | None = None, noise: float | None = None) -> Self:
        """The generator with other values of its optional inputs; it shares the session with this one.

        psi    truncation: how far w is from its mean, 1 as it is, 0.7 safer and less varied, 0 the mean image
        noise  what its noise is multiplied by: 1 as it is, 0 for none

        Raises `GanportError` for a generator without them.
        """
        options = options_of(self.contract.interface, psi, noise)
        return self._with(options) if options else self

    def _with(self, options: Options) -> Self:  # noqa: ARG002 (other runtimes have none)
        raise GanportError("this runtime takes no optional inputs", hint="export the generator to ONNX")

    def styles_of(self, z: F32, label: Labels = None) -> F32:  # noqa: ARG002 (other runtimes have none)
        """The styles of latents z (n, z_dim), with a label (n,) where it has classes: float32 (n, num_ws, w_dim)."""
        raise GanportError("this generator has no styles", hint="a StyleGAN has")

    def to_w(self, seeds: int | Iterable[int], labels: Classes = None, *, psi: float | None = None) -> F32:
        """The styles of `seeds` (and `labels`, as of `generate`): float32 (n, num_ws, w_dim), truncated by `psi`.

        They are what `generate` takes as `w`. Raises `GanportError` for a generator without styles.
        """
        from gan_serve.runtime.batches import indices_of

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


def reopened_with(reopen: Callable[[], WithStyles], options: Options) -> WithStyles:
    """What a pickled view of a generator becomes."""
    return reopen()._with(options)
