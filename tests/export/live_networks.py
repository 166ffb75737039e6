"""Generators as their authors write them, small: what `--module` is pointed at in the tests. Weights are lively."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """A DCGAN that takes (N, nz, 1, 1) and cannot take anything else."""

    def __init__(self, nz: int = 6, ngf: int = 4, nc: int = 3) -> None:
        super().__init__()
        self.nz = nz
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, nc, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, input: Tensor) -> Any:  # noqa: A002 (the name in PyTorch's own example)
        return self.main(input)


class UpBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.b1, self.b2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.c1 = nn.utils.spectral_norm(nn.Conv2d(inside, outside, 3, padding=1))
        self.c2 = nn.utils.parametrizations.spectral_norm(nn.Conv2d(outside, outside, 3, padding=1))
        self.c_sc = nn.utils.parametrizations.weight_norm(nn.Conv2d(inside, outside, 1))

    def forward(self, x: Tensor) -> Any:
        h = self.c1(F.interpolate(F.relu(self.b1(x)), scale_factor=2))
        return self.c2(F.relu(self.b2(h))) + self.c_sc(F.interpolate(x, scale_factor=2))


class ResNet(nn.Module):
    """SNGAN's shape, with both kinds of spectral norm in it, and weight norm."""

    def __init__(self, dim_z: int = 5, ch: int = 4) -> None:
        super().__init__()
        self.dim_z = dim_z
        self.l1 = nn.Linear(dim_z, 16 * ch)
        self.blocks = nn.ModuleList([UpBlock(ch, ch), UpBlock(ch, ch)])
        self.out = nn.Conv2d(ch, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.l1(z).view(z.shape[0], -1, 4, 4)
        for block in self.blocks:
            h = block(h)
        return torch.tanh(self.out(h))


class Conditional(nn.Module):
    """PyTorch-GAN's cgan: forward(noise, labels), a flat body."""

    def __init__(self, n_classes: int = 4, latent_dim: int = 5) -> None:
        super().__init__()
        self.label_emb = nn.Embedding(n_classes, n_classes)
        self.model = nn.Sequential(
            nn.Linear(latent_dim + n_classes, 20), nn.LeakyReLU(0.2), nn.Linear(20, 64), nn.Tanh()
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Any:
        return self.model(torch.cat((self.label_emb(labels), noise), -1)).view(noise.shape[0], 1, 8, 8)


class LabelFirst(Conditional):
    def forward(self, labels: Tensor, noise: Tensor) -> Any:  # type: ignore[override]
        return super().forward(noise, labels)


class OneHot(nn.Module):
    """The class as one-hot numbers, which nothing in the signature says."""

    def __init__(self, classes: int = 3, z_dim: int = 7) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.net = nn.Sequential(nn.Linear(z_dim + classes, 24), nn.ReLU(), nn.Linear(24, 192), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Any:
        return self.net(torch.cat([z, y], 1)).view(-1, 3, 8, 8)


class Modulated(nn.Module):
    """StyleGAN2's convolution: every image its own kernel, in as many groups as there are images; then noise."""

    def __init__(self, inside: int, outside: int, style: int, up: bool = False, noisy: bool = True) -> None:
        super().__init__()
        self.noisy = noisy
        self.weight = nn.Parameter(torch.randn(1, outside, inside, 3, 3))
        self.affine = nn.Linear(style, inside)
        self.strength = nn.Parameter(torch.full((1,), 0.3))
        self.up = up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, inside, height, width = x.shape
        weight = self.weight * (1 + self.affine(w)).view(n, 1, inside, 1, 1) / math.sqrt(9 * inside)
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        outside = weight.shape[1]
        x = x.view(1, n * inside, height, width)
        if self.up:
            weight = weight.transpose(1, 2).reshape(n * inside, outside, 3, 3)
            x = F.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1, groups=n)
        else:
            x = F.conv2d(x, weight.view(n * outside, inside, 3, 3), padding=1, groups=n)
        x = x.view(n, outside, *x.shape[2:])
        if self.noisy:
            x = x + self.strength * x.new_empty(n, 1, *x.shape[2:]).normal_()
        return F.leaky_relu(x, 0.2)


class StyleGAN2(nn.Module):
    """rosinality's interface: a list of latents in, (image, w or None) out, truncation towards a mean."""

    def __init__(self, style_dim: int = 6, ch: int = 4) -> None:
        super().__init__()
        self.style_dim = style_dim
        self.mapping = nn.Sequential(
            nn.Linear(style_dim, style_dim), nn.LeakyReLU(0.2), nn.Linear(style_dim, style_dim)
        )
        self.register_buffer("mean_w", torch.randn(style_dim) * 0.1)
        self.const = nn.Parameter(torch.randn(1, ch, 4, 4))
        self.convs = nn.ModuleList([Modulated(ch, ch, style_dim), Modulated(ch, ch, style_dim, up=True)])
        self.to_rgb = nn.Conv2d(ch, 3, 1)

    def forward(self, styles: list[Tensor], return_latents: bool = False, truncation: float = 1.0) -> tuple[Any, ...]:
        z = styles[0]
        w = self.mapping(z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8))
        w = self.mean_w + truncation * (w - self.mean_w)
        x = self.const.repeat(w.shape[0], 1, 1, 1)
        for conv in self.convs:
            x = conv(x, w)
        return torch.tanh(self.to_rgb(x)), (w if return_latents else None)


class Mapped(nn.Module):
    """NVlabs' interface: forward(z, c, …) with c_dim 0, its noise's switch and that of float32 handed on by name."""

    def __init__(self, z_dim: int, c_dim: int, *, mapping: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.mapping = nn.Linear(z_dim, (mapping or {}).get("width", 6))
        self.synthesis = Synthesis((mapping or {}).get("width", 6))

    def forward(self, z: Tensor, c: Any, truncation_psi: float = 1, **synthesis_kwargs: Any) -> Any:
        assert (c is None) == (self.c_dim == 0)
        return self.synthesis(self.mapping(z) * truncation_psi, **synthesis_kwargs)


class Synthesis(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.const, self.conv = nn.Parameter(torch.randn(1, 4, 4, 4)), Modulated(4, 4, width, up=True, noisy=False)
        self.to_rgb = nn.Conv2d(4, 3, 1)

    def forward(self, w: Tensor, noise_mode: str = "random", force_fp32: bool = False) -> Tensor:
        x = self.const.repeat(int(w.shape[0]), 1, 1, 1)
        x = (x if force_fp32 else x.half()).float()
        x = self.conv(x, w)
        if noise_mode == "random":
            x = x + torch.randn_like(x)
        return torch.tanh(self.to_rgb(x))


class SkipExcitation(nn.Module):
    """FastGAN's: a low resolution scales the channels of a higher one; images at two sizes come out."""

    def __init__(self, nz: int = 6, ch: int = 4) -> None:
        super().__init__()
        self.init = nn.ConvTranspose2d(nz, ch * 2, 4)
        self.sle = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Conv2d(ch, ch, 2), nn.SiLU(), nn.Conv2d(ch, ch, 1), nn.Sigmoid()
        )
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(ch, ch, 3, padding=1), nn.BatchNorm2d(ch))
        self.up2 = nn.Sequential(nn.Conv2d(ch, ch * 4, 3, padding=1), nn.PixelShuffle(2))
        self.big, self.small = nn.Conv2d(ch, 3, 3, padding=1), nn.Conv2d(ch, 3, 1)

    def forward(self, z: Tensor) -> list[Tensor]:
        low = F.glu(self.init(z.view(z.size(0), -1, 1, 1)), dim=1)
        middle = self.up1(low)
        high = self.up2(middle) * self.sle(low)
        return [torch.tanh(self.big(high)), torch.tanh(self.small(middle))]


class Flat(nn.Module):
    """An MLP whose images are rows of numbers. `ends` is its last activation."""

    def __init__(self, sizes: list[int] | None = None, ends: str = "tanh", gain: float = 1.0) -> None:
        super().__init__()
        wide = sizes or [5, 16, 64]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(wide))
        self.ends, self.gain = ends, gain

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        x = self.layers[-1](x) * self.gain
        return x if self.ends == "none" else getattr(torch, self.ends)(x)


