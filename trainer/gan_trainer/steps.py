"""One training step: the whole algorithm.

Both networks stay in training mode. Nothing here waits for the device: the step's numbers come back as a tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_trainer.losses import LOSSES, GanLoss, score
from gan_trainer.recipes import DLoss, Loss, Order

STATS = ("loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2")
"""What a step reports: the two losses, D(x) on reals, D(G(z)) in D's step and in G's. With D first, the second D(G(z))
sees D's update; with G first, both are the same number."""


def train_step(
    G: nn.Module,
    D: nn.Module,
    opt_G: Optimizer,
    opt_D: Optimizer,
    real_NCHW: Tensor,
    z: Tensor,
    *,
    loss: Loss,
    order: Order,
    d_loss: DLoss,
    label: Tensor | None = None,
) -> Tensor:
    """One step of D and one of G on the same fakes G(z), drawn once. Returns `STATS`, float32 (5,), on the device.

    `label` int64 (N,) are the classes of the reals. Fakes are drawn of the same ones, so that classes are as frequent
    among them as in the data.
    """
    of = LOSSES[loss]
    fake_NCHW = G(z, label)
    if order == "d_first":
        loss_d, d_x, d_g_z1 = d_step(D, opt_D, real_NCHW, fake_NCHW.detach(), of, d_loss, label)
        loss_g, d_g_z2 = g_step(D, opt_G, fake_NCHW, of, label)
    else:
        loss_g, d_g_z2 = g_step(D, opt_G, fake_NCHW, of, label)
        loss_d, d_x, d_g_z1 = d_step(D, opt_D, real_NCHW, fake_NCHW.detach(), of, d_loss, label)
    return torch.stack((loss_d, loss_g, d_x, d_g_z1, d_g_z2))


def d_step(
    D: nn.Module,
    opt_D: Optimizer,
    real_NCHW: Tensor,
    fake_NCHW: Tensor,
    of: GanLoss,
    d_loss: DLoss,
    label: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """D learns to tell real from fake. Returns (loss, D(x), D(G(z))) before the update.

    Reals and fakes pass in batches of their own where "sum" or "mean" says so: BatchNorm sees each alone, as the
    tutorials have it. "joined" passes both at once, for a D without BatchNorm: the same loss as "sum", one pass.
    """
    opt_D.zero_grad()
    if d_loss == "joined":
        both = None if label is None else torch.cat((label, label))
        logits = D(torch.cat((real_NCHW, fake_NCHW)), both)
        real_logits, fake_logits = logits.split((len(real_NCHW), len(fake_NCHW)))
        loss = of.d_real(real_logits) + of.d_fake(fake_logits)
        loss.backward()
        opt_D.step()
        return loss.detach(), score(real_logits), score(fake_logits)
    real_logits = D(real_NCHW, label)
    loss_real = of.d_real(real_logits)
    if d_loss == "sum":
        loss_real.backward()
    fake_logits = D(fake_NCHW, label)
    loss_fake = of.d_fake(fake_logits)
    if d_loss == "sum":
        loss_fake.backward()  # the gradients add up
        loss = loss_real + loss_fake
    else:
        loss = (loss_real + loss_fake) / 2
        loss.backward()
    opt_D.step()
    return loss.detach(), score(real_logits), score(fake_logits)


def g_step(
    D: nn.Module, opt_G: Optimizer, fake_NCHW: Tensor, of: GanLoss, label: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """G learns to be taken for real. Returns (loss, D(G(z))) before the update."""
    opt_G.zero_grad()
    D.requires_grad_(False)  # D only passes the gradient on: its own would be thrown away
    try:
        logits = D(fake_NCHW, label)
        loss = of.g(logits)
        loss.backward()
    finally:
        D.requires_grad_(True)
    opt_G.step()
    return loss.detach(), score(logits)
