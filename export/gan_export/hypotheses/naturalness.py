"""What images look like, in numbers: those of the right generator are smoother, cleaner and alike at their borders.

Some of the numbers are of the values before the last activation, as a logit of the pixel: a network that was trained
through a tanh or a sigmoid makes a black background as sure as that takes, and through the other it looks half as sure
or twice. The numbers are compared between candidates of one file, never with a threshold.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NAMES = (
    "variation", "curvature", "speckle", "contrast", "border", "spread", "black", "white", "middle", "nyquist",
    "neighbour", "outside", "flat", "nearest", "rim logit", "rim scatter", "rim", "centre", "centre over rim",
    "dark logit", "middle logit", "bright logit", "brightest logit", "logit variation", "mean variation", "reach",
    "depth", "isolated",
)  # fmt: skip
SMALL = 1e-3
DARK, BRIGHT = 0.06, 0.94
SURE = 1e-6
"""Pixels closer to black or white than this count as this close."""


def statistics(image_NCHW: Tensor) -> Tensor:
    """`NAMES` of images float32 (N, C, H, W), black 0 and white 1 where in range: float32 (len(NAMES),), all finite."""
    x = image_NCHW.clamp(0.0, 1.0)
    logit, apart = torch.logit(image_NCHW.clamp(SURE, 1.0 - SURE)), _apart(x)
    return torch.stack((*_smoothness(image_NCHW, x, apart), *_sureness(x, logit, apart))).nan_to_num(0.0, 0.0, 0.0)


def _smoothness(image: Tensor, x: Tensor, apart: Tensor) -> list[Tensor]:
    across, down = _steps(x)
    contrast = _std(x.flatten(1), 1).mean()
    scale = contrast + SMALL
    curve = (across[..., 1:] - across[..., :-1]).abs().mean() + (down[..., 1:, :] - down[..., :-1, :]).abs().mean()
    grey = x.mean(dim=1)
    border = torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), dim=1)
    sign = 1.0 - 2.0 * ((torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])) % 2)
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    beside = (centred[..., 1:] * centred[..., :-1]).mean() + (centred[..., 1:, :] * centred[..., :-1, :]).mean()
    vectors = F.avg_pool2d(grey[:, None], max(1, grey.shape[-1] // 8)).flatten(1)
    distance = torch.cdist(vectors, vectors) + torch.eye(len(x)) * 1e3
    nearest = distance.min(dim=1).values.mean() / (distance[distance < 1e2].mean() + SMALL)
    return [
        ((across.abs().mean() + down.abs().mean()) / scale + SMALL).log(),
        (curve / scale + SMALL).log(),
        (apart.mean() / scale + SMALL).log(),
        scale.log(),
        (_std(border, 0).mean() + 0.005).log(),
        (_std(x, 0).mean() / scale + SMALL).log(),
        (x < DARK).float().mean(),
        (x > BRIGHT).float().mean(),
        ((x > 0.25) & (x < 0.75)).float().mean(),
        ((centred * sign).mean(dim=(2, 3)).abs().mean() / scale + SMALL).log(),
        0.5 * beside / (centred.square().mean() + SMALL**2),
        ((image < -0.02) | (image > 1.02)).float().mean(),
        ((across.abs() < 0.01).float().mean() + (down.abs() < 0.01).float().mean()) / 2,
        nearest,
    ]


def _sureness(x: Tensor, logit: Tensor, apart: Tensor) -> list[Tensor]:
    height, width = x.shape[2:]
    sides = (logit[:, :, 0], logit[:, :, -1], logit[..., 0], logit[..., -1])
    rim = torch.cat([side.flatten() for side in sides])
    grey, edge = x.mean(dim=1), max(1, height // 7)
    outer = torch.cat((grey[:, :edge].flatten(1), grey[:, -edge:].flatten(1)), dim=1).mean()
    inner = grey[:, height // 3 : -(height // 3), width // 3 : -(width // 3)].mean()
    flat = logit.flatten()
    marks = torch.quantile(flat[:: max(1, len(flat) // 50_000)], torch.tensor([0.25, 0.5, 0.95, 0.99]))
    shown, mean = logit.clamp(-14.0, 14.0), x.mean(dim=0)
    across, down = _steps(shown)
    low, high = x.flatten(1).quantile(torch.tensor([0.05, 0.99]), dim=1).mean(dim=1)
    mean_across, mean_down = _steps(mean)
    return [
        rim.median() / 8,
        (_std(rim, 0) + 0.1).log(),
        outer,
        inner,
        inner - outer,
        *(marks / 8),
        ((across.abs().mean() + down.abs().mean()) / (_std(shown.flatten(1), 1).mean() + SMALL) + 0.01).log(),
        ((mean_across.abs().mean() + mean_down.abs().mean()) / (_std(mean.flatten(), 0) + 0.01) + 0.01).log(),
        high,
        low,
        (apart > 0.3).float().mean(),
    ]


def _steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """What each pixel differs from the one before it, across and down."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _apart(x: Tensor) -> Tensor:
    """How far each pixel is from the mean of the nine around it, fewer at a border. Slower by avg_pool2d."""
    across = F.pad(x, (1, 1, 1, 1))
    across = across[..., :-2] + across[..., 1:-1] + across[..., 2:]
    around = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    return (x - around / (_count(x.shape[2])[:, None] * _count(x.shape[3]))).abs()


def _count(side: int) -> Tensor:
    """How many of a pixel, the one before and the one behind it are there: float32 (side,)."""
    count = torch.full((side,), 3.0)
    count[0] -= 1.0
    count[-1] -= 1.0
    return count


def _std(x: Tensor, dim: int) -> Tensor:
    """`x.std(dim)`, which takes several times as long."""
    return ((x - x.mean(dim, keepdim=True)).square().sum(dim) / (x.shape[dim] - 1)).sqrt()
