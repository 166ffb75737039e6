"""Chains of many namings and shapes, each with the truth about what shapes cannot show."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from export.foreign_networks import sequential
from gan_export.draft import Draft
from gan_export.understanding.edit import with_value

EXACT = 1e-5
RELU = {"name": "relu", "slope": None}
LEAKY = {"name": "leaky_relu", "slope": 0.2}
IDENTITY = {"name": "identity", "slope": None}
SIGMOID = {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}


class View(nn.Module):
    """A reshape that leaves no tensor."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)


class Separate(nn.Module):
    """Convolutions registered first, then all norms: the file's order is not the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8 * 16)
        self.conv1 = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.conv2 = nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.conv3 = nn.ConvTranspose2d(4, 3, 4, 2, 1)
        self.bn1 = nn.BatchNorm2d(8)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.fc(z)).reshape(len(z), 8, 4, 4)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.tanh(self.conv3(x))


class Conditional(nn.Module):
    """An embedding registered last, joined after z, then transposed convolutions from 1x1."""

    def __init__(self, join: str = "z_label") -> None:
        super().__init__()
        self.join = join
        body = (nn.ConvTranspose2d(9, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1))
        self.net = nn.Sequential(*body, nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 8, 4, 2), nn.Tanh())
        self.class_embedding = nn.Embedding(5, 3)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        parts = (z, self.class_embedding(labels))
        x = torch.cat(parts if self.join == "z_label" else parts[::-1], 1)
        image: Tensor = self.net(x.reshape(len(x), 9, 1, 1))
        return image


def nested_blocks() -> nn.Module:
    def block(takes: int, makes: int, stride: int, padding: int) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(takes, makes, 4, stride, padding), nn.BatchNorm2d(makes), nn.ReLU())

    return sequential(
        block(7, 16, 1, 0),
        block(16, 8, 2, 1),
        block(8, 4, 2, 1),
        nn.ConvTranspose2d(4, 3, 4, 2, 1),
        nn.Tanh(),
        prefix="gen",
    )


def like_mixed_faces() -> nn.Module:
    """No activation after the first norm; a plain 3x3 convolution among transposed ones."""
    return sequential(
        nn.Sequential(nn.ConvTranspose2d(7, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16)),
        nn.Sequential(nn.Conv2d(16, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh()),
        prefix="generator_deconv",
    )


class BehindLinear(nn.Module):
    """All convolutions, then all norms: the first norm is the linear's, and its number another convolution's."""

    def __init__(self, widths: tuple[int, ...] = (8, 6, 4, 3)) -> None:
        super().__init__()
        self.width = widths[0]
        self.fc = nn.Linear(7, widths[0] * 16)
        for number, (takes, makes) in enumerate(itertools.pairwise(widths), 1):
            self.add_module(f"conv{number}", nn.ConvTranspose2d(takes, makes, 4, 2, 1))
        for number, width in enumerate(widths[:-1], 1):
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z).view(-1, self.width, 4, 4)
        for number in (1, 2, 3):
            x = self.get_submodule(f"conv{number}")(torch.relu(self.get_submodule(f"bn{number}")(x)))
        return torch.tanh(x)


@dataclass(frozen=True)
class Case:
    """What a stranger's network is, and what a draft must be told of it."""

    make: Callable[[], nn.Module]
    image: tuple[int, int, int]
    activations: tuple[Any, ...]
    output: Any = None
    eps: tuple[float, ...] = ()
    merge: str = ""
    z_shape: tuple[int, ...] = ()
    other: dict[str, Any] = field(default_factory=dict)
    within: int = 1


