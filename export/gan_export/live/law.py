"""The latent law of a live module, by what its BatchNorms remember: `gan_export.forensics`, for code.

Latents of each law are run through the module with its BatchNorms in training mode, as its training did, and what
arrives at each is compared with its running mean and variance. Nothing in the module changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gan_core.latents import LATENT_LAWS, LatentLaw
from gan_export.forensics.divergence import Moments, median_misfit
from gan_export.forensics.statistics import label_batch, latent_batch, moments, never_trained
from gan_export.live.adapter import LiveGenerator

MOST, LEAST = 256, 32
PIXELS = 1 << 22
"""How many pixels to draw at once, within `LEAST` and `MOST` images."""
GOOD = 0.05
"""A misfit that speaks for a law: true ones are under 0.02, the wrong one near 0.6 at the first BatchNorm."""
CLEAR = 4.0
"""How many times worse the other law has to fit."""


@dataclass(frozen=True)
class LawEvidence:
    """The law that fits, and the misfit of each (the mean over BatchNorms of the median symmetric KL)."""

    law: LatentLaw
    misfits: dict[LatentLaw, float]

    def __str__(self) -> str:
        other = next(law for law in self.misfits if law != self.law)
        return f"its BatchNorms remember it (misfit {self.misfits[self.law]:.2g}, {other} {self.misfits[other]:.2g})"


def latent_evidence(adapter: LiveGenerator) -> LawEvidence | None:
    """The law that the BatchNorms of `adapter` clearly remember; None when there are none, or they do not say."""
    norms = [part for part in adapter.modules() if _remembers(part)]
    if not norms:
        return None
    misfits = {law: _misfit(adapter, norms, law) for law in LATENT_LAWS}
    best = min(LATENT_LAWS, key=lambda law: misfits[law])
    worst = max(misfits.values())
    if misfits[best] > GOOD or worst < CLEAR * max(misfits[best], 1e-6):
        return None
    return LawEvidence(best, misfits)


def _remembers(part: nn.Module) -> bool:
    if not isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) or part.running_mean is None or part.running_var is None:
        return False
    return not never_trained(Moments(part.running_mean, part.running_var))


def _misfit(adapter: LiveGenerator, norms: list[nn.Module], law: LatentLaw) -> float:
    arrived: list[float] = []

    def compare(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        arrived.append(median_misfit(moments(inputs[0]), Moments(norm.running_mean, norm.running_var)))

    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    assert adapter.picked is not None
    _, height, width = adapter.picked.image
    n = min(MOST, max(LEAST, PIXELS // (height * width)))
    z, label = latent_batch(adapter.call.z_dim, law, n, seed=0), label_batch(adapter.call.n_classes, n)
    try:
        for norm in norms:  # momentum 0 leaves the running statistics as they are
            norm.training, norm.momentum, norm.num_batches_tracked = True, 0.0, None  # type: ignore[assignment]
        with torch.no_grad():
            adapter.output(z, label)
    except Exception:  # a forward that does not run so leaves no evidence
        return float("inf")
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum, counter in kept:
            norm.training, norm.momentum, norm.num_batches_tracked = False, momentum, counter
    return sum(arrived) / len(arrived) if arrived else float("inf")
