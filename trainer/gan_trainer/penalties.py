"""Penalties on D's gradient with respect to images. All need double backward, and a D without BatchNorm (with it, the
gradient of one image depends on the others).

gp, WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028), weight λ = 10, on points between reals and fakes:

    GP = E (‖∇D(x̂)‖ - 1)²,   x̂ = a x + (1 - a) G(z),   a uniform in [0, 1]

r1, r1r2, zero-centred (Mescheder et al. 2018, arXiv:1801.04406; both together in R3GAN, Huang et al. 2024,
arXiv:2501.05441), weight γ / 2:

    R1 = E ‖∇D(x)‖² on reals      R2 = E ‖∇D(G(z))‖² on fakes

Lazy regularisation (Karras et al. 2020, arXiv:1912.04958): computed every k-th step only, k times as heavy, the
penalty costs a k-th and pulls as hard on average. Adam's betas are left as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