CASES = {
    "nested blocks": Case(nested_blocks, (3, 32, 32), (RELU,) * 3, z_shape=(7, 1, 1)),
    "an activation missing": Case(like_mixed_faces, (3, 32, 32), (IDENTITY, *(LEAKY,) * 3), z_shape=(7, 1, 1)),
    "norms registered last": Case(Separate, (3, 32, 32), (RELU,) * 3),
    "norms registered last, behind a linear": Case(BehindLinear, (3, 32, 32), (RELU,) * 3),
    "norms registered last, behind a linear, of one width": Case(
        lambda: BehindLinear((8, 8, 8, 3)), (3, 32, 32), (RELU,) * 3
    ),
    "embedding last": Case(Conditional, (1, 32, 32), (RELU, RELU), merge="z_label"),
    "embedding before z": Case(lambda: Conditional("label_z"), (1, 32, 32), (RELU, RELU), merge="label_z"),
    "mlp without norms": Case(
        lambda: nn.Sequential(
            nn.Linear(6, 16), nn.ELU(), nn.Linear(16, 24), nn.ELU(), nn.Linear(24, 3 * 32 * 32), nn.Sigmoid()
        ),
        (3, 32, 32), ({"name": "elu", "slope": 1.0},) * 2, SIGMOID,
    ),
    "upsample and convolve, room in the numbering": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 49), View(8, 7, 7), nn.BatchNorm2d(8), nn.ReLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, 0.8), nn.ReLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4, 0.8), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), nn.Tanh(),
        ),
        (1, 28, 28), (RELU,) * 3, eps=(1e-5, 0.8, 0.8),
    ),
    "bilinear": Case(
        lambda: sequential(
            nn.ConvTranspose2d(5, 8, 8), nn.BatchNorm2d(8), nn.Identity(), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 4, 5, padding=2), nn.BatchNorm2d(4), nn.Identity(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 3, 7, padding=3), nn.Tanh(),
        ),
        (3, 32, 32), (IDENTITY, IDENTITY), z_shape=(5, 1, 1),
        other={"upsample": {"mode": "bilinear", "align_corners": False}}, within=3,
    ),
    "k3 s2 p1 op1": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 49), nn.ReLU(), View(8, 7, 7), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.BatchNorm2d(4),
            nn.ReLU(), nn.ConvTranspose2d(4, 1, 3, 2, 1, 1), nn.Tanh(),
        ),
        (1, 28, 28), (RELU, RELU),
    ),
    "k5 s2 p2 op1": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 16), nn.BatchNorm1d(8 * 16), nn.ReLU(), View(8, 4, 4),
            nn.ConvTranspose2d(8, 8, 5, 2, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.ConvTranspose2d(8, 4, 5, 2, 2, 1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.ConvTranspose2d(4, 3, 5, 2, 2, 1), nn.Tanh(),
        ),
        (3, 32, 32), (RELU,) * 3,
    ),
    "k7 first, k4 after": Case(
        lambda: sequential(
            nn.ConvTranspose2d(5, 8, 7, 1, 0), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1),
            nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh(),
        ),
        (1, 28, 28), (RELU, RELU), z_shape=(5, 1, 1),
    ),
    "k2 s2 and k6 s2 p2": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 64), View(8, 8, 8), nn.ConvTranspose2d(8, 4, 2, 2), nn.ReLU(),
            nn.ConvTranspose2d(4, 3, 6, 2, 2), nn.Tanh(),
        ),
        (3, 32, 32), (IDENTITY, RELU),
    ),
    "pixel shuffle": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 64), View(8, 8, 8), nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2), nn.BatchNorm2d(4),
            nn.ReLU(), nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2), nn.Tanh(),
        ),
        (3, 32, 32), (IDENTITY, RELU), within=3,
    ),
    "prelu": Case(
        lambda: sequential(
            nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8), nn.PReLU(8), nn.ConvTranspose2d(8, 4, 4, 2, 1),
            nn.BatchNorm2d(4), nn.PReLU(), nn.ConvTranspose2d(4, 3, 8, 4, 2), nn.Tanh(),
        ),
        (3, 32, 32), (), z_shape=(5, 1, 1),
    ),
    "norm before the activation's place": Case(
        lambda: sequential(
            nn.ConvTranspose2d(5, 8, 4), nn.ReLU(), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU(),
            nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 8, 4, 2), nn.Tanh(),
        ),
        (3, 32, 32), (RELU, IDENTITY, RELU, IDENTITY), z_shape=(5, 1, 1),
    ),
    "norm without weights": Case(
        lambda: sequential(
            nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.ConvTranspose2d(8, 3, 8, 8),
            nn.Tanh(),
        ),
        (3, 32, 32), (RELU,), z_shape=(5, 1, 1), within=3,
    ),
    "layer norms of a vector and of an image": Case(
        lambda: sequential(
            nn.Linear(6, 8 * 64), nn.LayerNorm(8 * 64), nn.ReLU(), View(8, 8, 8), nn.ConvTranspose2d(8, 4, 4, 2, 1),
            nn.LayerNorm([4, 16, 16]), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh(),
        ),
        (3, 32, 32), (RELU, RELU),
    ),
    "batch norm first": Case(
        lambda: sequential(
            nn.BatchNorm1d(6), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh(),
        ),
        (1, 28, 28), (IDENTITY, RELU),
    ),
}  # fmt: skip


def told(draft: Draft, case: Case) -> Draft:
    """`draft` with the truth for everything that shapes cannot show."""
    for name, values in (("activation", case.activations), ("eps", case.eps)):
        open_here = [choice for choice in draft.choices if choice.field == name]
        assert len(open_here) == len(values) or not values
        for choice, value in zip(open_here, values, strict=False):
            draft = with_value(draft, choice, value)
    for choice in draft.choices:
        if choice.field == "merge" and choice.alternatives:
            draft = with_value(draft, choice, case.merge)
        elif choice.field == "output" and case.output:
            draft = with_value(draft, choice, case.output)
        elif choice.field in case.other:
            draft = with_value(draft, choice, case.other[choice.field])
    return draft
