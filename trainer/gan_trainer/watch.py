"""Notices what goes wrong without a NaN: D too strong for long, and images that become all alike.

D too strong   its loss, averaged over about `MEMORY` steps, stays below `STRONG` of what it is by chance
               (`gan_trainer.losses.CHANCE`) for `STRONG_STEPS` steps: D tells real from fake without error, and G
               learns little from it. The Wasserstein loss has no such scale: it is left out
collapse       the diversity of the fixed samples lies below `COLLAPSED` of the data's in two samples in a row, after
               it was twice that, or after `PATIENCE` steps

Diversity is the mean distance between two images, root mean square over pixels, two images of the same class where
there are classes. It is measured when a sample picture is drawn anyway, losses when they are read anyway: nothing here
waits for the device. What it holds is a function of the steps and of the regular samples alone, so a resumed run
notices what an unbroken one does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_trainer.batches import Batches
from gan_trainer.losses import CHANCE
from gan_trainer.recipes import Recipe

MEMORY = 100
STRONG = 0.05
STRONG_STEPS = 500
COLLAPSED = 0.3
PATIENCE = 2000
DATA_IMAGES = 512

HINTS = {
    "d_too_strong": (
        f"D has told real from fake without error for {STRONG_STEPS} steps: G learns little from it",
        'a lower `lr_d`, `augment="translation"` or auto, or `preset="r3gan"`',
    ),
    "collapse": (
        "the samples have become alike: G generates only a few of the kinds of images in the data",
        'look at samples/; a lower `lr`, a larger `batch_size`, or `preset="r3gan"`',
    ),
}
"""What is said once for each thing noticed, and the hint with it."""


class Watch:
    """`diversity` is that of the last sample as a share of the data's (1: as diverse), None where unknown. `psnr` has
    what an upscaler was last measured at, and what bicubic interpolation is."""

    def __init__(self) -> None:
        self.loss_d: float | None = None
        self.strong_steps = 0
        self.diversity: float | None = None
        self.best = 0.0
        self.low_samples = 0
        self.late = False
        self.said: list[str] = []
        self.psnr: dict[str, float] = {}

    def steps(self, stats: Tensor, recipe: Recipe) -> None:
        """Takes the numbers of some steps, float32 (n, 5) on the CPU, in order."""
        chance = CHANCE.get(recipe.loss)
        if chance is None or not recipe.adversarial:
            return
        threshold = STRONG * chance / (2 if recipe.d_loss == "mean" else 1)
        for loss in stats[:, 0].tolist():
            self.loss_d = loss if self.loss_d is None else self.loss_d + (loss - self.loss_d) / MEMORY
            self.strong_steps = self.strong_steps + 1 if self.loss_d < threshold else 0

    def sample(self, step: int, images_diversity: float | None, data_diversity: float | None) -> None:
        """Takes the diversity of a regular sample, drawn at `step`."""
        if not self.tell(images_diversity, data_diversity) or self.diversity is None:
            return
        self.best = max(self.best, self.diversity)
        self.late = step >= PATIENCE
        self.low_samples = self.low_samples + 1 if self.diversity < COLLAPSED else 0

    def tell(self, images_diversity: float | None, data_diversity: float | None) -> bool:
        """Takes the diversity of any sample, for the log. Returns whether there is one."""
        if images_diversity is None or not data_diversity:
            return False
        self.diversity = images_diversity / data_diversity
        return True

    @property
    def noticed(self) -> list[str]:
        """Keys of `HINTS`: what is the case now."""
        found = []
        if self.strong_steps >= STRONG_STEPS:
            found.append("d_too_strong")
        if self.low_samples >= 2 and (self.best >= 2 * COLLAPSED or self.late):
            found.append("collapse")
        return found

    def log_fields(self) -> dict[str, Any]:
        """What a line of log.jsonl tells: the diversity, and what was noticed, where there is something."""
        fields: dict[str, Any] = {**self.psnr}
        if self.diversity is not None:
            fields["diversity"] = round(self.diversity, 4)
        if self.noticed:
            fields["noticed"] = self.noticed
        return fields

    def news(self) -> list[str]:
        """The lines to say about what was noticed: each thing once in a run, resumed or not."""
        lines = []
        for key in self.noticed:
            if key not in self.said:
                self.said.append(key)
                text, hint = HINTS[key]
                lines += [f"warning: {text}", f"hint: {hint}"]
        return lines

    def state_dict(self) -> dict[str, Any]:
        return vars(self) | {"said": [*self.said]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def data_diversity(batches: Batches) -> float | None:
    """The diversity of some real images."""
    some = batches.order(0)[:DATA_IMAGES]
    pixels_NHWC = torch.from_numpy(batches.pixels_NHWC[some.numpy()])
    return diversity(pixels_NHWC / 127.5, None if batches.all_labels is None else batches.all_labels[some])


def diversity(images: Tensor, classes: Tensor | None = None) -> float | None:
    """Mean root-mean-square distance between pairs of images, float (n, …), on the CPU; of the same class, int64 (n,).

    None when there is no such pair.
    """
    flat = images.flatten(1)
    distances = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    pairs = torch.ones(len(flat), len(flat), dtype=torch.bool).triu(1)
    if classes is not None:
        pairs &= classes[:, None] == classes
    return float(distances[pairs].mean()) if bool(pairs.any()) else None