class Wrapped(nn.Module):
    """Makes of `Plain` images whatever `how` says."""

    def __init__(self, how: str = "dict") -> None:
        super().__init__()
        self.net, self.how = Plain(), how

    def forward(self, z: Tensor) -> Any:
        image = self.net(z[..., None, None] if z.dim() == 2 else z)
        made: dict[str, Any] = {
            "dict": {"logits": image.mean((1, 2, 3)), "sample": image},
            "two": {"fake": image, "again": image.flip(3)},
            "tuple": (image.mean((2, 3)), image),
            "dataclass": Output(image, z),
            "NHWC": image.permute(0, 2, 3, 1),
            "unit": image * 0.5 + 0.5,
            "bytes": (image * 127.5 + 127.5).round().clamp(0, 255),
            "rgba": torch.cat([image, image[:, :1]], 1),
            "mean": image.mean(0, keepdim=True).expand_as(image),
            "nan": image / 0.0 * 0.0,
            "nothing": None,
            "scores": image.mean((1, 2, 3)),
            "half": image.half(),
        }
        return made[self.how]


@dataclass
class Output:
    image: Tensor
    latent: Tensor


class Noisy(nn.Module):
    """Noise in every way that `noise` knows, of both laws."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plain()

    def forward(self, z: Tensor) -> Tensor:
        image = self.net(z)
        n, c, h, w = image.shape
        image = image + 0.1 * torch.randn(n, 1, h, w) + 0.1 * torch.randn_like(image) + 0.1 * torch.rand(c, h, w)
        image = image + 0.1 * torch.normal(0.0, 1.0, size=(n, c, h, w)) + 0.1 * torch.empty(n, c, 1, 1).uniform_(-1, 1)
        return torch.tanh(image)


class Scaled(nn.Module):
    """Wants two more inputs than a latent."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plain()

    def forward(self, noise: Tensor, z: Tensor, strength: float, *, mode: str = "plain") -> Tensor:
        if mode != "plain":
            raise ValueError(f"no mode {mode}")
        return torch.tanh(self.net(z) + strength * noise)


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 1))

    def forward(self, image: Tensor) -> Any:
        return self.main(image)


