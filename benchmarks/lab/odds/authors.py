"""Generators as strangers write them, one for each seed: their kind, their layers, and what is done with them.

How often each is drawn follows some 150 generators of public repositories; the rarest are drawn more often than there,
so that they come up. Widths are small, so that training takes seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelEmbedding,
    LabelOneHot,
    Layer,
    Linear,
    Reshape,
    Upsample,
    UpsampleMode,
)

Rng = np.random.Generator
Image = tuple[int, int, int]
Steps = tuple[tuple[int, int, int], ...]
_T = TypeVar("_T")

KINDS = {
    "mlp": 0.29, "mlp with BatchNorm": 0.1, "transposed": 0.14, "unpadded": 0.1, "projected": 0.11, "upsampling": 0.07,
    "vae": 0.13, "resized": 0.03, "train-mode statistics": 0.03,
}  # fmt: skip
"""Kind → how often it is drawn. "projected" begins with a linear layer to a small image, "resized" ends in a resize,
and the running statistics of the last say nothing of the network."""
ACTIVATIONS: dict[tuple[str, float | None], float] = {
    ("relu", None): 0.55, ("leaky_relu", 0.2): 0.28, ("leaky_relu", 0.01): 0.04, ("leaky_relu", 0.1): 0.05,
    ("elu", None): 0.02, ("selu", None): 0.02, ("gelu", None): 0.02, ("tanh", None): 0.02,
}  # fmt: skip
Z_DIMS = {100: 0.55, 64: 0.22, 128: 0.12, 32: 0.05, 10: 0.06}
Z_DIMS_OF_VAES = {20: 0.45, 2: 0.15, 10: 0.15, 16: 0.1, 32: 0.15}
CLASSES, CONDITIONAL = 10, 0.2
WIDTHS = (
    (256, 256), (128, 256), (256, 512), (128, 256, 512), (256, 512, 1024), (128, 128, 256), (128,), (256,), (512,),
)  # fmt: skip
"""Of an MLP's hidden layers."""
GREY_28, GREY_32, RGB_32, RGB_64 = (1, 28, 28), (1, 32, 32), (3, 32, 32), (3, 64, 64)
FLAT: dict[Image, float] = {GREY_28: 0.88, GREY_32: 0.05, RGB_32: 0.07}
DEEP: dict[Image, float] = {GREY_28: 0.6, GREY_32: 0.1, RGB_32: 0.18, RGB_64: 0.12}
FROM_A_POINT: dict[int, tuple[Steps, ...]] = {
    28: (((7, 1, 0), (4, 2, 1), (4, 2, 1)), ((4, 1, 0), (3, 2, 1), (4, 2, 1), (4, 2, 1))),
    32: (((4, 1, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1)),),
    64: (((4, 1, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 2, 1)),),
}
"""Side → (kernel, stride, padding) of each transposed convolution, from 1×1."""
UNPADDED: dict[int, tuple[Steps, ...]] = {
    28: (
        ((3, 2, 0), (4, 1, 0), (3, 2, 0), (4, 2, 0)),
        ((3, 2, 0), (4, 1, 0), (3, 2, 0), (4, 2, 0)),
        ((5, 1, 0), (5, 2, 0), (3, 2, 0), (2, 1, 0)),
        ((3, 1, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1), (5, 1, 0)),
    ),
    32: (((4, 1, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)), ((3, 1, 0), (3, 2, 0), (3, 2, 0), (4, 2, 0))),
}
RESIZED: tuple[tuple[int, Steps], ...] = (
    (32, FROM_A_POINT[32][0]),
    (29, ((4, 1, 0), (3, 2, 1), (3, 2, 1), (3, 1, 0), (3, 2, 1))),
    (27, ((10, 1, 0), (3, 2, 0), (3, 1, 0), (3, 1, 0), (3, 1, 0))),
)
"""The side that they make, which is then resized to 28."""


