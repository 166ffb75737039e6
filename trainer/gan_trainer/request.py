"""What is asked of a training, before its preset, its data or its run have decided the rest. No torch here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_trainer.config import Limit
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe

DEFAULT_PRESET = "default"
DEFAULT_EMA_BETA = 0.999


@dataclass(frozen=True)
class Request:
    """A training as asked for; None where the preset, the data or the resumed run decide."""

    data: str | None = None
    preset: str | None = None
    arch: str | None = None
    size: int | None = None
    channels: int | None = None
    width: int | None = None
    z_dim: int | None = None
    conditional: bool | None = None
    batch_size: int | None = None
    lr: float | None = None
    lr_d: float | None = None
    n_critic: int | None = None
    penalty_weight: float | None = None
    penalty_every: int | None = None
    augment: str | None = None
    ema: bool | None = None
    seed: int | None = None
    limit: Limit | None = None
    report_every: int | None = None
    sample_every: int | None = None
    out: Path | None = None
    resume: bool = False
    root: Path | None = None
    device: str = "auto"
    ngpu: int = 1
    tensorboard: bool = False
    amp: str = "auto"
    compiled: str = "auto"
    cuda_graphs: bool = True

    def recipe(self, channels: int | None = None) -> Recipe:
        """The preset with everything that was asked for in its place, for images of `channels` where that is known.

        Raises `GanportError` for values out of range.
        """
        recipe = preset(self.preset or DEFAULT_PRESET, self.channels or channels).override(
            arch=self.arch, size=self.size, channels=self.channels, width=self.width, z_dim=self.z_dim,
            conditional=self.conditional, batch_size=self.batch_size, lr_g=self.lr,
            lr_d=self.lr if self.lr_d is None else self.lr_d, n_critic=self.n_critic, augment=self.augment,
            penalty_weight=self.penalty_weight, penalty_every=self.penalty_every,
            report_every=self.report_every, sample_every=self.sample_every,
        )  # fmt: skip
        if self.ema is None or self.ema == (recipe.ema_beta is not None):
            return recipe
        return dataclasses.replace(recipe, ema_beta=DEFAULT_EMA_BETA if self.ema else None)

    def kept(self) -> dict[str, Any]:
        """The settings that a resumed run must share, under their option names."""
        names = (
            "preset", "arch", "size", "channels", "width", "z_dim", "conditional", "batch_size", "lr", "lr_d",
            "n_critic", "penalty_weight", "penalty_every", "augment", "ema", "seed",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}
