"""FastGAN and projected-gan's generator as their authors write them, tiny."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.foreign_biggan import BrockNorm
from export.style_networks import normalised


def spectral(layer: nn.Module) -> nn.Module:
    made: nn.Module = nn.utils.spectral_norm(layer)
    return made


class NoiseInjection(nn.Module):
    """FastGAN's noise, of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight * 0


class Excitation(nn.Module):
    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(takes, makes, 4, bias=False), nn.Conv2d(makes, makes, 1, bias=False)
        self.main = nn.Sequential(nn.AdaptiveAvgPool2d(4), spectral(first), nn.SiLU(), spectral(second), nn.Sigmoid())

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        made: Tensor = large * self.main(small)
        return made


def fast_block(takes: int, makes: int, *, twice: bool) -> nn.Sequential:
    """A size of FastGAN: with noise where it has two convolutions."""
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
    for given in (takes, makes) if twice else (takes,):
        layers.append(spectral(nn.Conv2d(given, 2 * makes, 3, padding=1, bias=False)))
        layers += [*([NoiseInjection()] if twice else []), nn.BatchNorm2d(2 * makes), nn.GLU(dim=1)]
    return nn.Sequential(*layers)


class FastBlock(nn.Module):
    """A size of projected-gan's FastGAN with classes."""

    def __init__(self, takes: int, makes: int, z_dim: int) -> None:
        super().__init__()
        self.conv1 = spectral(nn.Conv2d(takes, 2 * makes, 3, padding=1, bias=False))
        self.conv2 = spectral(nn.Conv2d(makes, 2 * makes, 3, padding=1, bias=False))
        self.bn1, self.bn2 = (BrockNorm(2 * makes, z_dim) for _ in range(2))
        for norm in (self.bn1, self.bn2):
            norm.gain, norm.bias = (spectral(nn.Linear(z_dim, 2 * makes)) for _ in range(2))
        self.noise = NoiseInjection()

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = F.glu(norm(self.noise(conv(x)), style), dim=1)
        return x


class FastNet(nn.Module):
    """FastGAN, and with `projected` projected-gan's: six sizes at least, also where `size` is 128."""

    def __init__(
        self, size: int = 256, *, projected: bool = False, twice: bool | None = None, classes: int = 0
    ) -> None:
        super().__init__()
        self.size, self.projected, self.classes = size, projected, classes
        widths, sides = (6, 5, 4, 4, 3, 3, 2, 2), (8, 16, 32, 64, 128, 256, 512)
        init = spectral(nn.ConvTranspose2d(6, 2 * widths[0], 4, bias=False)), nn.BatchNorm2d(2 * widths[0])
        self.init = nn.ModuleDict({"init": nn.Sequential(*init, nn.GLU(dim=1))})
        self.sides = tuple(side for side in sides if side <= max(size, 256))
        for index, side in enumerate(self.sides):
            doubled = index % 2 == 0 if twice is None else twice
            block = fast_block(widths[index], widths[index + 1], twice=doubled)
            made = FastBlock(widths[index], widths[index + 1], 6) if classes else block
            self.add_module(f"feat_{side}", made)
            if side >= 64:
                self.add_module(f"se_{side}", Excitation(widths[index - 3], widths[index + 1]))
        last = widths[self.sides.index(size) + 1]
        self.to_big = spectral(nn.Conv2d(last, 3, 3, padding=1, bias=projected))
        if not projected:
            self.to_128 = spectral(nn.Conv2d(widths[5], 3, 1, bias=False))
        if classes:
            self.embed = nn.Embedding(classes, 6)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        made = {4: self.init["init"]((normalised(z) if self.projected else z)[:, :, None, None])}
        style = (self.embed(label[0]),) if label else ()
        for side in self.sides[: self.sides.index(self.size) + 1]:
            x = self.get_submodule(f"feat_{side}")(made[side // 2], *style)
            made[side] = self.get_submodule(f"se_{side}")(made[side // 16], x) if side >= 64 else x
        image: Tensor = self.to_big(made[self.size])
        return image


class ProjectedPickled(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.synthesis = FastNet(128, projected=True, **options)

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        made: Tensor = self.synthesis(z, *label)
        return made
