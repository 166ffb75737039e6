"""The loop that DCGAN is usually trained with, to measure `gan-train` beside.

Written after the structure of pytorch/examples dcgan/main.py (and PyTorch's DCGAN tutorial): float32, every picture
opened, resized, cropped and normalised anew in each epoch by a DataLoader's worker processes, D ending in a sigmoid
with BCELoss, G's step back through all of D, `.item()` of every number in every step, Adam as torch sets it up. Nothing
is made faster or slower than it is there; what it prints and saves is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
Z_DIM = 100


class Pictures(Dataset[Tensor]):
    """The pictures below a folder, each decoded when it is asked for: float32 (3, size, size) in [-1, 1]."""

    def __init__(self, folder: Path, size: int) -> None:
        self.files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        self.transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as picture:
            image_CHW: Tensor = self.transform(picture.convert("RGB"))
        return image_CHW


def generator(width: int) -> nn.Sequential:
    """DCGAN's G for 64x64 RGB: z (N, 100, 1, 1) → images (N, 3, 64, 64)."""
    layers: list[nn.Module] = []
    channels = Z_DIM
    for factor, stride, padding in ((8, 1, 0), (4, 2, 1), (2, 2, 1), (1, 2, 1)):
        layers += [
            nn.ConvTranspose2d(channels, width * factor, 4, stride, padding, bias=False),
            nn.BatchNorm2d(width * factor),
            nn.ReLU(inplace=True),
        ]
        channels = width * factor
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())


def discriminator(width: int) -> nn.Sequential:
    """DCGAN's D for 64x64 RGB: images (N, 3, 64, 64) → probabilities (N, 1, 1, 1)."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for factor in (2, 4, 8):
        layers += [
            nn.Conv2d(width * factor // 2, width * factor, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width * factor),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def initialise(network: nn.Module) -> None:
    """Convolutions N(0, 0.02), BatchNorm weights N(1, 0.02)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class Numbers:
    """What the loop prints of a step."""

    loss_d: float
    loss_g: float
    d_x: float
    d_g_z1: float
    d_g_z2: float


def train(
    netG: nn.Module, netD: nn.Module, loader: DataLoader[Tensor], device: torch.device
) -> Iterator[tuple[int, Numbers]]:
    """Trains for ever. Yields (images in the step, its numbers) after each step."""
    criterion = nn.BCELoss()
    adam_D = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_G = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
    while True:
        for batch in loader:
            # D: maximise log D(x) + log(1 - D(G(z)))
            netD.zero_grad()
            real = batch.to(device)
            n = real.size(0)
            target = torch.full((n,), 1.0, device=device)
            output = netD(real).view(-1)
            loss_real = criterion(output, target)
            loss_real.backward()
            d_x = output.mean().item()
            fake = netG(torch.randn(n, Z_DIM, 1, 1, device=device))
            target.fill_(0.0)
            output = netD(fake.detach()).view(-1)
            loss_fake = criterion(output, target)
            loss_fake.backward()
            d_g_z1 = output.mean().item()
            loss_d = loss_real + loss_fake
            adam_D.step()
            # G: maximise log D(G(z))
            netG.zero_grad()
            target.fill_(1.0)
            output = netD(fake).view(-1)
            loss_g = criterion(output, target)
            loss_g.backward()
            d_g_z2 = output.mean().item()
            adam_G.step()
            yield n, Numbers(loss_d.item(), loss_g.item(), d_x, d_g_z1, d_g_z2)
