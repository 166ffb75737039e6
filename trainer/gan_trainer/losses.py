"""The GAN losses, on logits l = D(x) before any sigmoid σ, and the penalties on D's gradient.

bce: Goodfellow et al. 2014 (arXiv:1406.2661), in the non-saturating form that every tutorial trains:

    L_D(real) = -log σ(l)      = softplus(-l)
    L_D(fake) = -log(1 - σ(l)) = softplus(l)
    L_G       = -log σ(l) of the fakes: G maximises log D(G(z))

BCELoss(sigmoid(l), target) is the same number; from the logits it stays finite where the sigmoid rounds to 0 or 1
(BCELoss clamps its log at -100 there).

hinge: Lim and Ye 2017 (arXiv:1705.02894), with spectral normalisation as in Miyato et al. 2018 (arXiv:1802.05957):

    L_D(real) = max(0, 1 - l)      L_D(fake) = max(0, 1 + l)      L_G = -l of the fakes

wasserstein: Arjovsky et al. 2017 (arXiv:1701.07875), made to work by the penalty gp:

    L_D(real) = -l      L_D(fake) = l      L_G = -l of the fakes

relativistic: each real paired with a fake (Jolicoeur-Martineau 2018, arXiv:1807.00734), as in R3GAN (Huang et al. 2024,
arXiv:2501.05441), with the penalties R1 and R2:

    L_D = softplus(-(D(x) - D(G(z))))      L_G = softplus(-(D(G(z)) - D(x)))

Penalties need double backward, and a D without BatchNorm (with it, the gradient of one image depends on the others).

gp, WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028), weight λ = 10, on points between reals and fakes:

    GP = E (‖∇D(x̂)‖ - 1)²,   x̂ = a x + (1 - a) G(z),   a uniform in [0, 1]

r1, r1r2, zero-centred (Mescheder et al. 2018, arXiv:1801.04406; both together in R3GAN), weight γ / 2:

    R1 = E ‖∇D(x)‖² on reals      R2 = E ‖∇D(G(z))‖² on fakes

Lazy regularisation (Karras et al. 2020, arXiv:1912.04958): computed every k-th step only, k times as heavy, the
penalty costs a k-th and pulls as hard on average. Adam's betas are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def gradient_penalty(D: nn.Module, real_NCHW: Tensor, fake_NCHW: Tensor, a: Tensor, label: Tensor | None) -> Tensor:
    """GP, a number: `a` float32 (N,) says where between real and fake each point lies."""
    a = a[:, None, None, None]
    between_NCHW = (a * real_NCHW + (1 - a) * fake_NCHW).detach().requires_grad_(True)
    norms = squared_norms(D(between_NCHW, label), between_NCHW).sqrt()
    return (norms - 1).square().mean()


def squared_norms(logits: Tensor, images_NCHW: Tensor) -> Tensor:
    """‖∇D‖² of each image, float32 (N,), to be differentiated further. `logits` were made of `images_NCHW`."""
    (gradient,) = torch.autograd.grad(logits.sum(), images_NCHW, create_graph=True)
    # Away from 0, where the square root that gp takes has no gradient.
    return gradient.float().square().sum((1, 2, 3)) + 1e-12
