"""A run's pictures while it trains: the fixed latents, their diversity watched, and what is drawn anew from them."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_core.images import to_pixels
from gan_trainer import pictures
from gan_trainer.batches import Batches
from gan_trainer.rundir import RunDir
from gan_trainer.state import TrainState
from gan_trainer.watch import data_diversity, diversity

PICTURE_SHARE = 0.05
"""Redrawing losses.png, progress.webp and real_vs_fake.png while training may take this share of the time."""


class Gallery:
    """The pictures of one run, drawn with the weights that g.pt would hold."""

    def __init__(self, state: TrainState, run: RunDir, batches: Batches) -> None:
        self.state = state
        self.recipe = state.config.recipe
        self.run_dir = run
        self.batches = batches
        self._seconds = self._cost = 0.0

    def watched_sample(self) -> Path:
        """A sample of every `sample_every` steps: `Watch` takes its diversity. The losses so far must have been read.

        It comes before the report of its step, so that last.pt knows of it.
        """
        target, images_NCHW = self._draw()
        n_classes, cols = self.state.config.n_classes, self.recipe.cols
        classes = torch.arange(len(images_NCHW)) // cols if n_classes else None
        self.state.watch.sample(self.state.step, diversity(images_NCHW, classes), self._data_diversity)
        return target

    def last_sample(self) -> Path | None:
        """The sample of the last step, where there is none yet. It is not watched: a longer run would not have it."""
        return None if self.run_dir.sample(self.state.step).exists() else self._draw()[0]

    @property
    def affordable(self) -> bool:
        """Whether `redraw` would stay within its share of the time."""
        return self._seconds + self._cost <= PICTURE_SHARE * self.state.seconds

    def redraw(self) -> None:
        """losses.png, progress.webp and real_vs_fake.png anew."""
        began = time.monotonic()
        run, state = self.run_dir, self.state
        if state.step:
            pictures.plot_losses(state.history, run.losses, self.recipe.loss)
        pictures.animate(run.sample_files(), run.progress)
        shown = np.sort(self.batches.order(0)[:64].numpy())
        classes = None
        if (labels := self.batches.all_labels) is not None:  # by class, a fake of its class for each real
            shown = shown[np.argsort(labels.numpy()[shown], kind="stable")]
            classes = labels.numpy()[shown].tolist()
        fakes_NHWC = to_pixels(pictures.draw_seeds(state.exported, range(len(shown)), classes).numpy())
        pictures.compare(self.batches.pixels_NHWC[shown], fakes_NHWC, run.real_vs_fake)
        self._cost = time.monotonic() - began
        self._seconds += self._cost

    def _draw(self) -> tuple[Path, Tensor]:
        images_NCHW = pictures.draw_fixed(self.state.exported, self.recipe.n_fixed, self.recipe.cols)
        target = self.run_dir.sample(self.state.step)
        pictures.save_samples(images_NCHW, target, self.recipe.cols, self.recipe.grid)
        return target, images_NCHW

    @cached_property
    def _data_diversity(self) -> float | None:
        return data_diversity(self.batches)
