"""Small generators trained as tutorials train them, each with its discriminator, the truth about both known.

Half of what people have is an MLP without any BatchNorm, so half of these are. The state_dicts carry names that tell
nothing of the layers without weights.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.interface import Interface
from gan_core.latents import latents
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelOneHot,
    Layer,
    Linear,
    Reshape,
    Upsample,
)
from gan_trainer.data.cache import ImageDataset
from gan_trainer.networks.build import SpecGenerator, build
from lab.odds.examples import Reference, write_example

Rng = np.random.Generator

ACTIVATIONS: tuple[tuple[str, float | None], ...] = (
    ("relu", None), ("leaky_relu", 0.2), ("leaky_relu", 0.01), ("leaky_relu", 0.1), ("elu", None), ("selu", None),
    ("gelu", None), ("silu", None), ("tanh", None),
)  # fmt: skip
ACTIVATION_ODDS = (0.46, 0.3, 0.05, 0.05, 0.04, 0.02, 0.04, 0.02, 0.02)
LOSSES, LOSS_ODDS = ("gan", "least squares", "vae"), (0.6, 0.12, 0.28)
BATCH = 64
REFERENCES = 32
"""Latents whose images are kept as the truth."""


@dataclass(frozen=True)
class Trained:
    """A generator, what it was trained beside (None for a VAE's decoder), and how.

    truth          the generator's spec
    generator      its state_dict, under names that tell nothing
    discriminator  the discriminator's
    """

    truth: GeneratorSpec
    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None
    about: dict[str, str | int | float]


def train(seed: int, images_NCHW: Tensor, labels: Tensor, data: str, seconds: float) -> Trained:
    """The generator of this seed on `images_NCHW` (float32 in [-1, 1]) with `labels` (int64), trained for about
    `seconds` of processor time."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    loss = str(rng.choice(LOSSES, p=LOSS_ODDS))
    image = (int(images_NCHW.shape[1]), int(images_NCHW.shape[2]), int(images_NCHW.shape[3]))
    spec = random_spec(image, loss, rng)
    generator = build(spec)
    white = spec.interface.value_range[0] == 0.0
    real = images_NCHW * 0.5 + 0.5 if white else images_NCHW
    about: dict[str, str | int | float] = {"data": data, "loss": loss, "seed": seed}
    if loss == "vae":
        about["steps"] = _vae(generator, spec, real, labels, seconds)
        return Trained(spec, _renamed(generator), None, about)
    discriminator = random_discriminator(image, spec.interface.n_classes, rng)
    about["steps"] = _adversarial(generator, discriminator, spec, real, labels, loss, rng, seconds)
    held = {key: tensor.clone() for key, tensor in discriminator.state_dict().items()}
    return Trained(spec, _renamed(generator), held, about)


def random_spec(image: tuple[int, int, int], loss: str, rng: Rng) -> GeneratorSpec:
    """A generator as people write them: MLP, transposed convolutions padded or not, or upsampling and convolutions."""
    vae = loss == "vae"
    z_dim = int(rng.choice([2, 16, 20, 32] if vae else [32, 64, 100, 100, 128]))
    classes = 10 if rng.random() < 0.2 else 0
    act = Activation(*ACTIVATIONS[int(rng.choice(len(ACTIVATIONS), p=ACTIVATION_ODDS))])  # type: ignore[arg-type]
    kind = str(rng.choice(["mlp", "transposed", "unpadded", "upsample"], p=[0.55, 0.2, 0.1, 0.15]))
    if kind == "unpadded" and image[1] != 28:
        kind = "transposed"
    norm = bool(rng.random() < (0.35 if kind == "mlp" else 0.6))
    eps = 0.8 if norm and rng.random() < 0.25 else 1e-5
    head: list[Layer] = [LabelOneHot(classes, merge="z_label" if rng.random() < 0.7 else "label_z")] if classes else []
    joined = z_dim + classes
    body = {"mlp": _mlp, "transposed": _transposed, "unpadded": _unpadded, "upsample": _upsampled}[kind]
    layers = body(joined, image, act, norm, eps, rng)
    sigmoid = rng.random() < (0.9 if vae else 0.12)
    layers.append(Activation("sigmoid" if sigmoid else "tanh"))
    if kind == "mlp":
        layers.append(Reshape(image))
    interface = Interface(
        z_dim, image, value_range=(0.0, 1.0) if sigmoid else (-1.0, 1.0), n_classes=classes,
        latent="uniform" if not vae and rng.random() < 0.05 else "normal",
    )  # fmt: skip
    return GeneratorSpec(interface, (*head, *layers), name=kind)


def _mlp(features: int, image: tuple[int, int, int], act: Activation, norm: bool, eps: float, rng: Rng) -> list[Layer]:
    depth = int(rng.integers(1, 5))
    width = int(rng.choice([64, 128, 256]))
    widths = [width] * depth if rng.random() < 0.4 else [min(512, width * 2**i) for i in range(depth)]
    layers: list[Layer] = []
    for index, wide in enumerate(widths):
        layers.append(Linear(features, wide))
        if norm and (index or rng.random() < 0.5):
            layers.append(BatchNorm(wide, eps=eps))
        layers.append(act)
        features = wide
    return [*layers, Linear(features, math.prod(image))]


def _block(layer: Layer, features: int, act: Activation, norm: bool, eps: float) -> list[Layer]:
    return [layer, *([BatchNorm(features, eps=eps)] if norm else []), act]


def _transposed(
    features: int, image: tuple[int, int, int], act: Activation, norm: bool, eps: float, rng: Rng
) -> list[Layer]:
    start = 7 if image[1] == 28 else 4
    steps = int(math.log2(image[1] // start))
    wide = int(rng.choice([16, 32])) * 2 ** (steps - 1)
    bias = not norm or rng.random() < 0.5
    if rng.random() < 0.5:
        layers = _block(ConvTranspose(features, wide, start, bias=bias), wide, act, norm, eps)
        layers = [Reshape((features, 1, 1)), *layers]
    else:
        layers = [
            Linear(features, wide * start**2),
            *([act] if rng.random() < 0.5 else []),
            Reshape((wide, start, start)),
        ]
    for index in range(steps):
        last = index == steps - 1
        out = image[0] if last else wide // 2
        up = ConvTranspose(wide, out, 4, 2, 1, bias=bias or last)
        layers += [up] if last else _block(up, out, act, norm, eps)
        wide = out
    return layers


def _unpadded(
    features: int, image: tuple[int, int, int], act: Activation, norm: bool, eps: float, rng: Rng
) -> list[Layer]:
    wide = int(rng.choice([16, 24]))
    return [
        Reshape((features, 1, 1)),
        *_block(ConvTranspose(features, 4 * wide, 3, 2), 4 * wide, act, norm, eps),
        *_block(ConvTranspose(4 * wide, 2 * wide, 4, 1), 2 * wide, act, norm, eps),
        *_block(ConvTranspose(2 * wide, wide, 3, 2), wide, act, norm, eps),
        ConvTranspose(wide, image[0], 4, 2),
    ]


def _upsampled(
    features: int, image: tuple[int, int, int], act: Activation, norm: bool, eps: float, rng: Rng
) -> list[Layer]:
    start, wide = image[1] // 4, int(rng.choice([16, 32]))
    mode = "bilinear" if rng.random() < 0.2 else "nearest"
    layers: list[Layer] = [Linear(features, wide * start**2), Reshape((wide, start, start))]
    if norm:
        layers.append(BatchNorm(wide))
    for out in (wide, wide // 2):
        layers += [Upsample(2, mode), *_block(Conv(wide, out, 3, 1, 1), out, act, norm, eps)]  # type: ignore[arg-type]
        wide = out
    return [*layers, Conv(wide, image[0], 3, 1, 1)]


class _Told(nn.Module):
    """A discriminator of flat images that is told a one-hot label behind them."""

    def __init__(self, body: nn.Sequential, classes: int) -> None:
        super().__init__()
        self.body, self.classes = body, classes

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        if self.classes:
            image = torch.cat((image.flatten(1), F.one_hot(label, self.classes).to(image)), dim=1)
        found: Tensor = self.body(image)
        return found.flatten(1).mean(dim=1)


def random_discriminator(image: tuple[int, int, int], classes: int, rng: Rng) -> _Told:
    """An MLP, or convolutions of stride 2, with LeakyReLU 0.2 mostly."""
    slope = float(rng.choice([0.2, 0.0, 0.01], p=[0.85, 0.08, 0.07]))
    act = nn.LeakyReLU(slope)
    if classes or rng.random() < 0.5:
        width = int(rng.choice([128, 256]))
        drop = [nn.Dropout(0.3)] if rng.random() < 0.3 else []
        body = [nn.Flatten(), nn.Linear(math.prod(image) + classes, width), act, *drop]
        body += [nn.Linear(width, width // 2), act, *drop, nn.Linear(width // 2, 1)]
        return _Told(nn.Sequential(*body), classes)
    layers: list[nn.Module] = []
    wide, norm, size = int(rng.choice([16, 32])), bool(rng.random() < 0.5), image[1]
    takes = image[0]
    while size > 7:
        layers += [nn.Conv2d(takes, wide, 4, 2, 1), *([nn.BatchNorm2d(wide)] if norm and layers else []), act]
        takes, wide, size = wide, wide * 2, size // 2
    layers += [nn.Flatten(), nn.Linear(takes * size**2, 1)] if rng.random() < 0.5 else [nn.Conv2d(takes, 1, size, 1, 0)]
    return _Told(nn.Sequential(*layers), 0)


def _batches(real: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.randint(len(real), (BATCH,))
    return real[rows], labels[rows]


def _drawn(generator: SpecGenerator, spec: GeneratorSpec, labels: Tensor) -> Tensor:
    shape = (len(labels), spec.interface.z_dim)
    z = torch.rand(shape) * 2 - 1 if spec.interface.latent == "uniform" else torch.randn(shape)
    drawn: Tensor = generator(z, labels) if spec.interface.n_classes else generator(z)
    return drawn


def _adversarial(
    generator: SpecGenerator,
    discriminator: _Told,
    spec: GeneratorSpec,
    real: Tensor,
    labels: Tensor,
    loss: str,
    rng: Rng,
    seconds: float,
) -> int:
    rate = float(rng.choice([2e-4, 2e-4, 1e-3, 5e-4]))
    slow = torch.optim.Adam(generator.parameters(), rate, betas=(0.5, 0.999))
    other = torch.optim.Adam(discriminator.parameters(), min(rate, 5e-4), betas=(0.5, 0.999))
    generator.train(), discriminator.train()
    start, step = time.process_time(), 0

    def wrong(said: Tensor, wanted: float) -> Tensor:
        target = torch.full_like(said, wanted)
        return F.mse_loss(said, target) if loss == "least squares" else F.binary_cross_entropy_with_logits(said, target)

    while time.process_time() - start < seconds:
        step += 1
        seen, classes = _batches(real, labels)
        drawn = _drawn(generator, spec, classes)
        cost = wrong(discriminator(seen, classes), 1.0) + wrong(discriminator(drawn.detach(), classes), 0.0)
        other.zero_grad(), cost.backward(), other.step()
        cost = wrong(discriminator(drawn, classes), 1.0)
        slow.zero_grad(), cost.backward(), slow.step()
    return step


def _vae(generator: SpecGenerator, spec: GeneratorSpec, real: Tensor, labels: Tensor, seconds: float) -> int:
    z_dim, flat = spec.interface.z_dim, math.prod(spec.interface.image)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(flat, 256), nn.ReLU(), nn.Linear(256, 2 * z_dim))
    optimiser = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], 1e-3)
    generator.train()
    start, step = time.process_time(), 0
    scale = spec.interface.value_range
    while time.process_time() - start < seconds:
        step += 1
        seen, classes = _batches(real, labels)
        mean, log_var = encoder(seen).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        drawn = generator(z, classes) if spec.interface.n_classes else generator(z)
        if scale == (0.0, 1.0):
            fit = F.binary_cross_entropy(drawn, seen, reduction="sum")
        else:
            fit = 4 * F.mse_loss(drawn, seen, reduction="sum")
        cost = (fit - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / BATCH
        optimiser.zero_grad(), cost.backward(), optimiser.step()
    return step


def _renamed(module: SpecGenerator) -> dict[str, Tensor]:
    """Its state_dict in names that tell nothing of the layers without weights."""
    names: dict[str, str] = {}
    found: dict[str, Tensor] = {}
    for key, tensor in module.state_dict().items():
        _, index, own = key.split(".")
        found[f"{names.setdefault(index, f'layer{len(names)}')}.{own}"] = tensor.clone()
    return found


def images_of(dataset: ImageDataset, most: int, classes: int) -> tuple[Tensor, Tensor]:
    """(the first `most` images, float32 (N, C, H, W) in [-1, 1]; labels int64 (N,) below `classes`, 0 without any)."""
    pixels = torch.from_numpy(np.array(dataset.pixels_NHWC[:most])).permute(0, 3, 1, 2)
    images = pixels.float() / 127.5 - 1.0
    if dataset.labels is None:
        return images, torch.zeros(len(images), dtype=torch.int64)
    return images, torch.from_numpy(np.array(dataset.labels[:most])).long() % classes


def save(made: Trained, folder: Path, name: str) -> None:
    """Writes `made` as an example, see `lab.odds.examples`, into `folder/NAME`."""
    interface = made.truth.interface
    generator = build(made.truth)
    generator.load_state_dict(dict(zip(generator.state_dict(), made.generator.values(), strict=True)))
    z = torch.from_numpy(latents(range(REFERENCES), interface.z_dim, interface.latent))
    label = torch.arange(REFERENCES) % interface.n_classes if interface.n_classes else None
    with torch.inference_mode():
        image = generator.eval()(z, label)
    spec = json.loads(made.truth.dumps())
    source = {"repository": "trained", "path": name, "author": f"trained {name}", "origin": "trained",
              "latent": interface.latent, "about": made.about, "spec": spec}  # fmt: skip
    write_example(folder, name, made.generator, made.discriminator, Reference(z, label, image.clone()), source)
