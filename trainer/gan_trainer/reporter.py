"""What a training tells and keeps: losses, log.jsonl, last.pt and g.pt.

Losses wait on the device until they are read, all at once, and are looked at before anything is saved: what diverged
never replaces a good checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gan_core.errors import JobError
from gan_core.fields import Json
from gan_trainer.devices import describe, versions
from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator
from gan_trainer.progress import Progress, loss_line
from gan_trainer.rundir import RunDir
from gan_trainer.state import TrainState
from gan_trainer.steps import STATS


class Reporter:
    """The reports of one run.

    numbers        the last losses that were read, by their names in `STATS`; without D only G's
    reported       the step of the last report
    saved          the step of the last saving by this process, None before the first
    saved_at       when that was, as `time.monotonic` counts
    """

    def __init__(
        self, state: TrainState, run: RunDir, per_epoch: int, device: torch.device, speed: str, progress: Progress
    ) -> None:
        self.state = state
        self.config = state.config
        self.run_dir = run
        self.per_epoch = per_epoch
        self.device = device
        self.speed = speed
        self.progress = progress
        self.numbers: dict[str, float] = {}
        self.reported = state.step
        self.saved: int | None = None
        self.saved_at = 0.0
        self._printed = -1
        self._window: list[Tensor] = []
        self._last_report = (0, 0.0)
        self._aside = 0.0

    def start(self) -> None:
        """Starts the clocks. The numbers of a run that goes on are those of its last report."""
        self.saved_at = time.monotonic()
        reported = [line for line in self.run_dir.read_log() if line["step"] == self.state.step]
        self.numbers = {name: line[name] for line in reported for name in STATS if name in line}
        self._last_report = (self.state.images, self.saved_at)

    def take(self, stats: Tensor) -> None:
        """Takes a step's `STATS`, without waiting for the device."""
        self._window.append(stats)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside is not training: it does not count in images_per_s."""
        began = time.monotonic()
        yield
        self._aside += time.monotonic() - began

    def update_progress(self) -> None:
        """Moves the bar."""
        state, limit = self.state, self.config.limit
        self.progress.update(limit.fraction(state.step, state.seconds, self.per_epoch), state.step, state.images)

    def print_losses(self) -> None:
        """The losses of this step, on the terminal."""
        self.read()
        self.progress.line(self._line())
        self._printed = self.state.step

    def report(self) -> Json:
        """One line in log.jsonl, then last.pt and g.pt: what a kill -9 cannot take back. Returns the line."""
        self.read()
        self._check_weights()
        state = self.state
        images_before, then = self._last_report
        images_per_s = (state.images - images_before) / max(time.monotonic() - then - self._aside, 1e-9)
        line = {
            "step": state.step,
            "epoch": round(state.step / self.per_epoch, 4),
            "images": state.images,
            **self.numbers,
            **state.watch.log_fields(),
            "images_per_s": round(images_per_s, 1),
            "minutes": round(state.seconds / 60, 3),
        }
        news = state.watch.news()
        self.run_dir.append_log(line)
        self.save()
        if self._printed != state.step:
            self.progress.line(self._line(), f"{images_per_s:.0f} images/s", self.progress.left)
        for text in news:
            self.progress.line(text)
        self.reported = state.step
        self._last_report = (state.images, time.monotonic())
        self._aside = 0.0
        return line

    def read(self) -> None:
        """Fetches the steps since the last reading. Raises `JobError` naming the first that is not finite."""
        if not self._window:
            return
        stats = torch.stack(self._window).cpu()
        first = self.state.step - len(stats) + 1
        self._window.clear()
        bad = (~stats.isfinite()).any(1).nonzero()
        if len(bad):
            row = int(bad[0])
            column = int((~stats[row].isfinite()).nonzero()[0])
            raise self._diverged(f"{STATS[column]} is {stats[row, column]:g} at step {first + row}")
        self.state.history.extend(stats)
        self.state.watch.steps(stats, self.config.recipe)
        self.numbers = {name: round(value, 6) for name, value in zip(STATS, stats[-1].tolist(), strict=True)}
        if not self.config.recipe.adversarial:
            self.numbers = {"loss_g": self.numbers["loss_g"]}
        self.progress.losses = self.numbers

    def save(self) -> None:
        """last.pt, then g.pt. Raises `JobError` instead for a loss or weight that is not finite."""
        self.read()
        self._check_weights()
        self.state.save(self.run_dir.last)
        self.save_generator(self.run_dir.generator)
        self.saved, self.saved_at = self.state.step, time.monotonic()

    def save_generator(self, target: Path) -> None:
        """The generator to export, to `target`."""
        state = self.state
        weights = state.exported.state_dict()
        save_generator(GeneratorCheckpoint(self.config.spec(), weights, state.which, self._provenance()), target)

    def _provenance(self) -> Json:
        config, state = self.config, self.state
        return {
            "data": {"name": config.data_name, "fingerprint": config.fingerprint, "images": config.n_images},
            "recipe": config.recipe.to_json(),
            **({} if config.init is None else {"init": config.init}),
            "seed": config.seed,
            "steps": state.step,
            "images": state.images,
            "minutes": round(state.seconds / 60, 2),
            "device": describe(self.device),
            "speed": self.speed,
            "versions": versions(),
        }

    def _check_weights(self) -> None:
        network = self.state.not_finite()
        if network is not None:
            raise self._diverged(f"the {network} holds NaN or infinite weights at step {self.state.step}")

    def _diverged(self, what: str) -> JobError:
        recipe = self.config.recipe
        rates = f"{recipe.lr_g:g}" if recipe.lr_g == recipe.lr_d else f"{recipe.lr_g:g} and {recipe.lr_d:g}"
        good = max(self.reported, self.saved or 0)
        kept = f"{self.run_dir.generator} of step {good} is kept" if good else "no checkpoint was written yet"
        return JobError(
            f"the training diverged: {what}",
            hint=f"start again with a lower `lr` (it was {rates}), a larger `batch_size` or another `preset`; {kept}",
        )

    def _line(self) -> str:
        limit = self.config.limit
        epochs = int(limit.amount) if limit.unit == "epochs" else None
        return loss_line(self.state.step, self.per_epoch, epochs, self.numbers | self.state.watch.psnr)
