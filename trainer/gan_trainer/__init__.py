"""Trains GANs: images → checkpoint. `train` is the front door; nothing heavy is imported before it is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from gan_trainer.settings import Settings

__all__ = ["Trained", "train"]

OnProgress = Callable[[float, int, Mapping[str, float]], None]
"""Takes the fraction of a training that is done, in [0, 1], the steps made, and the losses that were read last."""


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    run          the run's folder: samples, curves, log, and last.pt, which `resume=True` goes on from
    checkpoint   the generator, run/g.pt: what `gan_export.export` takes
    steps        made in all, resumed parts included
    images       seen in all
    minutes      trained in all
    losses       of the last step: loss_d and loss_g; d_x, d_g_z1 and d_g_z2, what D says of real images, and of
                 generated ones before and after its step. Empty where no step was made
    interrupted  whether it was stopped before its end (by Ctrl-C, or a notebook's stop button), and saved
    """

    run: Path
    checkpoint: Path
    steps: int
    images: int
    minutes: float
    losses: Mapping[str, float]
    interrupted: bool


def train(
    *,
    config: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[Settings],
) -> Trained:
    """Trains a GAN on images, writes its run's folder, and says where that is and how it ended.

    settings     see `gan_trainer.settings.Settings`: `data`, `preset`, `steps`, `out` …; one that is left out is the
                 preset's, or the default
    config       a file of settings, such as the run.yaml of an earlier run, or that run's folder; `settings` override
                 what stands in it
    on_progress  called after every step. Without it, a notebook that has tqdm shows a bar

    Nothing is printed: what there is to say is logged, by the logger "gan_trainer". Raises `GanportError`, before
    anything is written, for settings or data that cannot be trained with, and `JobError` when the training fails.

        >>> done = train(data="digits", steps=20, width=4, out="runs/first")
        >>> print(done.steps, done.checkpoint.name)
        20 g.pt
    """
    from gan_trainer import session
    from gan_trainer.config import TrainRequest
    from gan_trainer.progress import Told
    from gan_trainer.settings import merged
    from gan_trainer.settings_file import load_settings

    asked = settings if config is None else merged(load_settings(Path(config)), settings)
    run, outcome = session.train(TrainRequest.of(asked), Told(on_progress))
    return Trained(
        run.path, run.generator, outcome.step, outcome.images, outcome.minutes, outcome.numbers, outcome.interrupted
    )
