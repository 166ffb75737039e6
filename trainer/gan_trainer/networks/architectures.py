"""Networks by name: functions that return a `GeneratorSpec`.

- `mlp_spec`: the MLP GAN of the PyTorch-GAN tutorials (Linear, BatchNorm1d eps 0.8, LeakyReLU 0.2, tanh).
- `dcgan_spec`: DCGAN (Radford et al. 2016, arXiv:1511.06434), at 64 and 128 as PyTorch's tutorial has it, at 96 with
  a last layer of kernel 5 stride 3 as the anime-face tutorials do, at 28 from 7x7 and at 32 from 4x4; 256 and 512 go
  on doubling.
- resize: DCGAN whose transposed convolutions of stride s are nearest neighbours x s and a 3x3 convolution (Odena et
  al. 2016, distill.pub/2016/deconv-checkerboard): an area of one colour stays one, without a checkerboard.
- resnet: residual blocks that double the side (Gulrajani et al. 2017, arXiv:1704.00028, with nearest neighbours), from
  the same side as DCGAN's first layer gives and with its channels: gradients reach the first of many layers.
- `upscaler_spec`: enlarges an image. Convolutions at the size of the input, then a pixel shuffle (Shi et al. 2016,
  arXiv:1609.05158), added to the bilinear enlargement.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

from gan_core.errors import GanportError
from gan_core.image_input import ImageInput
from gan_core.interface import Interface, with_interface
from gan_core.latents import LatentLaw
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelEmbedding,
    Layer,
    Linear,
    Load,
    PixelShuffle,
    Reshape,
    Upsample,
)

Arch = Literal["mlp", "dcgan", "resize", "resnet", "espcn"]

SIZES = (28, 32, 64, 96, 128, 256, 512)
NATURAL_SIZES = SIZES[:5]
"""What data of any size are trained at by themselves: the large ones are asked for."""
UPSCALER: Arch = "espcn"
ARCHITECTURES: tuple[Arch, ...] = tuple(arch for arch in get_args(Arch) if arch != UPSCALER)
"""Those that take a latent."""
UPSCALER_CONVS = 6
"""Convolutions of an upscaler, before the one that makes its pixels."""

MLP_HIDDEN = (128, 256, 512, 1024)
MLP_EPS = 0.8
"""The tutorial writes BatchNorm1d(n, 0.8) and means momentum; the second argument is eps."""

DCGAN_STEPS: dict[int, tuple[tuple[int, int, int, int], ...]] = {
    # size: (width factor of the output, kernel, stride, padding) of every layer but the last, then the last (factor 0)
    28: ((4, 7, 1, 0), (2, 4, 2, 1), (0, 4, 2, 1)),
    32: ((4, 4, 1, 0), (2, 4, 2, 1), (1, 4, 2, 1), (0, 4, 2, 1)),
    64: ((8, 4, 1, 0), (4, 4, 2, 1), (2, 4, 2, 1), (1, 4, 2, 1), (0, 4, 2, 1)),
    96: ((8, 4, 1, 0), (4, 4, 2, 1), (2, 4, 2, 1), (1, 4, 2, 1), (0, 5, 3, 1)),
    256: (
        (16, 4, 1, 0), (16, 4, 2, 1), (8, 4, 2, 1), (4, 4, 2, 1), (2, 4, 2, 1), (1, 4, 2, 1), (0, 4, 2, 1),
    ),
    512: (
        (16, 4, 1, 0), (16, 4, 2, 1), (16, 4, 2, 1), (8, 4, 2, 1), (4, 4, 2, 1), (2, 4, 2, 1), (1, 4, 2, 1),
        (0, 4, 2, 1),
    ),
    128: ((16, 4, 1, 0), (8, 4, 2, 1), (4, 4, 2, 1), (2, 4, 2, 1), (1, 4, 2, 1), (0, 4, 2, 1)),
}  # fmt: skip


def residual_steps(size: int) -> tuple[int, tuple[int, ...]]:
    """The side that residual networks start from, and the width factors at it and after each doubling."""
    start, factors = {28: (7, (4, 2, 1)), 96: (6, (8, 8, 4, 2, 1))}.get(size, (4, ()))
    if not factors:
        wide = [factor for factor, *_ in DCGAN_STEPS[size][:-1]]
        factors = (*wide, wide[-1])
    return start, factors


def network_spec(
    arch: str,
    size: int,
    channels: int,
    *,
    width: int = 64,
    z_dim: int = 100,
    latent: LatentLaw = "normal",
    class_names: tuple[str, ...] = (),
    n_classes: int = 0,
) -> GeneratorSpec:
    """The spec of `arch` for images (channels, size, size).

    `width` is DCGAN's ngf; for the MLP the hidden widths are the tutorial's times width / 64.
    Raises `GanportError` for a size, architecture or number of channels that does not exist.
    """
    if arch not in ARCHITECTURES:
        raise GanportError(f"unknown architecture {arch!r}", hint=f"choose one of {', '.join(ARCHITECTURES)}")
    check_image(size, channels)
    if width < 1 or z_dim < 1:
        raise GanportError(
            f"width and z_dim must be at least 1, got {width} and {z_dim}",
            hint="leave them out for the network's usual ones",
        )
    image = (channels, size, size)
    head: tuple[Layer, ...] = ()
    joined = z_dim
    if n_classes:
        head = (LabelEmbedding(n_classes, dim=n_classes, merge="z_label"),)
        joined += n_classes
    body = {"mlp": _mlp, "dcgan": _dcgan, "resize": _resize, "resnet": _resnet}[arch](joined, image, width)
    return GeneratorSpec(
        Interface(z_dim, image, latent=latent, n_classes=n_classes, class_names=class_names),
        head + body,
        name=f"{arch}-{size}",
    )


def upscaler_spec(size: int, channels: int, *, width: int, scale: int) -> GeneratorSpec:
    """The spec of an upscaler by `scale`, of images of any size to images in [-1, 1]; `size` is that of the images that
    it is trained on, and `width` the channels of its convolutions."""
    layers: list[Layer] = []
    features = channels
    for _ in range(UPSCALER_CONVS):
        layers += [Conv(features, width, 3, padding=1), Activation("prelu", features=width)]
        features = width
    layers += [
        Conv(features, channels * scale**2, 3, padding=1), PixelShuffle(scale, as_="detail"),
        Load("input"), Upsample(scale, "bilinear"), Add("detail"),
    ]  # fmt: skip
    taken = ImageInput(channels, (-1.0, 1.0), scale)
    spec = GeneratorSpec(Interface(0, (channels, size, size), input=taken), tuple(layers), name=f"{UPSCALER}-x{scale}")
    return with_interface(spec, input=replace(taken, halo=spec.halo))


def check_image(size: int | None, channels: int | None) -> None:
    """Raises `GanportError` for images that no network here draws; None is left open."""
    if size is not None and size not in SIZES:
        raise GanportError(f"no network for size {size}", hint=f"sizes: {', '.join(map(str, SIZES))}")
    if channels not in (None, 1, 3):
        raise GanportError(
            f"channels must be 1 (grey) or 3 (RGB), got {channels}", hint="leave `channels` out to take the data's own"
        )


def _mlp(z_dim: int, image: tuple[int, int, int], width: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    features = z_dim
    for index, tutorial_width in enumerate(MLP_HIDDEN):
        hidden = max(1, tutorial_width * width // 64)
        layers.append(Linear(features, hidden))
        if index:
            layers.append(BatchNorm(hidden, eps=MLP_EPS))
        layers.append(Activation("leaky_relu", slope=0.2))
        features = hidden
    return (*layers, Linear(features, math.prod(image)), Activation("tanh"), Reshape(image))


def _dcgan(z_dim: int, image: tuple[int, int, int], width: int, smooth: bool = False) -> tuple[Layer, ...]:
    layers: list[Layer] = [Reshape((z_dim, 1, 1))]
    features = z_dim
    for factor, kernel, stride, padding in DCGAN_STEPS[image[1]]:
        out = factor * width or image[0]
        if smooth and stride > 1:
            layers += [Upsample(stride), Conv(features, out, 3, padding=1, bias=False)]
        else:
            layers.append(ConvTranspose(features, out, kernel, stride, padding, bias=False))
        if factor:
            layers += [BatchNorm(out), Activation("relu")]
        features = out
    return (*layers, Activation("tanh"))


def _resize(z_dim: int, image: tuple[int, int, int], width: int) -> tuple[Layer, ...]:
    return _dcgan(z_dim, image, width, smooth=True)


def _resnet(z_dim: int, image: tuple[int, int, int], width: int) -> tuple[Layer, ...]:
    side, factors = residual_steps(image[1])
    features = factors[0] * width
    layers: list[Layer] = [Linear(z_dim, features * side * side), Reshape((features, side, side))]
    for index, factor in enumerate(factors[1:]):
        out, skip, deep = factor * width, f"skip{index}", f"deep{index}"
        layers += [
            Upsample(2, as_=skip), BatchNorm(features), Activation("relu"), Conv(features, out, 3, padding=1),
            BatchNorm(out), Activation("relu"), Conv(out, out, 3, padding=1, as_=deep),
        ]  # fmt: skip
        layers += [Add(skip)] if out == features else [Load(skip), Conv(features, out, 1), Add(deep)]
        features = out
    return (
        *layers, BatchNorm(features), Activation("relu"), Conv(features, image[0], 3, padding=1), Activation("tanh"),
    )  # fmt: skip
