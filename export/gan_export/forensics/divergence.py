"""How far two means and variances lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GOOD = 0.02
"""A misfit below this is good: the right network leaves 0.0001 to 0.005."""
FITS = 0.005
"""What a BatchNorm misfits by at most for its fit to count as one that the chain explains."""
VAR_FLOOR = 1e-12
"""Smallest variance that counts: a dead channel divides by this and not by zero."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel: two float tensors (C,)."""

    mean: Tensor
    var: Tensor


def symmetric_kl(a: Moments, b: Moments) -> Tensor:
    """KL(a‖b) + KL(b‖a) of the normal distributions with these moments, per channel: (C,), in nats, 0 when equal.

    ½ [(σa² + δ²) / σb² + (σb² + δ²) / σa²] - 1 with δ = μa - μb (Jeffreys 1946). It does not change when a channel is
    scaled or shifted, so channels and layers compare. 0.02 is a standard deviation off by 10 %; a variance off by a
    factor 3, as between U(-1, 1) and N(0, 1), is 0.67.
    """
    var_a, var_b = a.var.double().clamp_min(VAR_FLOOR), b.var.double().clamp_min(VAR_FLOOR)
    gap = (a.mean.double() - b.mean.double()).square()
    return 0.5 * ((var_a + gap) / var_b + (var_b + gap) / var_a) - 1.0


def median_misfit(a: Moments, b: Moments) -> float:
    """The median over channels of `symmetric_kl`: a few dead or drifted channels do not move it."""
    return float(symmetric_kl(a, b).nan_to_num(nan=torch.inf).median())


def contradicted(fits: Sequence[float]) -> bool:
    """Whether a BatchNorm misfits behind ones that fit: law, weights and statistics belong together, and the layers
    between them do not."""
    first = next((k for k, fit in enumerate(fits) if fit > GOOD), 0)
    return first > 0 and min(fits[:first]) <= FITS