@dataclass(frozen=True)
class Written:
    """What a stranger wrote. `spec` is all of it, but for a resize to `side` at the end where that is another side."""

    kind: str
    spec: GeneratorSpec
    side: int

    @property
    def vae(self) -> bool:
        return self.kind == "vae"

    @property
    def image(self) -> Image:
        """(C, H, W) as the author sees it."""
        return self.spec.interface.channels, self.side, self.side


def pick(rng: Rng, odds: dict[_T, float]) -> _T:
    """One of the keys of `odds`, which give how often."""
    return list(odds)[int(rng.choice(len(odds), p=np.array(list(odds.values())) / sum(odds.values())))]


def one_of(rng: Rng, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


class _Author:
    """One author's habits: one activation and eps throughout, nearly always."""

    def __init__(self, rng: Rng, *, norm: bool) -> None:
        self.rng = rng
        self.usual = pick(rng, ACTIVATIONS)
        self.norm = norm
        self.eps = 0.8 if rng.random() < 0.2 else 1e-5
        self.first = rng.random() < 0.04

    def activation(self) -> Activation:
        name, slope = ("relu", None) if self.first else self.usual
        self.first = False
        return Activation(name, slope)  # type: ignore[arg-type]

    def block(self, layer: Layer, features: int) -> list[Layer]:
        """A layer with the BatchNorm and the activation behind it."""
        return [layer, *([BatchNorm(features, eps=self.eps)] if self.norm else []), self.activation()]


def write(seed: int) -> Written:
    """The generator of this seed."""
    rng = np.random.default_rng(seed)
    kind = pick(rng, KINDS)
    vae = kind == "vae"
    body = pick(rng, {"mlp": 0.75, "projected": 0.25}) if vae else kind.removesuffix(" with BatchNorm")
    flat = body == "mlp"
    author = _Author(rng, norm="BatchNorm" in kind or (not flat and (kind[0] == "t" or rng.random() < 0.8)))
    image = pick(rng, FLAT if flat else DEEP)
    made = image[1]
    z_dim = pick(rng, Z_DIMS_OF_VAES if vae else Z_DIMS)
    head, joined = _label(rng, z_dim, one_hot=0.9 if vae else 0.45)
    steps: Steps = ()
    if body == "resized":
        image = (image[0], 28, 28)
        made, steps = one_of(rng, RESIZED)
    elif body == "unpadded":
        made = min(made, 32)
        image, steps = (image[0], made, made), one_of(rng, UNPADDED[made])
    elif body in ("transposed", "train-mode statistics"):
        steps = one_of(rng, FROM_A_POINT[made])
    drawn = (image[0], made, made)
    if flat:
        layers = _mlp(joined, drawn, author)
    elif steps:
        layers = [Reshape((joined, 1, 1)), *_transposed(joined, steps, image[0], author)]
    else:
        layers = (_upsampling if body == "upsampling" else _projected)(joined, drawn, author)
    last = pick(rng, {"sigmoid": 0.9, "": 0.05, "tanh": 0.05} if vae else {"tanh": 0.88, "sigmoid": 0.12})
    layers += [Activation(last)] if last else []  # type: ignore[arg-type]
    layers += [Reshape(drawn)] if flat else []
    interface = Interface(
        z_dim, drawn, value_range=(-1.0, 1.0) if last == "tanh" else (0.0, 1.0), n_classes=CLASSES if head else 0,
        latent="uniform" if not vae and rng.random() < 0.05 else "normal",
    )  # fmt: skip
    return Written(kind, GeneratorSpec(interface, (*head, *layers), name=kind.split()[0]), image[1])


def _label(rng: Rng, z_dim: int, one_hot: float) -> tuple[tuple[Layer, ...], int]:
    """(the layer that takes the label, if there is one; how many numbers it makes of z and label)."""
    if rng.random() >= CONDITIONAL:
        return (), z_dim
    merge: Literal["z_label", "label_z"] = "z_label" if rng.random() < 0.7 else "label_z"
    if rng.random() < one_hot:
        return (LabelOneHot(CLASSES, merge=merge),), z_dim + CLASSES
    if rng.random() < 0.1:
        return (LabelEmbedding(CLASSES, z_dim, merge="multiply"),), z_dim
    dim = one_of(rng, (CLASSES, CLASSES, 5, z_dim))
    return (LabelEmbedding(CLASSES, dim, merge=merge),), z_dim + dim


def _mlp(features: int, image: Image, author: _Author) -> list[Layer]:
    widths, rng = one_of(author.rng, WIDTHS), author.rng
    bare, behind = rng.random() < 0.5, rng.random() < 0.1
    layers: list[Layer] = []
    for index, wide in enumerate(widths):
        act = author.activation()
        norm = [BatchNorm(wide, eps=author.eps)] if author.norm and (index or not bare or len(widths) == 1) else []
        layers += [Linear(features, wide), *([act, *norm] if behind else [*norm, act])]
        features = wide
    return [*layers, Linear(features, math.prod(image))]


def _transposed(features: int, steps: Steps, channels: int, author: _Author, narrow: int = 0) -> list[Layer]:
    """`steps` from `features` to `channels`; now and then one more that keeps the size."""
    rng = author.rng
    narrow = narrow or int(rng.choice([8, 16, 16, 24]))
    if rng.random() < 0.1:
        steps = (*steps, (3, 1, 1))
    bias = not author.norm or bool(rng.random() < 0.5)
    layers: list[Layer] = []
    for left, (kernel, stride, padding) in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
        out = narrow * 2 ** min(left - 1, 3) if left else channels
        step = ConvTranspose(features, out, kernel, stride, padding, bias=bias)
        layers += author.block(step, out) if left else [step]
        features = out
    return layers


def _projected(features: int, image: Image, author: _Author) -> list[Layer]:
    rng = author.rng
    start = 7 if image[1] == 28 else one_of(rng, (4, 8))
    doublings = int(math.log2(image[1] // start))
    wide = int(rng.choice([8, 16])) * 2**doublings
    flat = wide * start**2
    layers: list[Layer] = [Linear(features, flat)]
    where = pick(rng, {"inside": 0.2, "behind": 0.3, "": 0.5}) if author.norm else ""
    act = [author.activation()] if where == "inside" or rng.random() < 0.6 else []
    norm: list[Layer] = [BatchNorm(flat if where == "inside" else wide)] if where else []
    whole = Reshape((wide, start, start))
    layers += [whole, *norm, *act] if where == "behind" else [*norm, *act, whole]
    kernel, padding, more = pick(rng, {(4, 1, 0): 0.7, (5, 2, 1): 0.1, (3, 1, 1): 0.15, (2, 0, 0): 0.05})
    for left in range(doublings - 1, -1, -1):
        out = wide // 2 if left else image[0]
        step = ConvTranspose(wide, out, kernel, 2, padding, output_padding=more)
        layers += author.block(step, out) if left else [step]
        wide = out
    return layers


def _upsampling(features: int, image: Image, author: _Author) -> list[Layer]:
    rng = author.rng
    start, wide = image[1] // 4, int(rng.choice([16, 32]))
    mode: UpsampleMode = "bilinear" if rng.random() < 0.2 else "nearest"
    layers: list[Layer] = [Linear(features, wide * start**2)]
    layers += [*([author.activation()] if rng.random() < 0.3 else []), Reshape((wide, start, start))]
    layers += [BatchNorm(wide)] if author.norm and rng.random() < 0.6 else []
    for takes, out in itertools.pairwise((wide, wide, wide // 2)):
        layers += [Upsample(2, mode), *author.block(Conv(takes, out, 3, 1, 1), out)]
    return [*layers, Conv(wide // 2, image[0], 3, 1, 1)]
