"""The GAN losses, on logits l = D(x) before any sigmoid σ.

bce: Goodfellow et al. 2014 (arXiv:1406.2661), in the non-saturating form that every tutorial trains:

    L_D(real) = -log σ(l)      = softplus(-l)
    L_D(fake) = -log(1 - σ(l)) = softplus(l)
    L_G       = -log σ(l) of the fakes: G maximises log D(G(z))

BCELoss(sigmoid(l), target) is the same number; from the logits it stays finite where the sigmoid rounds to 0 or 1
(BCELoss clamps its log at -100 there).

hinge: Lim and Ye 2017 (arXiv:1705.02894), with spectral normalisation as in Miyato et al. 2018 (arXiv:1802.05957):

    L_D(real) = max(0, 1 - l)      L_D(fake) = max(0, 1 + l)      L_G = -l of the fakes

wasserstein: Arjovsky et al. 2017 (arXiv:1701.07875), made to work by the gradient penalty of `gan_trainer.penalties`:

    L_D(real) = -l      L_D(fake) = l      L_G = -l of the fakes

relativistic: each real paired with a fake (Jolicoeur-Martineau 2018, arXiv:1807.00734), as in R3GAN (Huang et al. 2024,
arXiv:2501.05441), with R1 and R2 of `gan_trainer.penalties`:

    L_D = softplus(-(D(x) - D(G(z))))      L_G = softplus(-(D(G(z)) - D(x)))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_trainer.recipes import UNSCALED, Loss

Of = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GanLoss:
    """Three means over logits (N,): D's loss on reals, D's loss on fakes, G's loss on fakes.

    A paired loss takes the differences of reals and fakes, the i-th from the i-th, for logits.
    """

    d_real: Of
    d_fake: Of
    g: Of
    paired: bool = False

    def d_of(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """D's loss."""
        if self.paired:
            return self.d_real(real_logits - fake_logits)
        return self.d_real(real_logits) + self.d_fake(fake_logits)

    def g_of(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """G's loss. Only a paired loss needs the reals."""
        return self.g(fake_logits if real_logits is None else fake_logits - real_logits)


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
    "wasserstein": GanLoss(
        d_real=lambda logits: -logits.mean(), d_fake=lambda logits: logits.mean(), g=lambda logits: -logits.mean()
    ),
    "relativistic": GanLoss(d_real=real_loss, d_fake=fake_loss, g=real_loss, paired=True),
}

CHANCE: dict[Loss, float] = {"bce": 2 * math.log(2), "hinge": 2.0, "relativistic": math.log(2)}
"""D's loss (real + fake) when it cannot tell them apart, l = 0. The Wasserstein loss has no scale."""


def score(logits: Tensor, loss: Loss) -> Tensor:
    """D(x) without a gradient: the mean of the sigmoid, in [0, 1], as the tutorials print it.

    With a loss that is `UNSCALED` the mean of the output itself.
    """
    return (logits.detach() if loss in UNSCALED else logits.detach().sigmoid()).mean()
