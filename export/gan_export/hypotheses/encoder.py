"""The encoder of a variational autoencoder, read from its weights: whether it finds the latents in images again.

In training, its mean of the latent is near the one that an image is decoded from. A decoder that is read wrong
generates images that the encoder does not know, and what it makes of them is far from the latents they come from.

It does not know: how far latent and mean lie apart for the true decoder (latents that the training left unused are
found in no image), and what `gan_export.hypotheses.companion` does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gan_export.forensics.statistics import label_batch
from gan_export.hypotheses.companion import NUMBERS, Companion, Image, read_companions, remembered, sloped

SLOPES: dict[float | str, float] = {
    0.0: 0.0, 0.2: 1.5, 0.01: 1.5, "elu": 3.5, 0.1: 3.5, "selu": 4.0, "gelu": 4.0, "silu": 4.0, "tanh": 4.0,
}  # fmt: skip
"""Of an encoder's LeakyReLU (0 is ReLU), other activations, and their costs in nats."""
NEAREST, FARTHEST = 0.02, 1e4
"""Squared distances of latents are at least and at most so large, about."""
SURE = 0.1
"""From this squared correlation on, what it finds goes with the latents."""
FALL, COMMON = 1.5, 0.9
"""The amplitudes of noise fall with frequency to this power, and so much of it is common to all channels."""
APART = 1 << 32
"""What lies between the seeds of noise images and of what is added to a mean."""
WIDEST = 10.0
"""The widest latents that it is believed to make."""


@dataclass(frozen=True)
class Encoder(Companion):
    """One way to run an encoder on images of one shape. `latent` is how many numbers make its mean."""

    latent: int

    name = "the encoder"

    def says(self, image_NCHW: Tensor, label: Tensor | None, z: Tensor, /) -> Tensor:
        """How far what it finds is from the latents, and how far its BatchNorms' memory is from these images.

        Farther than nothing at all counts only as far as what it finds goes with the latents: one that was hardly
        trained finds the same in all images.
        """
        x, misfits = self.outputs(image_NCHW, label)
        found = x.flatten(1)[:, : self.latent]
        far = float(((found - z).square().mean() / z.square().mean()).nan_to_num(FARTHEST, FARTHEST))
        missed = math.log(min(far, FARTHEST) + NEAREST)
        numbers = torch.zeros(NUMBERS)
        numbers[4:] = torch.tensor((missed * (_alike(found, z) if missed > 0.0 else 1.0), remembered(misfits)))
        return numbers

    def latents(self, n: int, seed: int) -> Tensor:
        """Latents like those that it made in training, float32 (n, latent): of noise with the spectrum of photographs,
        each BatchNorm normalising with what arrives, so that its channels have the moments that they had in training.
        Without BatchNorms they are nothing of the kind."""
        image, label = noise(n, self.image, seed), label_batch(self.classes, n)
        made = self.outputs(image, label, training=True)[0].flatten(1)
        mean, log_variance = made[:, : self.latent], made[:, self.latent :]
        if not log_variance.numel():
            return mean
        random = torch.Generator().manual_seed(seed + APART)
        width: Tensor = (0.5 * log_variance).exp().clamp(max=WIDEST)
        return mean + width * torch.randn(mean.shape, generator=random)


def _alike(found: Tensor, z: Tensor) -> float:
    """How surely `found` goes with the latents, both (N, D), from 0 to 1: by the squared correlation of each, less that
    of chance."""
    a, b = found - found.mean(dim=0), z - z.mean(dim=0)
    squared = (a * b).sum(dim=0).square() / (a.square().sum(dim=0) * b.square().sum(dim=0)).clamp_min(1e-12)
    chance = 1.0 / max(2, len(z) - 1)
    return min(1.0, max(0.0, (float(squared.nan_to_num(0.0).mean()) - chance) / (1.0 - chance) / SURE))


def noise(n: int, image: Image, seed: int) -> Tensor:
    """Noise whose amplitudes fall with frequency as those of photographs do, its channels much alike: float32
    (n, C, H, W), in [0, 1] but for a few."""
    channels, height, width = image
    random = torch.Generator().manual_seed(seed)
    white = torch.randn(n, channels + 1, height, width, generator=random)
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0 / max(height, width)
    made: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * frequency**-FALL, s=(height, width))
    made = made / made.std()
    return 0.5 + 0.25 * (COMMON * made[:, :1] + math.sqrt(1.0 - COMMON**2) * made[:, 1:])


def read_encoders(tensors: Mapping[str, Tensor], image: Image, classes: int, latent: int) -> list[Encoder]:
    """The likeliest ways to run the encoder with the weights `tensors`, of which the last makes the mean of `latent`
    numbers or mean and variance, on images of `image`, the first with each of `SLOPES`; none where none takes them."""

    def ends(shape: tuple[int, ...]) -> float | None:
        return 0.0 if shape[0] in (latent, 2 * latent) and math.prod(shape) == shape[0] else None

    return sloped(read_companions(tensors, image, classes, partial(Encoder, latent=latent), ends, SLOPES), SLOPES)
