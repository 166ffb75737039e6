"""A discriminator, read from its weights: what it says of images, whoever generated them.

It does not know: skips, attention and minibatch statistics (`gan_export.hypotheses.companion`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_export.hypotheses.companion import NUMBERS, Companion, Image, read_companions, remembered, sloped
from gan_export.understanding.units import units_of

SLOPES: dict[float | str, float] = {
    0.2: 0.0, 0.0: 2.0, 0.01: 2.0, 0.1: 3.0, 0.05: 4.0, 0.3: 4.0, "elu": 4.5, "selu": 4.5, "gelu": 4.5,
}  # fmt: skip
"""Of the LeakyReLU that people give a discriminator (0 is ReLU), other activations, and their costs in nats."""
PATCHES, MOST_PATCHES = 1.5, 1024
"""What a verdict on each of several places costs, and on how many there may be one."""
MOST_CLASSES = 100


@dataclass(frozen=True)
class Discriminator(Companion):
    """One way to run a discriminator on images of one shape."""

    name = "the discriminator"

    def logits(self, image_NCHW: Tensor, label: Tensor | None = None) -> tuple[Tensor, list[float]]:
        """(its verdict on each image, float (N,), before any sigmoid; how far each BatchNorm's running statistics lie
        from these images, in nats)."""
        x, misfits = self.outputs(image_NCHW, label)
        return x.flatten(1).mean(dim=1), misfits

    def says(self, image_NCHW: Tensor, label: Tensor | None, _z: Tensor, /) -> Tensor:
        """How far from undecided the middle verdict is, how far apart they lie, how far its BatchNorms' memory is from
        these images, and the first by the second."""
        logits, misfits = self.logits(image_NCHW, label)
        low, middle, high = logits.float().quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        spread = high - low + 0.05
        numbers = torch.zeros(NUMBERS)
        numbers[:4] = torch.tensor(
            (
                math.log1p(abs(middle)),
                math.log(spread),
                remembered(misfits),
                math.log1p(min(abs(middle) / spread, 20)),
            )
        )
        return numbers.nan_to_num(20.0, 20.0, -20.0)


def read_discriminators(tensors: Mapping[str, Tensor], image: Image, classes: int) -> list[Discriminator]:
    """The likeliest ways to run the discriminator with the weights `tensors` on images of `image`, the first with each
    of `SLOPES`; none where none takes them."""
    return sloped(read_companions(tensors, image, classes, Discriminator, _verdict, SLOPES), SLOPES)


def _verdict(shape: tuple[int, ...]) -> float | None:
    if shape[0] != 1 or math.prod(shape) > MOST_PATCHES:
        return None
    return PATCHES if math.prod(shape) > 1 else 0.0


def label_beside(discriminator: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> int:
    """Classes of a one-hot label that a discriminator of flat images takes beside them, from what its first layer takes
    and the generator's last one makes; 0 where it shows none."""
    if any(unit.kind == "embedding" for unit in units_of(discriminator)):
        return 0
    takes = next((tensor.shape[1] for tensor in discriminator.values() if tensor.dim() in (2, 4)), 0)
    makes = [tensor for tensor in generator.values() if tensor.dim() in (2, 4)]
    if not makes or makes[-1].dim() != 2:
        return 0
    beside = int(takes) - int(makes[-1].shape[0])
    return beside if 1 < beside <= MOST_CLASSES else 0
