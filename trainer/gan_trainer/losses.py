"""The GAN losses, on logits l = D(x) before any sigmoid σ.

bce: Goodfellow et al. 2014 (arXiv:1406.2661), in the non-saturating form that every tutorial trains:

    L_D(real) = -log σ(l)      = softplus(-l)
    L_D(fake) = -log(1 - σ(l)) = softplus(l)
    L_G       = -log σ(l) of the fakes: G maximises log D(G(z))

BCELoss(sigmoid(l), target) is the same number; from the logits it stays finite where the sigmoid rounds to 0 or 1
(BCELoss clamps its log at -100 there).

hinge: Lim and Ye 2017 (arXiv:1705.02894), with spectral normalisation as in Miyato et al. 2018 (arXiv:1802.05957):

    L_D(real) = max(0, 1 - l)      L_D(fake) = max(0, 1 + l)      L_G = -l of the fakes
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_trainer.recipes import Loss

Of = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GanLoss:
    """Three means over logits (N,): D's loss on reals, D's loss on fakes, G's loss on fakes."""

    d_real: Of
    d_fake: Of
    g: Of


def real_loss(logits: Tensor) -> Tensor:
    """Mean binary cross entropy of `logits` (N,) against "1": D's loss on reals, G's loss on fakes."""
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def fake_loss(logits: Tensor) -> Tensor:
    """Mean binary cross entropy of `logits` (N,) against "0": D's loss on fakes."""
    return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))


LOSSES: dict[Loss, GanLoss] = {
    "bce": GanLoss(d_real=real_loss, d_fake=fake_loss, g=real_loss),
    "hinge": GanLoss(
        d_real=lambda logits: F.relu(1 - logits).mean(),
        d_fake=lambda logits: F.relu(1 + logits).mean(),
        g=lambda logits: -logits.mean(),
    ),
}


def score(logits: Tensor) -> Tensor:
    """D(x) as the tutorials print it: the mean of the sigmoid, in [0, 1], without a gradient."""
    return logits.detach().sigmoid().mean()
