"""The GAN losses, on logits l = D(x) before the sigmoid σ.

Goodfellow et al. 2014 (arXiv:1406.2661), the non-saturating form that every tutorial trains:

    L_D(real) = -log σ(l)      = softplus(-l)
    L_D(fake) = -log(1 - σ(l)) = softplus(l)
    L_G       = -log σ(l) of the fakes: G maximises log D(G(z))

BCELoss(sigmoid(l), target) is the same number; from the logits it stays finite where the sigmoid rounds to 0 or 1
(BCELoss clamps its log at -100 there).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def real_loss(logits: Tensor) -> Tensor:
    """Mean binary cross entropy of `logits` (N,) against "1": D's loss on reals, G's loss on fakes."""
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def fake_loss(logits: Tensor) -> Tensor:
    """Mean binary cross entropy of `logits` (N,) against "0": D's loss on fakes."""
    return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))


def score(logits: Tensor) -> Tensor:
    """D(x) as the tutorials print it: the mean of the sigmoid, in [0, 1], without a gradient."""
    return logits.detach().sigmoid().mean()
