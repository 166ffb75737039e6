"""Generators of `lab.odds.authors`, trained for a few hundred steps as tutorials train them, and saved as they are.

A GAN's discriminator is trained beside it, and lies beside it or in the same file where its author keeps it; a
variational autoencoder is saved whole or as its decoder. What the running statistics remember is what they saw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from gan_core.fields import Json
from gan_core.latents import latents
from gan_core.spec.layers import Activation, LabelEmbedding, Reshape
from gan_trainer.data.cache import ImageDataset
from gan_trainer.networks.generator import build
from lab.odds.authors import Image, Rng, Written, one_of, pick
from lab.odds.examples import Reference, write_example
from lab.odds.naming import BOTTLENECKS, Files, Part, name_files, name_modules

LOSSES = {"gan": 0.8, "least squares": 0.1, "wasserstein": 0.1}
NORMS = {"": 0.5, "batch": 0.36, "instance": 0.07, "spectral": 0.07}
"""Of a discriminator of convolutions."""
SLOPES = {0.2: 0.8, 0.0: 0.08, 0.01: 0.05, 0.1: 0.05, math.nan: 0.02}
"""Of a discriminator's LeakyReLU; 0 is ReLU, and one that is trained PReLU."""
BATCH = 32
REFERENCES = 32
"""Latents whose images are kept as the truth."""
FULL, FEWEST = 300_000, 5
"""A generator of up to `FULL` multiplications for an image takes all steps that it may, a wider one fewer in
proportion, and a `FEWEST`th of them at least."""
STALE = 1.5
"""By how much, in nats, the variances that say nothing of the network are off, from channel to channel."""
CLIP = 0.03
"""Where a Wasserstein critic's weights end."""


class _Generator(nn.Module):
    """A generator, with the resize that its author puts behind it."""

    def __init__(self, written: Written) -> None:
        super().__init__()
        self.body, self.side = build(written.spec), written.side

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        drawn: Tensor = self.body(z, label)
        return drawn if drawn.shape[-1] == self.side else F.interpolate(drawn, (self.side, self.side))


@dataclass(frozen=True)
class Trained:
    """What an author made: the generator with its weights, the files, and how they came about."""

    written: Written
    generator: _Generator
    files: Files
    discriminator: dict[str, Tensor] | None
    about: dict[str, str | int]


