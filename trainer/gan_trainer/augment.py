"""Differentiable augmentation: D sees reals and fakes through the same random transformations T.

    L_D = f(D(T(x)), D(T(G(z)))),   L_G = g(D(T(G(z)))),   the gradient flows through T to G

so D cannot learn the few images of a small data set by heart, and what T does is not learnt as part of the images
(DiffAugment, Zhao et al. 2020, arXiv:2006.10738). The numbers are the paper's:

    flip         mirrored left to right, every other image (ours, as the paper's data loader does it)
    colour       brightness x + (u - 1/2), saturation and contrast scaled by 2u and u + 1/2; RGB only
    translation  shifted by up to an eighth of the side each way, zeros (mid grey) come in
    cutout       a square of half the side, anywhere, set to zero

Everything random comes in as uniform numbers, so that the transformation itself is a pure function: resumable, and
nothing waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_trainer.recipes import AUGMENTATIONS

TRANSLATION = 1 / 8
CUTOUT = 1 / 2


def augment(images_NCHW: Tensor, u: Tensor, names: tuple[str, ...]) -> Tensor:
    """T of images (N, C, H, W) in [-1, 1], each by its own row of `u`, uniform in [0, 1), (N, `columns(names)`)."""
    start = 0
    for name in names:
        stop = start + AUGMENTATIONS[name]
        images_NCHW = _TRANSFORMS[name](images_NCHW, u[:, start:stop])
        start = stop
    return images_NCHW


def flip(x: Tensor, u: Tensor) -> Tensor:
    return torch.where(u[:, 0, None, None, None] < 0.5, x.flip(3), x)


def colour(x: Tensor, u: Tensor) -> Tensor:
    brightness, saturation, contrast = u[:, :, None, None, None].unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    level = x.mean((1, 2, 3), keepdim=True)
    return (x - level) * (contrast + 0.5) + level


def translation(x: Tensor, u: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows, row_inside = _shifted(u[:, 0], height)
    cols, col_inside = _shifted(u[:, 1], width)
    x = x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, cols[:, None, None, :].expand_as(x))
    return x * (row_inside[:, None, :, None] & col_inside[:, None, None, :])


def _shifted(u: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where each of `side` pixels is taken from, int64 (N, side), and whether that lies inside the image."""
    reach = int(side * TRANSLATION + 0.5)
    shift = (u * (2 * reach + 1)).long() - reach
    source = torch.arange(side, device=u.device) + shift[:, None]
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def cutout(x: Tensor, u: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows, cols = _cut(u[:, 0], height), _cut(u[:, 1], width)
    return x * ~(rows[:, None, :, None] & cols[:, None, None, :])


def _cut(u: Tensor, side: int) -> Tensor:
    """Which of `side` pixels lie under the square, bool (N, side): its centre is anywhere in the image."""
    length = int(side * CUTOUT + 0.5)
    first = (u * (side + 1 - length % 2)).long() - length // 2
    pixel = torch.arange(side, device=u.device)
    return (pixel >= first[:, None]) & (pixel < first[:, None] + length)


_TRANSFORMS = {"flip": flip, "colour": colour, "translation": translation, "cutout": cutout}
