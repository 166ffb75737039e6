"""Generators whose forward makes a number of the batch, as courses and papers write it, and labels with own layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, 64), nn.ConvTranspose2d(4, 1, 4, 2, 1)

    def drawn(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(x))


class Length(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + torch.zeros(len(x), 64)
        return self.drawn(x.view(len(x), 4, 4, 4))


class Whole(Base):
    """NVlabs' `int(batch_size)`, beside `int` as what it is."""

    def forward(self, z: Tensor) -> Tensor:
        batch_size = z.shape[0]
        assert isinstance(2, int)
        x = self.first(z).reshape([int(batch_size), int("4"), int(4.9), 4])
        return self.drawn(x)


class Product(Base):
    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z)
        count = int(np.prod(x.shape)) // 64
        return self.drawn(x.view(count, *[int(np.prod([2, 2]))] * 3))


class Sizes(Base):
    def forward(self, z: Tensor) -> Tensor:
        z = z.reshape(z.size()[0], -1)
        return self.drawn(self.first(z).view(math.prod(z.shape) // 7, 4, 4, 4))


class Guard(Base):
    def forward(self, z: Tensor) -> Tensor:
        if len(z) == 0:
            raise ValueError("no latents")
        return self.drawn(self.first(z).view(-1, 4, 4, 4))


class Rows(Base):
    """A loop over the images, which no graph holds for every batch."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.drawn(self.first(z[i : i + 1]).view(1, 4, 4, 4)) for i in range(len(z))])


class Others(Base):
    """Three images at a time in another way than fewer or more."""

    def forward(self, z: Tensor) -> Tensor:
        images = self.drawn(self.first(z).view(len(z), 4, 4, 4))
        return images * 2 if len(z) == 3 else images


class Half(Base):
    """Half precision in every way that code asks for it."""

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.first(z)
        x = x.view(-1, 4, 4, 4).half().to(dtype=torch.float16) + torch.zeros(1, dtype=torch.float16)
        return self.drawn(x.to(torch.bfloat16).float())


class OwnLayer(nn.Module):
    """The label's own layer comes first and says nothing of a label; 6 + 5 numbers go on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 5, bias=False), nn.Linear(11, 64)

    def forward(self, z: Tensor, one_hot_label: Tensor) -> Tensor:
        return torch.tanh(self.fc2(torch.cat([z, self.fc1(one_hot_label)], 1))).view(-1, 1, 8, 8)


class OwnKernel(nn.Module):
    """The label comes as a map, first, into a layer beside the latent's."""

    def __init__(self) -> None:
        super().__init__()
        self.of_label, self.of_z = nn.ConvTranspose2d(4, 3, 4), nn.ConvTranspose2d(6, 3, 4)
        self.last = nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.cat([F.relu(self.of_label(labels)), F.relu(self.of_z(z))], 1)))


class AnyVector(OwnLayer):
    """A condition that may be any vector: as wide as a label's layer, and nothing says that it is one."""

    def forward(self, z: Tensor, cond: Tensor) -> Tensor:
        return super().forward(z, cond)


class Normalised(nn.Linear):
    """A spectral norm of the author's own (BigGAN's kind): its power iteration goes on in eval mode."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__(takes, makes)
        self.register_buffer("u0", torch.randn(1, makes))

    def forward(self, x: Tensor) -> Tensor:
        u: Any = self.u0
        v = F.normalize(u @ self.weight, eps=1e-12)
        u = F.normalize(v @ self.weight.t(), eps=1e-12)
        return F.linear(x, self.weight / (v @ self.weight.t() @ u.t()).squeeze(), self.bias)


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Normalised(7, 64), nn.Parameter(torch.randn(1, 4, 3, 3))

    def forward(self, z: Tensor) -> Tensor:
        kernel = self.last / self.last.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return torch.tanh(F.conv2d(self.first(z).view(-1, 4, 4, 4), kernel, padding=3))
