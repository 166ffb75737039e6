"""Small networks with the keys of StyleGAN 3 and of lucidrains' StyleGAN 2, computed the long way."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu, pad

from export.style_networks import modulated, normalised, resampled


class StyleGan3(nn.Module):
    """The keys of StyleGAN 3: two layers and one to RGB, of 32x32 with a margin of 10, computed the long way."""

    SIZES = ((36, 36, 2, 2), (36, 32, 4, 2))
    """Of each layer: the side of the image before and after, and by how much it goes up and down inside."""

    def __init__(self, kernel: int = 3, radial: bool = False, w_dim: int = 5) -> None:
        super().__init__()
        self.kernel, widths = kernel, (4, 3, 5)
        held = {"mapping.w_avg": torch.randn(w_dim), "mapping.fc0.weight": 100 * torch.randn(w_dim, 6)}
        held |= {"mapping.fc0.bias": torch.randn(w_dim), "synthesis.input.weight": torch.randn(4, 4)}
        held |= {
            "synthesis.input.affine.weight": 0.1 * torch.randn(4, w_dim),
            "synthesis.input.transform": torch.eye(3),
        }
        held |= {"synthesis.input.affine.bias": torch.tensor([1.0, 0, 0, 0]), "synthesis.input.phases": torch.rand(4)}
        held["synthesis.input.freqs"] = torch.randn(4, 2)
        self.names = [f"synthesis.L{n}_{size[1]}_{widths[n + 1]}" for n, size in enumerate(self.SIZES)]
        for n, name in enumerate((*self.names, "synthesis.L2_32_3")):
            out, k = ((*widths[1:], 3)[n], 1 if n == 2 else kernel)
            held |= {f"{name}.weight": torch.randn(out, widths[n], k, k), f"{name}.bias": 0.3 * torch.randn(out)}
            held |= {
                f"{name}.affine.weight": torch.randn(widths[n], w_dim),
                f"{name}.affine.bias": torch.ones(widths[n]),
            }
            held[f"{name}.magnitude_ema"] = torch.rand([]) + 0.5
        for name, (_, _, up, _) in zip(self.names, self.SIZES, strict=True):
            held[f"{name}.up_filter"] = torch.rand(6 * up) / (3 * up)
            held[f"{name}.down_filter"] = torch.rand(12, 12) / 36 if radial else torch.rand(12) / 6
        self.held = held

    def w(self, z: Tensor) -> Tensor:
        weight = self.held["mapping.fc0.weight"] * 0.01 / math.sqrt(z.shape[1])
        return leaky_relu(normalised(z) @ weight.T + 0.01 * self.held["mapping.fc0.bias"], 0.2) * math.sqrt(2)

    def _convolved(self, name: str, x: Tensor, w: Tensor, rgb: bool) -> Tensor:
        weight, held = self.held[f"{name}.weight"], self.held
        style = w @ (held[f"{name}.affine.weight"] / math.sqrt(w.shape[1])).T + held[f"{name}.affine.bias"]
        style = style / math.sqrt(x.shape[1]) if rgb else style / style.square().mean().sqrt()
        weight = weight if rgb else weight / weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        border = weight.shape[-1] // 2  # `modulated` has as much already
        x = modulated(pad(x, (border,) * 4), weight, style, demodulate=not rgb) / held[f"{name}.magnitude_ema"].sqrt()
        return x + held[f"{name}.bias"].reshape(1, -1, 1, 1)

    def forward(self, ws: Tensor) -> Tensor:
        held, places = self.held, (torch.arange(36) + 0.5 - 18) / 16
        t = ws[:, 0] @ (held["synthesis.input.affine.weight"] / math.sqrt(ws.shape[2])).T
        t = t + held["synthesis.input.affine.bias"]
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1)
        waves = []
        for cos, sin, right, down in t.tolist():
            freqs = held["synthesis.input.freqs"]
            matrix = torch.tensor([[cos, -sin], [sin, cos]])
            phases = held["synthesis.input.phases"] - freqs @ matrix @ torch.tensor([right, down])
            freqs = freqs @ matrix
            damped = (1 - (freqs.norm(dim=1) - 2.0) / (8.0 - 2.0)).clamp(0, 1)
            waves.append(torch.sin(2 * math.pi * (grid @ freqs.T + phases)) * damped)
        x = (torch.stack(waves) @ held["synthesis.input.weight"].T / 2).permute(0, 3, 1, 2)
        for n, (name, (before, side, up, down)) in enumerate(zip(self.names, self.SIZES, strict=True)):
            x = self._convolved(name, x, ws[:, n + 1], rgb=False)
            rise, fall = held[f"{name}.up_filter"], held[f"{name}.down_filter"]
            fall = fall if fall.ndim == 2 else fall.outer(fall)
            total = (side - 1) * down + 1 - (before + self.kernel - 1) * up + len(rise) + len(fall) - 2
            low = (total + up) // 2
            x = resampled(x, up**2 * rise.outer(rise), up, low, total - low)
            x = (leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-256, 256)
            x = resampled(x, fall, 1, 0, 0)[:, :, ::down, ::down]
        return self._convolved("synthesis.L2_32_3", x, ws[:, 3], rgb=True) / 4


class Lucidrains(nn.Module):
    """lucidrains' keys: the mapping network as "SE.…", the generator of 16x16 as "GE.…"."""

    def __init__(self, w_dim: int = 5, channels: tuple[int, ...] = (4, 4, 3, 2)) -> None:
        super().__init__()
        self.blocks, held = len(channels) - 1, dict[str, Tensor]()
        for n in (0, 2):
            held |= {f"SE.net.{n}.weight": 5 * torch.randn(w_dim, w_dim), f"SE.net.{n}.bias": torch.randn(w_dim)}
        held |= {
            "GE.initial_block": torch.randn(1, channels[0], 4, 4),
            "GE.initial_conv.bias": torch.randn(channels[0]),
        }
        held["GE.initial_conv.weight"] = torch.randn(channels[0], channels[0], 3, 3)
        for n in range(self.blocks):
            name, before, out = f"GE.blocks.{n}", channels[n], channels[n + 1]
            for style, conv, shape in (
                ("to_style1", "conv1", (out, before, 3, 3)),
                ("to_style2", "conv2", (out, out, 3, 3)),
                ("to_rgb.to_style", "to_rgb.conv", (3, out, 1, 1)),
            ):
                held |= {f"{name}.{conv}.weight": torch.randn(shape), f"{name}.{style}.bias": torch.randn(shape[1])}
                held[f"{name}.{style}.weight"] = torch.randn(shape[1], w_dim)
            for noise in ("to_noise1", "to_noise2"):
                held |= {f"{name}.{noise}.weight": torch.randn(out, 1), f"{name}.{noise}.bias": torch.randn(out)}
            if n < self.blocks - 1:
                held[f"{name}.to_rgb.upsample.1.f"] = torch.tensor([1.0, 2.0, 1.0])
        self.held = held

    def w(self, z: Tensor) -> Tensor:
        x: Tensor = z / z.square().sum(dim=1, keepdim=True).sqrt()
        for n in (0, 2):
            x = leaky_relu(0.1 * (x @ self.held[f"SE.net.{n}.weight"].T + self.held[f"SE.net.{n}.bias"]), 0.2)
        return x

    def _conv(self, n: int, conv: str, style: str, x: Tensor, w: Tensor) -> Tensor:
        held, name = self.held, f"GE.blocks.{n}"
        scale = w @ held[f"{name}.{style}.weight"].T + held[f"{name}.{style}.bias"] + 1
        return modulated(x, held[f"{name}.{conv}.weight"], scale, demodulate="rgb" not in conv)

    def forward(self, ws: Tensor, noise: Tensor) -> Tensor:
        """`noise` (H, W), of which a layer takes the corner of its size, transposed."""
        held, rgb = self.held, torch.zeros([])
        start = held["GE.initial_block"].expand(len(ws), -1, -1, -1)
        x = conv2d(start, held["GE.initial_conv.weight"], held["GE.initial_conv.bias"], padding=1)
        for n in range(self.blocks):
            x = interpolate(x, scale_factor=2, mode="bilinear") if n else x
            side = x.shape[2]
            for number in ("1", "2"):
                x = self._conv(n, f"conv{number}", f"to_style{number}", x, ws[:, n])
                strength = held[f"GE.blocks.{n}.to_noise{number}.weight"].reshape(-1, 1, 1)
                shift = held[f"GE.blocks.{n}.to_noise{number}.bias"].reshape(-1, 1, 1)
                x = leaky_relu(x + strength * noise[:side, :side].T + shift, 0.2)
            rgb = self._conv(n, "to_rgb.conv", "to_rgb.to_style", x, ws[:, n]) + rgb
            if n < self.blocks - 1:
                taps = torch.tensor([1.0, 2.0, 1.0]) / 4
                rgb = pad(interpolate(rgb, scale_factor=2, mode="bilinear"), (1, 1, 1, 1), mode="reflect")
                rgb = resampled(rgb, taps.outer(taps), 1, 0, 0)
        return rgb
