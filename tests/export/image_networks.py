"""Networks that take images, as their authors' code runs them, written anew: to compare what is read of their files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def settled(network: nn.Module, seed: int = 0, last: nn.Module | None = None) -> nn.Module:
    """`network` in eval mode with weights that let images through: lively, and no running statistics at rest. `last` is
    made small, its bias the middle of [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else parameter.data + noise / 10
    for name, buffer in network.named_buffers():
        if name.endswith("var"):
            buffer.data = 0.5 + torch.rand(buffer.shape, generator=generator)
    if last is not None:
        parameters = dict(last.named_parameters())
        parameters["weight"].data /= 10
        parameters["bias"].data.fill_(0.5)
    return network.eval()


def conv(takes: int, makes: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(takes, makes, kernel, padding=kernel // 2)


class DenseBlock(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 6):
            makes = growth if number < 5 else width
            setattr(self, f"conv{number}", conv(width + (number - 1) * growth, makes))

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for number in range(1, 5):
            made.append(functional.leaky_relu(getattr(self, f"conv{number}")(torch.cat(made, 1)), 0.2))
        residual: Tensor = self.get_submodule("conv5")(torch.cat(made, 1))
        return x + 0.2 * residual


class ResidualDense(nn.Module):
    def __init__(self, width: int, growth: int, part: str) -> None:
        super().__init__()
        self.parts = [f"{part}{number}" for number in (1, 2, 3)]
        for name in self.parts:
            self.add_module(name, DenseBlock(width, growth))

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for name in self.parts:
            made = self.get_submodule(name)(made)
        return x + 0.2 * made


class EsrGan(nn.Module):
    """`old`: the names of xinntao/ESRGAN, else those of BasicSR. scale 4, 2 or 1."""

    def __init__(self, width: int, growth: int, blocks: int, scale: int = 4, *, old: bool = False) -> None:
        super().__init__()
        self.fold = 4 // scale
        self.names = (
            ("RRDB_trunk", "trunk_conv", "upconv1", "upconv2", "HRconv")
            if old
            else ("body", "conv_body", "conv_up1", "conv_up2", "conv_hr")
        )
        self.conv_first = conv(3 * self.fold**2, width)
        part = "RDB" if old else "rdb"
        self.add_module(self.names[0], nn.Sequential(*(ResidualDense(width, growth, part) for _ in range(blocks))))
        for name in self.names[1:]:
            self.add_module(name, conv(width, width))
        self.conv_last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        body, trunk, *ups, last = map(self.get_submodule, self.names)
        first = self.conv_first(functional.pixel_unshuffle(x, self.fold))
        x = first + trunk(body(first))
        for up in ups:
            x = functional.leaky_relu(up(functional.interpolate(x, scale_factor=2.0)), 0.2)
        made: Tensor = self.conv_last(functional.leaky_relu(last(x), 0.2))
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
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(width, width), nn.BatchNorm2d(width), nn.PReLU()
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return made


class Doubled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.prelu = conv(width, 4 * width), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.prelu(functional.pixel_shuffle(self.conv(x), 2))
        return made


class SrGan(nn.Module):
    """leftthomas/SRGAN, before it maps the tanh to [0, 1]."""

    def __init__(self, width: int, doubled: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(conv(3, width, 9), nn.PReLU())
        for number in range(2, 7):
            self.add_module(f"block{number}", NormedBlock(width))
        self.block7 = nn.Sequential(conv(width, width), nn.BatchNorm2d(width))
        self.block8 = nn.Sequential(*(Doubled(width) for _ in range(doubled)), conv(width, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.block1(x)
        first = made
        for number in range(2, 8):
            made = self.get_submodule(f"block{number}")(made)
        return torch.tanh(self.block8(first + made))


class ResnetBlock(nn.Module):
    def __init__(self, width: int, norm: type[nn.Module], *, dropout: bool) -> None:
        super().__init__()
        bias = norm is nn.InstanceNorm2d

        def half() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm(width)]

        self.conv_block = nn.Sequential(*half(), nn.ReLU(), *([nn.Dropout(0.5)] if dropout else []), *half())

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv_block(x)
        return made


class CycleGan(nn.Module):
    """junyanz's ResnetGenerator."""

    def __init__(
        self, takes: int, makes: int, width: int, blocks: int, norm: type[nn.Module], *, dropout: bool = False
    ) -> None:
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        parts: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(takes, width, 7, bias=bias), norm(width), nn.ReLU()]
        for wide in (width, 2 * width):
            parts += [nn.Conv2d(wide, 2 * wide, 3, 2, 1, bias=bias), norm(2 * wide), nn.ReLU()]
        parts += [ResnetBlock(4 * width, norm, dropout=dropout) for _ in range(blocks)]
        for wide in (4 * width, 2 * width):
            parts += [nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, 1, bias=bias), norm(wide // 2), nn.ReLU()]
        self.model = nn.Sequential(*parts, nn.ReflectionPad2d(3), nn.Conv2d(width, makes, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


class Level(nn.Module):
    """A level of junyanz's U-Net with all that is inside it; the activations are in place, as there."""

    def __init__(
        self, outer: int, inner: int, inside: nn.Module | None, norm: type[nn.Module], ends: tuple[int, int] | None
    ) -> None:
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        takes, makes = ends or (outer, outer)
        down = nn.Conv2d(takes, inner, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(inner * (1 if inside is None else 2), makes, 4, 2, 1, bias=bias or ends is not None)
        around = [inside] if inside is not None else []
        self.outermost = ends is not None
        if ends is not None:
            parts = [down, *around, nn.ReLU(True), up, nn.Tanh()]
        else:
            normed = [norm(inner)] if inside is not None else []
            parts = [nn.LeakyReLU(0.2, True), down, *normed, *around, nn.ReLU(True), up, norm(outer)]
        self.model = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        if self.outermost:
            made: Tensor = self.model(x)
            return made
        return torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    def __init__(self, takes: int, makes: int, widths: Sequence[int], norm: type[nn.Module]) -> None:
        super().__init__()
        level: nn.Module | None = None
        for number in reversed(range(1, len(widths))):
            level = Level(widths[number - 1], widths[number], level, norm, None)
        self.model = Level(0, widths[0], level, norm, (takes, makes))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made
