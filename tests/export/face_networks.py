"""GFPGAN's clean architecture, as its authors' code runs it, written anew: a U-Net whose features scale and shift those
of a StyleGAN 2."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.image_networks import conv


class FaceBlock(nn.Module):
    """GFPGAN's residual block, to half or twice the size."""

    def __init__(self, takes: int, makes: int, factor: float) -> None:
        super().__init__()
        self.conv1, self.conv2, self.factor = conv(takes, takes), conv(takes, makes), factor
        self.skip = nn.Conv2d(takes, makes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made = functional.leaky_relu(self.conv1(x), 0.2)
        made, x = (functional.interpolate(each, scale_factor=self.factor, mode="bilinear") for each in (made, x))
        skipped: Tensor = self.skip(x)
        return functional.leaky_relu(self.conv2(made), 0.2) + skipped


class Styled(nn.Module):
    """A modulated convolution with noise, or without, as the one that makes an image."""

    def __init__(self, takes: int, makes: int, w_dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.modulated_conv = nn.Module()
        self.modulated_conv.modulation = nn.Linear(w_dim, takes)
        self.modulated_conv.weight = nn.Parameter(torch.empty(1, makes, takes, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(1, makes, 1, 1))
        if kernel > 1:
            self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        made = []
        for image, scale in zip(x, self.modulated_conv.get_submodule("modulation")(w), strict=True):
            kernel = self.modulated_conv.get_parameter("weight")[0] * scale.reshape(-1, 1, 1)
            if noise is not None:
                kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
            made.append(functional.conv2d(image, kernel, padding=kernel.shape[-1] // 2))
        y = torch.stack(made)
        if noise is None:
            return y + self.bias
        return functional.leaky_relu(y * 2**0.5 + self.weight * noise + self.bias, 0.2)


class Restorer(nn.Module):
    """GFPGAN, clean. forward(image, noise)."""

    def __init__(self, widths: tuple[int, ...], w_dim: int = 5, *, half: bool = True) -> None:
        super().__init__()
        self.halved, self.steps = half, len(widths) - 1
        ups = list(pairwise(widths))
        self.conv_body_first = nn.Conv2d(3, widths[-1], 1)
        self.conv_body_down = nn.ModuleList(FaceBlock(wide, narrow, 0.5) for narrow, wide in reversed(ups))
        self.final_conv = conv(widths[0], widths[0])
        self.conv_body_up = nn.ModuleList(FaceBlock(before, out, 2) for before, out in ups)
        self.toRGB = nn.ModuleList(nn.Conv2d(out, 3, 1) for out in widths[1:])
        self.final_linear = nn.Linear(16 * widths[0], 2 * len(widths) * w_dim)
        decoder = self.stylegan_decoder = nn.Module()
        decoder.style_mlp = nn.Sequential(nn.Identity(), nn.Linear(w_dim, w_dim))
        decoder.constant_input = nn.Module()
        decoder.constant_input.weight = nn.Parameter(torch.empty(1, 2 * widths[0], 4, 4))
        decoder.style_conv1 = Styled(2 * widths[0], 2 * widths[0], w_dim)
        decoder.to_rgb1 = Styled(2 * widths[0], 3, w_dim, 1)
        wide = [(2 * before, 2 * out) for before, out in ups]
        decoder.style_convs = nn.ModuleList(
            Styled(takes, out, w_dim) for before, out in wide for takes in (before, out)
        )
        decoder.to_rgbs = nn.ModuleList(Styled(out, 3, w_dim, 1) for _, out in wide)
        decoder.noises = nn.Module()
        for index in range(2 * self.steps + 1):
            side = 4 << (index + 1) // 2
            decoder.noises.register_buffer(f"noise{index}", torch.randn(1, 1, side, side))
        for name in ("condition_scale", "condition_shift"):
            makes = [(out, out if half else 2 * out) for out in widths[1:]]
            parts = [nn.Sequential(conv(out, out), nn.LeakyReLU(0.2), conv(out, made)) for out, made in makes]
            self.add_module(name, nn.ModuleList(parts))

    def forward(self, image: Tensor, noise: float = 1.0) -> Tensor:
        x = functional.leaky_relu(self.conv_body_first(image), 0.2)
        skips = []
        for block in self.conv_body_down:
            x = block(x)
            skips.append(x)
        x = functional.leaky_relu(self.final_conv(x), 0.2)
        ws = self.final_linear(x.flatten(1)).unflatten(1, (2 * self.steps + 2, -1))
        part, noises = (
            self.stylegan_decoder.get_submodule,
            [noise * each for each in self.stylegan_decoder.get_submodule("noises").buffers()],
        )
        y = self.stylegan_decoder.get_parameter("constant_input.weight").expand(len(image), -1, -1, -1)
        y = part("style_conv1")(y, ws[:, 0], noises[0])
        rgb: Tensor = part("to_rgb1")(y, ws[:, 1])
        for index in range(self.steps):
            x = self.conv_body_up[index](x + skips[-1 - index])
            scale, shift = (self.get_submodule(f"condition_{each}.{index}")(x) for each in ("scale", "shift"))
            y, rgb = (functional.interpolate(each, scale_factor=2, mode="bilinear") for each in (y, rgb))
            row = 2 * index + 1
            y = part(f"style_convs.{row - 1}")(y, ws[:, row], noises[row])
            kept = y.shape[1] // 2 if self.halved else 0
            y = torch.cat((y[:, :kept], y[:, kept:] * scale + shift), 1)
            y = part(f"style_convs.{row}")(y, ws[:, row + 1], noises[row + 1])
            rgb = part(f"to_rgbs.{index}")(y, ws[:, row + 2]) + rgb
        return rgb
