"""The golden set of a loaded model drawn again, and compared within the limits of its precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gan_core import limits
from gan_core.contract import Golden
from gan_core.errors import ContractError, GanportError
from gan_core.golden import decode, inputs, reduce
from gan_serve.runtime import check_drawn
from gan_serve.runtime.generator import Generator


@dataclass(frozen=True)
class GoldenResult:
    """One golden image drawn again. `psnr_db` is infinite when no pixel differs; NaN or infinity in `image` fails."""

    seed: int
    label: int | None
    max_lsb: int
    psnr_db: float
    ok: bool


def check_golden(generator: Generator, entries: Iterable[Golden] | None = None) -> Sequence[GoldenResult]:
    """Draws the golden set again and compares, within the limits of `generator.held_to`.

    entries   what to compare with; None: the file's own set, and a `GanportError` when it carries none.
    Raises `ContractError` for an entry that is damaged or of another size. A difference is no error but a result
    with `ok` False.
    """
    wanted = tuple(generator.contract.golden if entries is None else entries)
    if not wanted:
        raise GanportError(
            "the file carries no golden set, so there is nothing to compare with",
            hint="gan-export adopt makes a copy that carries one, and gan-export onnx an export",
        )
    allowed = limits.limits_for(generator.held_to)
    return [_check(generator, entry, allowed) for entry in wanted]


def _check(generator: Generator, entry: Golden, allowed: limits.Limits) -> GoldenResult:
    contract = generator.contract
    z = inputs(contract.interface, [entry.seed])
    label = None
    if contract.interface.conditional:
        if entry.label is not None and not 0 <= entry.label < contract.interface.n_classes:
            raise ContractError(
                f"the golden image of seed {entry.seed} is of class {entry.label}, classes are 0 … "
                f"{contract.interface.n_classes - 1}",
                hint="export it again",
            )
        label = np.array([0 if entry.label is None else entry.label], np.int64)
    c, h, w = contract.interface.image
    expected = decode(entry, (h // entry.scale, w // entry.scale, c))
    image_NCHW, pixels_NHWC = generator.run(z, label)
    check_drawn(contract, z.shape, image_NCHW=image_NCHW, pixels_NHWC=pixels_NHWC)
    drawn = reduce(pixels_NHWC[0], entry.scale)
    finite = bool(np.isfinite(image_NCHW).all())
    lsb, psnr = limits.max_lsb(drawn, expected), limits.psnr_db(drawn, expected)
    return GoldenResult(entry.seed, entry.label, lsb, psnr, finite and allowed.allows(max_lsb=lsb, psnr_db=psnr))