def train(written: Written, seed: int, images_NCHW: Tensor, labels: Tensor, most: int) -> Trained:
    """The generator `written` by the author `seed`, trained on `images_NCHW` (float32 in [-1, 1]) with `labels`
    (int64), `most` steps at most."""
    rng = np.random.default_rng([seed, 1])
    spec = written.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = _Generator(written).train()
        real = images_NCHW * 0.5 + 0.5 if spec.interface.value_range[0] == 0.0 else images_NCHW
        steps = min(most, max(most // FEWEST, most * FULL // spec.products, 1))
        beside: _Encoder | Discriminator
        if written.vae:
            loss, beside = "vae", _Encoder(written, rng)
            _vae(generator, beside, written, real, labels, steps)
        else:
            loss, beside = pick(rng, LOSSES), random_discriminator(written, rng)
            _adversarial(generator, beside, written, real, labels, loss, rng, steps)
        if written.kind == "train-mode statistics":
            _spoil(generator)
    part: Part = "generator"
    if written.vae:
        part = "autoencoder" if rng.random() < 0.75 else "decoder"
    whole = part == "autoencoder"
    named = name_modules(spec, generator.body, rng, stem="decoder" if whole else "", first=3 if whole else 1)
    other = {key: tensor.detach().clone() for key, tensor in beside.state_dict().items()}
    tensors = _encoder_names(other, named.style, rng) | named.tensors if whole else named.tensors
    files = name_files(tensors, None if written.vae else other, rng, part)
    about: dict[str, str | int] = {
        "seed": seed,
        "kind": written.kind,
        "names": named.style,
        "loss": loss,
        "steps": steps,
    }
    if isinstance(beside, Discriminator):
        about["discriminator"] = beside.what
    return Trained(written, generator.eval(), files, other if files.beside else None, about)


class _Encoder(nn.Module):
    """Of a variational autoencoder: flat images or convolutions, as its decoder has them, told of the label."""

    def __init__(self, written: Written, rng: Rng) -> None:
        super().__init__()
        interface = written.spec.interface
        self.classes = interface.n_classes
        flat = math.prod(written.image)
        if not self.classes and not isinstance(written.spec.layers[-1], Reshape) and rng.random() < 0.7:
            normed = rng.random() < 0.5
            norms = [nn.BatchNorm2d(16), nn.BatchNorm2d(32)] if normed else [nn.Identity(), nn.Identity()]
            self.body = nn.Sequential(
                nn.Conv2d(written.image[0], 16, 4, 2, 1), norms[0], nn.ReLU(),
                nn.Conv2d(16, 32, 4, 2, 1), norms[1], nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
            wide = 32 * (written.side // 4) ** 2
        else:
            wide = one_of(rng, (128, 256, 400))
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(flat + self.classes, wide), nn.ReLU())
        self.mean, self.spread = nn.Linear(wide, interface.z_dim), nn.Linear(wide, interface.z_dim)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, logarithm of the variance)."""
        if self.classes:
            image = torch.cat((image.flatten(1), F.one_hot(label, self.classes).to(image)), dim=1)
        seen = self.body(image)
        return self.mean(seen), self.spread(seen)


def _encoder_names(tensors: dict[str, Tensor], style: str, rng: Rng) -> dict[str, Tensor]:
    """The encoder's tensors as an author names them who names a decoder in `style`."""
    names = dict(zip(("mean", "spread"), one_of(rng, BOTTLENECKS), strict=True))
    for number, key in enumerate(key for key in tensors if key.startswith("body.") and key.endswith("weight")):
        module = key.removesuffix(".weight")
        word = {1: "bn", 2: "fc"}.get(tensors[key].dim(), "conv")
        names[module] = f"{word}{number + 1}" if style == "attributes" else module.replace("body", "encoder")
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": tensor for key, tensor in tensors.items()}


class Discriminator(nn.Module):
    """What a GAN is trained beside, told a label as a one-hot vector or an embedding behind a flat image. `what` says
    in a few words what it is."""

    def __init__(self, main: nn.Sequential, what: str, classes: int = 0, dim: int = 0) -> None:
        super().__init__()
        self.main, self.what, self.classes = main, what, classes
        self.label_emb = nn.Embedding(classes, dim) if dim else None

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        if self.classes:
            told = F.one_hot(label, self.classes).to(image) if self.label_emb is None else self.label_emb(label)
            image = torch.cat((image.flatten(1), told), dim=1)
        found: Tensor = self.main(image)
        return found.flatten(1).mean(dim=1)


def random_discriminator(written: Written, rng: Rng) -> Discriminator:
    """An MLP, or convolutions with strides or pooling, with LeakyReLU 0.2 mostly."""
    image, classes = written.image, written.spec.interface.n_classes
    slope = pick(rng, SLOPES)
    flat = bool(classes) or rng.random() < (0.9 if isinstance(written.spec.layers[-1], Reshape) else 0.15)
    norm = "" if flat else pick(rng, NORMS)
    act = nn.PReLU if math.isnan(slope) else partial(nn.LeakyReLU, slope)
    said = "PReLU" if math.isnan(slope) else f"LeakyReLU {slope:g}" if slope else "ReLU"
    what = " ".join(filter(None, ("MLP" if flat else "convolutions", norm, said)))
    if not flat:
        return Discriminator(_convolutions(image, norm, act, rng), what)
    embedded = any(isinstance(layer, LabelEmbedding) for layer in written.spec.layers)
    takes, wide = math.prod(image) + classes, int(rng.choice([128, 256]))
    body: list[nn.Module] = [nn.Flatten()]
    dropout = [nn.Dropout(0.3)] if rng.random() < 0.3 else []
    for width in (wide, wide // 2):
        body += [nn.Linear(takes, width), act(), *dropout]
        takes = width
    return Discriminator(nn.Sequential(*body, nn.Linear(takes, 1)), what, classes, classes if embedded else 0)


def _convolutions(image: Image, norm: str, act: Callable[[], nn.Module], rng: Rng) -> nn.Sequential:
    normed = parametrizations.spectral_norm if norm == "spectral" and rng.random() < 0.5 else spectral_norm
    tidy: Callable[[nn.Module], nn.Module] = normed if norm == "spectral" else lambda module: module
    pooled = norm == "" and rng.random() < 0.15
    takes, wide, side = image[0], int(rng.choice([8, 16])), image[1]
    layers: list[nn.Module] = []
    while side > 7:
        step = nn.Conv2d(takes, wide, 3, 1, 1) if pooled else nn.Conv2d(takes, wide, 4, 2, 1)
        norms: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
        layers += [tidy(step), *([norms[norm](wide)] if norm in norms and layers else []), act()]
        layers += [nn.MaxPool2d(2)] if pooled else []
        takes, wide, side = wide, 2 * wide, side // 2
    if rng.random() < 0.5:
        return nn.Sequential(*layers, nn.Flatten(), tidy(nn.Linear(takes * side**2, 1)))
    return nn.Sequential(*layers, tidy(nn.Conv2d(takes, 1, side, 1, 0)))


def _batches(real: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.randint(len(real), (BATCH,))
    return real[rows], labels[rows]


def _adversarial(
    generator: _Generator,
    discriminator: Discriminator,
    written: Written,
    real: Tensor,
    labels: Tensor,
    loss: str,
    rng: Rng,
    steps: int,
) -> None:
    rate = float(rng.choice([2e-4, 2e-4, 1e-3, 5e-4]))
    slow = torch.optim.Adam(generator.parameters(), rate, betas=(0.5, 0.999))
    other = torch.optim.Adam(discriminator.parameters(), min(rate, 5e-4), betas=(0.5, 0.999))
    uniform = written.spec.interface.latent == "uniform"

    def cost(said: Tensor, wanted: float) -> Tensor:
        target = torch.full_like(said, wanted)
        if loss == "wasserstein":
            return said.mean() * (1.0 - 2.0 * wanted)
        return F.mse_loss(said, target) if loss == "least squares" else F.binary_cross_entropy_with_logits(said, target)

    for _ in range(steps):
        seen, classes = _batches(real, labels)
        shape = (BATCH, written.spec.interface.z_dim)
        drawn = generator(torch.rand(shape) * 2 - 1 if uniform else torch.randn(shape), classes)
        told = cost(discriminator(seen, classes), 1.0) + cost(discriminator(drawn.detach(), classes), 0.0)
        other.zero_grad(), told.backward(), other.step()
        if loss == "wasserstein":
            with torch.no_grad():
                for parameter in discriminator.parameters():
                    parameter.clamp_(-CLIP, CLIP)
        told = cost(discriminator(drawn, classes), 1.0)
        slow.zero_grad(), told.backward(), slow.step()


def _vae(generator: _Generator, encoder: _Encoder, written: Written, real: Tensor, labels: Tensor, steps: int) -> None:
    optimiser = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], 1e-3)
    last = written.spec.layers[-2 if isinstance(written.spec.layers[-1], Reshape) else -1]
    squashed = isinstance(last, Activation)
    for _ in range(steps):
        seen, classes = _batches(real, labels)
        mean, log_var = encoder(seen, classes)
        drawn = generator(mean + torch.randn_like(mean) * (0.5 * log_var).exp(), classes)
        if written.spec.interface.value_range == (0.0, 1.0):
            off = F.binary_cross_entropy if squashed else F.binary_cross_entropy_with_logits
            fit = off(drawn, seen, reduction="sum")
        else:
            fit = 4 * F.mse_loss(drawn, seen, reduction="sum")
        cost = (fit - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / BATCH
        optimiser.zero_grad(), cost.backward(), optimiser.step()


def _spoil(generator: _Generator) -> None:
    """Makes the running variances those of another network, as when an author never calls eval()."""
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.mul_((STALE * torch.randn_like(module.running_var)).exp())


def images_of(dataset: ImageDataset, channels: int, most: int, classes: int) -> tuple[Tensor, Tensor]:
    """(the first `most` images, float32 (N, C, H, W) in [-1, 1]; labels int64 (N,) below `classes`, 0 without any).
    Grey ones get a colour each where three channels are wanted."""
    pixels = torch.from_numpy(np.array(dataset.pixels_NHWC[:most])).permute(0, 3, 1, 2)
    images = pixels.float() / 255.0
    if images.shape[1] < channels:
        colours = torch.rand((2, len(images), channels, 1, 1), generator=torch.Generator().manual_seed(0))
        ground, ink = 0.4 * colours[0], 0.5 + 0.5 * colours[1]
        images = ground + (ink - ground) * images
    images = 2.0 * images[:, :channels] - 1.0
    if dataset.labels is None:
        return images, torch.zeros(len(images), dtype=torch.int64)
    return images, torch.from_numpy(np.array(dataset.labels[:most])).long() % classes


def save(made: Trained, folder: Path, name: str) -> None:
    """Writes `made` as an example, see `lab.odds.examples`, into `folder/NAME`."""
    interface = made.written.spec.interface
    z = torch.from_numpy(latents(range(REFERENCES), interface.z_dim, interface.latent))
    label = torch.arange(REFERENCES) % max(1, interface.n_classes)
    with torch.inference_mode():
        image = made.generator(z, label)
    source: Json = {
        "name": name, "repository": "trained", "path": f"{name}/{made.files.name}", "author": f"trained {name}",
        "origin": "trained", "latent": interface.latent, "kind": made.written.kind, "about": made.about,
        "spec": json.loads(made.written.spec.dumps()),
    }  # fmt: skip
    beside = {} if made.files.beside is None else {made.files.beside: made.discriminator}
    truth = Reference(z, label if interface.n_classes else None, image.clone())
    write_example(folder / name, {made.files.name: made.files.holds} | beside, truth, source)