class OnCuda(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Plain()

    def forward(self, z: Tensor) -> Any:
        return self.net(z.cuda())


class Branching(nn.Module):
    """Its forward depends on values, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plain()

    def forward(self, z: Tensor) -> Any:
        return self.net(z) if z.sum() > 0 else self.net(-z)


class Guarded(Branching):
    """A check that never fires, and yet is a branch on values."""

    def forward(self, z: Tensor) -> Any:
        image = self.net(z)
        if torch.isnan(image).any():
            raise ValueError("NaN in the image")
        return image


class Broken(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        raise RuntimeError(f"no network of depth {depth}")


def make(nz: int = 6) -> nn.Module:
    """A factory, with weights of its own that are the same each time."""
    torch.manual_seed(0)
    return lively(Plain(nz))


def make_random() -> nn.Module:
    return Plain()


def make_tensor() -> Tensor:
    return torch.zeros(3)


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics that make images with shapes in them. In place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.3, 1.5, generator=generator)
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, 1.5 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2, generator=generator)
        module.train()
        for part in [part for part in module.modules() if isinstance(part, nn.Conv2d)] * 20:
            for hook in part._forward_pre_hooks.values():  # the old spectral norm's power iteration
                hook(part, ())
            _ = part.weight  # the new one's
    return module.eval()


INSTANCE = Flat()
NUMBER = 3
