"""Discriminators: the mirror image of each generator in `gan_trainer.networks.architectures`.

All give logits, float32 (N,). The tutorials end in a sigmoid and take BCELoss; the logits with
BCEWithLogitsLoss are the same numbers without log(0) (see `gan_trainer.losses`).

- mlp (PyTorch-GAN): flatten → 512 → 256 → 1, LeakyReLU 0.2, no normalisation.
- dcgan (Radford et al. 2016, arXiv:1511.06434): the generator's convolutions backwards, LeakyReLU 0.2, BatchNorm on
  all but the first and last, no biases. At 96 the first one has kernel 5 and stride 3.

- resnet: residual blocks that halve the side, LeakyReLU 0.2 before each convolution (Gulrajani et al. 2017).

With `norm` "spectral" there is no BatchNorm; every layer's weight is divided by its largest singular value instead, and
has a bias (SN-GAN, Miyato et al. 2018, arXiv:1802.05957). With "none" there are biases and nothing else.

With classes it is a projection discriminator (Miyato and Koyama 2018, arXiv:1802.05637): with φ(x) what the last layer
takes and v_y a learned vector for class y,

    D(x, y) = ψ(φ(x)) + v_y · φ(x)

ψ is the last layer. The paper sums φ over the positions first; here v_y keeps them, as ψ does.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gan_core.errors import GanportError
from gan_trainer.networks.architectures import ARCHITECTURES, DCGAN_STEPS, residual_steps
from gan_trainer.recipes import DNorm, Init

MLP_HIDDEN = (512, 256)
SLOPE = 0.2


class Discriminator(nn.Module):
    """forward(image float32 (N, C, H, W) in [-1, 1], label int64 (N,) with classes) → logits float32 (N,): positive
    means real, and of that class.
    """

    def __init__(
        self, arch: str, image: tuple[int, int, int], width: int, norm: DNorm = "batch", n_classes: int = 0
    ) -> None:
        super().__init__()
        if arch not in ARCHITECTURES:
            raise GanportError(f"unknown architecture {arch!r}", hint=f"choose one of {', '.join(ARCHITECTURES)}")
        layers = _mlp(image, width) if arch == "mlp" else _LAYERS[arch](image, width, norm)
        projection = _projection(layers[-1], n_classes) if n_classes else None
        if norm == "spectral":
            for module in [each for layer in (*layers, projection) if layer is not None for each in layer.modules()]:
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    spectral_norm(module)
        self.layers = nn.Sequential(*layers)
        self.projection = projection

    def forward(self, image_NCHW: Tensor, label: Tensor | None = None) -> Tensor:
        if self.projection is None:
            logits: Tensor = self.layers(image_NCHW)
            return logits.flatten()
        assert label is not None
        features = self.layers[:-1](image_NCHW)
        of_class = self.projection(features).flatten(1).gather(1, label.unsqueeze(1))
        sums: Tensor = self.layers[-1](features).flatten(1) + of_class
        return sums.flatten()


def _projection(last: nn.Module, n_classes: int) -> nn.Module:
    """v of every class: a layer like `last`, without a bias, that gives one number a class."""
    if isinstance(last, nn.Linear):
        return nn.Linear(last.in_features, n_classes, bias=False)
    assert isinstance(last, nn.Conv2d)
    return nn.Conv2d(last.in_channels, n_classes, last.kernel_size, last.stride, last.padding, bias=False)  # type: ignore[arg-type]


def initialise(network: nn.Module, init: Init) -> None:
    """Draws the weights anew from torch's global generator: DCGAN's law, or (nothing to do) torch's own.

    DCGAN: every convolution N(0, 0.02), every BatchNorm weight N(1, 0.02) with bias 0. He: the same, but the weights of
    convolutions that are not transposed and of linear layers N(0, gain² / fan_in), biases 0. Bilinear: DCGAN, but the
    kernels of transposed convolutions that overlap evenly are N(0, 0.02) times a bilinear filter of mean square 1.
    """
    if init == "torch":
        return
    for module in network.modules():
        # Under spectral norm `weight` is computed: what can be drawn anew is the parameter behind it.
        name = "parametrizations.weight.original" if is_parametrized(module) else "weight"
        if init == "he" and isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.get_parameter(name), SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.get_parameter(name)
            nn.init.normal_(weight, 0.0, 0.02)
            if init == "bilinear" and isinstance(module, nn.ConvTranspose2d):
                _enlarge_evenly(weight, module.stride[0])
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _enlarge_evenly(weight: Tensor, stride: int) -> None:
    """Makes square kernels (in, out, k, k) bilinear: every pixel of the output then gets the same sum of weights."""
    k = weight.shape[2]
    if stride < 2 or k != 2 * stride - stride % 2:
        return
    row = 1 - (torch.arange(k) - (k - 1) / 2).abs() / stride
    kernel = torch.outer(row, row)
    weight.copy_(weight[:, :, :1, :1] * (kernel / kernel.square().mean().sqrt()))


def start_at_zero(upscaler: nn.Module) -> None:
    """Makes the last convolution's weights zero: an upscaler begins as the interpolation that it adds to."""
    last = [module for module in upscaler.modules() if isinstance(module, nn.Conv2d)][-1]
    for weight in last.parameters():
        nn.init.zeros_(weight)


def _mlp(image: tuple[int, int, int], width: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(image)
    for tutorial_width in MLP_HIDDEN:
        hidden = max(1, tutorial_width * width // 64)
        layers += [nn.Linear(features, hidden), nn.LeakyReLU(SLOPE)]
        features = hidden
    return [*layers, nn.Linear(features, 1)]


def _dcgan(image: tuple[int, int, int], width: int, norm: DNorm) -> list[nn.Module]:
    steps = DCGAN_STEPS[image[1]]
    layers: list[nn.Module] = []
    channels = image[0]
    bias = norm != "batch"
    # A generator's layer i takes what layer i - 1 made: read backwards, that is what this layer gives.
    for index in range(len(steps) - 1, 0, -1):
        _, kernel, stride, padding = steps[index]
        out = steps[index - 1][0] * width
        layers.append(nn.Conv2d(channels, out, kernel, stride, padding, bias=bias))
        if norm == "batch" and index < len(steps) - 1:
            layers.append(nn.BatchNorm2d(out))
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        channels = out
    _, kernel, stride, padding = steps[0]
    return [*layers, nn.Conv2d(channels, 1, kernel, stride, padding, bias=bias)]


class HalvingBlock(nn.Module):
    """x (N, C, 2H, 2W) → (N, out, H, W): two convolutions beside a way past them, each on the mean of four pixels."""

    def __init__(self, channels: int, out: int, norm: DNorm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((channels, out), (out, out)):
            layers += [nn.BatchNorm2d(before)] if norm == "batch" else []
            layers += [nn.LeakyReLU(SLOPE), nn.Conv2d(before, after, 3, 1, 1)]
        self.deep = nn.Sequential(*layers, nn.AvgPool2d(2))
        self.past = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        sums: Tensor = self.deep(x) + self.past(x)
        return sums


def _resnet(image: tuple[int, int, int], width: int, norm: DNorm) -> list[nn.Module]:
    side, factors = residual_steps(image[1])
    widths = [factor * width for factor in reversed(factors)]
    blocks = [HalvingBlock(before, after, norm) for before, after in itertools.pairwise(widths)]
    first, last = nn.Conv2d(image[0], widths[0], 3, 1, 1), nn.Conv2d(widths[-1], 1, side)
    return [first, *blocks, nn.LeakyReLU(SLOPE), last]


_LAYERS = {"dcgan": _dcgan, "resize": _dcgan, "resnet": _resnet}
