"""Image-to-image networks as their authors' code runs them, written anew, to compare what is read of their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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


def renamed(tensors: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """`tensors` with other names of the modules, in their order."""
    places = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    new = dict(zip(places, names, strict=True))
    split = ((key.rpartition("."), tensor) for key, tensor in tensors.items())
    return {f"{new[place]}.{own}": tensor for (place, _, own), tensor in split}


class Normalised(nn.Module):
    """A network whose images are normalised by ImageNet's values, for images in [0, 1]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = (
            x.new_tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        made: Tensor = self.inner((x - mean) / deviation) * deviation + mean
        return made


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


class Blur(nn.Module):
    """CUT's fixed filter, that halves or doubles the image."""

    def __init__(self, width: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.filt: Tensor
        taps = torch.tensor([1.0, 3, 3, 1] if up else [1.0, 2, 1])
        taps = torch.outer(taps, taps) / taps.sum() ** 2 * (4 if up else 1)
        self.register_buffer("filt", taps.expand(width, 1, *taps.shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1]
        if not self.up:
            return functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=width)
        x = functional.pad(x, (1, 1, 1, 1), "replicate")
        return functional.conv_transpose2d(x, self.filt, stride=2, padding=2, groups=width)[:, :, 1:-1, 1:-1]


class CycleGan(nn.Module):
    """junyanz's ResnetGenerator; as others have it, it `blurs` before it halves and after it doubles, doubles `nearest`
    pixels, or has `borders` reflected where it halves."""

    def __init__(
        self,
        takes: int,
        makes: int,
        width: int,
        blocks: int,
        norm: type[nn.Module],
        *,
        dropout: bool = False,
        downs: int = 2,
        blurs: bool = False,
        nearest: bool = False,
        borders: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        bias: Any = {"bias": norm is nn.InstanceNorm2d}
        parts: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(takes, width, 7, **bias), norm(width), nn.ReLU()]
        for _ in range(downs):
            halves = nn.Conv2d(width, 2 * width, 3, 1 if blurs else 2, 1, padding_mode=borders, **bias)
            width *= 2
            parts += [halves, norm(width), nn.ReLU(), *([Blur(width, up=False)] if blurs else [])]
        parts += [ResnetBlock(width, norm, dropout=dropout) for _ in range(blocks)]
        for _ in range(downs):
            if blurs or nearest:
                before = Blur(width, up=True) if blurs else nn.Upsample(scale_factor=2)
                parts += [before, nn.Conv2d(width, width // 2, 3, padding=1, **bias)]
            else:
                parts.append(nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, **bias))
            width //= 2
            parts += [norm(width), nn.ReLU()]
        self.model = nn.Sequential(*parts, nn.ReflectionPad2d(3), nn.Conv2d(width, makes, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


class AnimeGan(nn.Module):
    """AnimeGANv2's network, of one width and so many inverted residual blocks."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        w, self.out_layer = width, nn.Sequential(nn.Conv2d(width, 3, 1, bias=False), nn.Tanh())
        self.block_a = nn.Sequential(self.part(3, w, 7), self.part(w, 2 * w, halves=True), self.part(2 * w, 2 * w))
        self.block_b = nn.Sequential(self.part(2 * w, 4 * w, halves=True), self.part(4 * w, 4 * w))
        inner = [self.inverted(4 * w if number == 0 else 8 * w, 8 * w) for number in range(blocks)]
        self.block_c = nn.Sequential(self.part(4 * w, 4 * w), *inner, self.part(8 * w, 4 * w))
        self.block_d = nn.Sequential(self.part(4 * w, 4 * w), self.part(4 * w, 4 * w))
        self.block_e = nn.Sequential(self.part(4 * w, 2 * w), self.part(2 * w, 2 * w), self.part(2 * w, w, 7))

    @staticmethod
    def part(takes: int, makes: int, kernel: int = 3, *, halves: bool = False, groups: int = 1) -> nn.Sequential:
        pad = nn.ReflectionPad2d((0, 1, 0, 1) if halves else kernel // 2)
        conv = nn.Conv2d(takes, makes, kernel, 1 + halves, groups=groups, bias=groups > 1)
        return nn.Sequential(pad, conv, nn.GroupNorm(1, makes), nn.LeakyReLU(0.2))

    def inverted(self, takes: int, makes: int) -> nn.Module:
        deep, block = 2 * takes, nn.Module()
        wide, across = self.part(takes, deep, 1), self.part(deep, deep, groups=deep)
        block.layers = nn.Sequential(wide, across, nn.Conv2d(deep, makes, 1, bias=False), nn.GroupNorm(1, makes))
        return block

    def forward(self, x: Tensor) -> Tensor:
        made = self.block_b(self.block_a(x))
        for number, block in enumerate(self.block_c):
            inner = isinstance(block, nn.Sequential)
            after = block(made) if inner else block.get_submodule("layers")(made)
            made = after if inner or number == 1 else made + after
        for blocks in (self.block_d, self.block_e):
            made = blocks(functional.interpolate(made, scale_factor=2.0, mode="bilinear", align_corners=True))
        out: Tensor = self.out_layer(made)
        return out


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


class LevelUNet(nn.Module):
    """A U-Net with a module for each level: PyTorch-GAN's, which ends in an upsampling, or aladdinpersson's."""

    def __init__(self, takes: int, makes: int, widths: Sequence[int], norm: type[nn.Module], *, bias: bool) -> None:
        super().__init__()
        self.resizes, last = norm is nn.InstanceNorm2d, len(widths) - 1
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            ends = level in (0, last)
            mode: Literal["zeros", "reflect"] = "zeros" if self.resizes or level == last else "reflect"
            biased = bias if self.resizes else ends
            halves = nn.Conv2d(takes, width, 4, 2, 1, bias=biased, padding_mode=mode)
            act = nn.ReLU() if level == last and not self.resizes else nn.LeakyReLU(0.2)
            self.downs.append(nn.Sequential(halves, *([] if ends else [norm(width)]), act))
            takes = width
        for width in reversed(widths[:-1]):
            doubles = nn.ConvTranspose2d(takes, width, 4, 2, 1, bias=bias and self.resizes)
            self.ups.append(nn.Sequential(doubles, norm(width), nn.ReLU()))
            takes = 2 * width
        grown = [nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(takes, makes, 4, padding=1)]
        self.final = nn.Sequential(*(grown if self.resizes else [nn.ConvTranspose2d(takes, makes, 4, 2, 1)]), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for down in self.downs:
            x = down(x)
            seen.append(x)
        for up, skip in zip(self.ups, reversed(seen[:-1]), strict=True):
            x = torch.cat([up(x), skip], 1)
        made: Tensor = self.final(x)
        return made
