"""Super-resolvers as their authors' code runs them, written anew, to compare what is read of their files."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.image_networks import conv


class DenseBlock(nn.Module):
    def __init__(self, width: int, growth: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        for number in range(1, 6):
            makes = growth if number < 5 else width
            setattr(self, f"conv{number}", conv(width + (number - 1) * growth, makes))

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for number in range(1, 5):
            made.append(functional.leaky_relu(getattr(self, f"conv{number}")(torch.cat(made, 1)), self.slope))
        residual: Tensor = self.get_submodule("conv5")(torch.cat(made, 1))
        return x + 0.2 * residual


class ResidualDense(nn.Module):
    def __init__(self, width: int, growth: int, part: str, slope: float) -> None:
        super().__init__()
        self.parts = [f"{part}{number}" for number in (1, 2, 3)]
        for name in self.parts:
            self.add_module(name, DenseBlock(width, growth, slope))

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for name in self.parts:
            made = self.get_submodule(name)(made)
        return x + 0.2 * made


class EsrGan(nn.Module):
    """`old`: the names of xinntao/ESRGAN, else those of BasicSR. scale 4, 2 or 1. `shuffles`: as in PyTorch-GAN."""

    def __init__(
        self, width: int, growth: int, blocks: int, scale: int = 4, *, old: bool = False, shuffles: bool = False
    ) -> None:
        super().__init__()
        self.fold, self.shuffles = 4 // scale, shuffles
        self.slope = 0.01 if shuffles else 0.2
        self.names = (
            ("RRDB_trunk", "trunk_conv", "upconv1", "upconv2", "HRconv")
            if old
            else ("body", "conv_body", "conv_up1", "conv_up2", "conv_hr")
        )
        self.conv_first = conv(3 * self.fold**2, width)
        part = "RDB" if old else "rdb"
        self.add_module(
            self.names[0], nn.Sequential(*(ResidualDense(width, growth, part, self.slope) for _ in range(blocks)))
        )
        for name in self.names[1:]:
            self.add_module(name, conv(width, width * (4 if shuffles and "up" in name else 1)))
        self.conv_last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        body, trunk, *ups, last = map(self.get_submodule, self.names)
        first = self.conv_first(functional.pixel_unshuffle(x, self.fold))
        x = first + trunk(body(first))
        for up in ups:
            x = up(x if self.shuffles else functional.interpolate(x, scale_factor=2.0))
            x = functional.leaky_relu(functional.pixel_shuffle(x, 2) if self.shuffles else x, self.slope)
        made: Tensor = self.conv_last(functional.leaky_relu(last(x), self.slope))
        return made


def oldest(tensors: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """An old ESRGAN's tensors under the names of the first code, one Sequential."""
    ends = {
        "conv_first": "model.0",
        "trunk_conv": f"model.1.sub.{blocks}",
        "upconv1": "model.3",
        "upconv2": "model.6",
        "HRconv": "model.8",
        "conv_last": "model.10",
    }
    found = {}
    for key, tensor in tensors.items():
        name, _, own = key.rpartition(".")
        found[f"{ends.get(name) or name.replace('RRDB_trunk', 'model.1.sub') + '.0'}.{own}"] = tensor
    return found


class Compact(nn.Module):
    """SRVGGNetCompact."""

    def __init__(self, width: int, convs: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.ModuleList([conv(3, width), nn.PReLU(width)])
        for _ in range(convs):
            self.body += [conv(width, width), nn.PReLU(width)]
        self.body.append(conv(width, 3 * scale**2))

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for part in self.body:
            made = part(made)
        return functional.pixel_shuffle(made, self.scale) + functional.interpolate(x, scale_factor=float(self.scale))


class Plain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv2(torch.relu(self.conv1(x)))
        return made


class MsrResNet(nn.Module):
    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale, self.factors = scale, (2, 2) if scale == 4 else (scale,)
        self.conv_first = conv(3, width)
        self.body = nn.Sequential(*(Plain(width) for _ in range(blocks)))
        for number, factor in enumerate(self.factors, 1):
            self.add_module(f"upconv{number}", conv(width, width * factor**2))
        self.conv_hr, self.conv_last = conv(width, width), conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.body(functional.leaky_relu(self.conv_first(x), 0.1))
        for number, factor in enumerate(self.factors, 1):
            made = functional.pixel_shuffle(self.get_submodule(f"upconv{number}")(made), factor)
            made = functional.leaky_relu(made, 0.1)
        last: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(made), 0.1))
        base = functional.interpolate(x, scale_factor=float(self.scale), mode="bilinear")
        return last + base


class NormedBlock(nn.Module):
    def __init__(self, width: int, eps: float, *, each: bool) -> None:
        super().__init__()
        for half in "12":
            self.add_module(f"conv{half}", nn.Conv2d(width, width, 3, padding=1, bias=not each))
            self.add_module(f"bn{half}", nn.BatchNorm2d(width, eps))
            if half == "1":
                self.prelu = nn.PReLU(width if each else 1)

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for part in self.children():
            made = part(made)
        return x + made


class SrGan(nn.Module):
    """leftthomas/SRGAN, before it maps the tanh to [0, 1]; `each`: with aladdinpersson's slopes and biases, `normed`:
    with PyTorch-GAN's norms."""

    def __init__(self, width: int, doubled: int, *, each: bool = False, normed: bool = False) -> None:
        super().__init__()
        eps = 0.8 if normed else 1e-5
        slopes = width if each else 1
        self.block1 = nn.Sequential(conv(3, width, 9), nn.PReLU(slopes))
        for number in range(2, 7):
            self.add_module(f"block{number}", NormedBlock(width, eps, each=each))
        middle = nn.Conv2d(width, width, 3, padding=1, bias=not each)
        self.block7 = nn.Sequential(middle, nn.BatchNorm2d(width, eps))
        self.block8 = nn.Sequential()
        for number in range(doubled):
            parts: dict[str, nn.Module] = {"conv": conv(width, 4 * width)}
            parts |= {"bn": nn.BatchNorm2d(4 * width)} if normed else {}
            parts |= {"shuffle": nn.PixelShuffle(2), "prelu": nn.PReLU(slopes)}
            self.block8.add_module(str(number), nn.Sequential(OrderedDict(parts)))
        self.block8.add_module(str(doubled), conv(width, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.block1(x)
        first = made
        for number in range(2, 8):
            made = self.get_submodule(f"block{number}")(made)
        return torch.tanh(self.block8(first + made))
