"""The training loop: steps, reports, samples, and an end that is always saved.

for step: batch, latents → train_step → EMA       (nothing waits for the device)
print:    the step's losses on the terminal
report:   losses checked for NaN, weights too; log.jsonl, last.pt, g.pt
save:     last.pt and g.pt alone, where reports are more than a minute apart
sample:   the fixed latents drawn with the weights that g.pt would hold
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import gan_serve
from gan_serve.errors import JobError
from gan_serve.images import to_pixels
from gan_trainer import pictures
from gan_trainer.batches import Batches
from gan_trainer.checkpoint import GeneratorCheckpoint, save_generator
from gan_trainer.devices import describe, parallel, send
from gan_trainer.distributed import Peers
from gan_trainer.graphs import CudaRecorder, GraphedStep, Step
from gan_trainer.noise import draw_noise
from gan_trainer.progress import Progress, loss_line
from gan_trainer.rundir import RunDir
from gan_trainer.speed import PLAIN, Speed, as_called, lay_out
from gan_trainer.state import TrainState
from gan_trainer.steps import STATS, train_step
from gan_trainer.stop import StopRequest
from gan_trainer.tensorboard import Board
from gan_trainer.watch import data_diversity, diversity

PICTURE_SHARE = 0.05
"""Redrawing losses.png, progress.webp and real_vs_fake.png while training may take this share of the time."""


SIGNAL_GRACE_S = 5.0
"""In a distributed job, further signals within this time count for the first."""

SAVE_EVERY_S = 60.0
"""A kill -9 costs at most this time, on machines where a report takes long to come."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended. `numbers` are the last step's losses (empty when no step was made)."""

    step: int
    images: int
    minutes: float
    numbers: dict[str, float]
    interrupted: bool


class Training:
    """One run, from its state to its end. The state, the run's folder and the data belong to it while it runs."""

    def __init__(
        self,
        state: TrainState,
        pixels_NHWC: npt.NDArray[np.uint8],
        run: RunDir,
        device: torch.device,
        *,
        labels: npt.NDArray[np.int64] | None = None,
        ngpu: int = 1,
        speed: Speed = PLAIN,
        progress: Progress | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.state = state
        self.config = state.config
        self.recipe = state.config.recipe
        self.run_dir = run
        self.device = device
        labels = labels if self.recipe.conditional else None
        self.speed = speed
        self.batches = Batches(
            pixels_NHWC, self.recipe.batch_size, self.config.seed, device, labels=labels,
            channels_last=speed.channels_last and self.recipe.arch != "mlp",
        )  # fmt: skip
        self.progress = progress or Progress()
        self.peers = peers or Peers()
        lay_out(state.generator, state.optimizer_g, speed)
        lay_out(state.discriminator, state.optimizer_d, speed)
        if state.ema is not None:
            lay_out(state.ema.module, None, speed)
        self.G = as_called(self.peers.wrap(parallel(state.generator, ngpu), device), speed, device)
        self.D = as_called(self.peers.wrap(parallel(state.discriminator, ngpu), device), speed, device)
        self._graphed = speed.cuda_graphs
        self._steps: dict[tuple[bool, bool], Step] = {}
        self.board: Board | None = None
        self.numbers: dict[str, float] = {}
        self._window: list[Tensor] = []
        self._began = 0.0
        self._last_report = (0, 0.0)
        self._reported = state.step
        self._printed = -1
        self._saved: int | None = None
        self._saved_at = 0.0
        self._aside = 0.0
        self._picture_seconds = self._picture_cost = 0.0

    def run(self) -> Outcome:
        """Trains up to the limit, or until Ctrl-C or SIGTERM.

        Raises `JobError` when the training diverges, `GanportError` when the disk refuses; the last good g.pt and
        last.pt are then still there.
        """
        try:
            with StopRequest(SIGNAL_GRACE_S if self.peers.joined else 0.0) as stop:
                if self.peers.leads:
                    self._start()
                while (ends := self.peers.agree(stop.requested, self.reached)) == (False, False):
                    self._step()
                    if self.peers.leads:
                        self._after_step()
                interrupted, _ = ends
                if self.peers.leads:
                    self._end(interrupted)
        finally:
            self.progress.close()
            if self.board is not None:
                self.board.close()
        return Outcome(self.state.step, self.state.images, self.state.seconds / 60, self.numbers, interrupted)

    @property
    def reached(self) -> bool:
        """Whether the limit is reached."""
        return self.config.limit.reached(self.state.step, self.state.seconds, self.batches.per_epoch)

    def _start(self) -> None:
        now = time.monotonic()
        self._began = now - self.state.seconds
        self._saved_at = now
        self._last_report = (self.state.images, now)
        if self.state.step == 0:
            self.state.save(self.run_dir.last)
            self._regular_sample()

    def _end(self, interrupted: bool) -> None:
        """Saves. An interruption adds no line to the log and no sample: the resumed run's are as if it never was."""
        step = self.state.step
        if step and not interrupted and self._reported != step:
            self._report()
        if step and self._saved != step:
            self._save()
        if not interrupted and not self.run_dir.sample(step).exists():
            self._sample()
        self._draw_pictures()

    def _step(self) -> None:
        state, recipe = self.state, self.recipe
        n = len(self.batches.indices(state.step))
        part = self.peers.share(n)
        real_NCHW = self.batches(state.step, part)
        noise = send(draw_noise(recipe, n, state.z_rng)[part], self.device)
        train = self._step_of_kind(recipe.trains_g(state.step), recipe.penalises(state.step))
        stats = train(real_NCHW, noise, self.batches.labels(state.step, part))
        stats = self.peers.mean(stats)
        if self.peers.leads:
            if state.ema is not None and recipe.trains_g(state.step):
                state.ema.update(state.generator, state.step // recipe.n_critic)
            self._window.append(stats)
        state.step += 1
        state.images += n
        state.seconds = time.monotonic() - self._began

    def _step_of_kind(self, train_g: bool, penalise: bool) -> Step:
        """Steps that train G or not, with the penalty or without: each kind is a CUDA graph of its own."""
        kind = (train_g, penalise)
        if kind not in self._steps:
            step: Step = partial(self._train_step, train_g, penalise)
            self._steps[kind] = GraphedStep(step, CudaRecorder(self.device)) if self._graphed else step
        return self._steps[kind]

    def _train_step(
        self, train_g: bool, penalise: bool, real_NCHW: Tensor, noise: Tensor, label: Tensor | None
    ) -> Tensor:
        state = self.state
        return train_step(
            self.G, self.D, state.optimizer_g, state.optimizer_d, real_NCHW, noise,
            recipe=self.recipe, label=label, train_g=train_g, penalise=penalise,
        )  # fmt: skip

    def _after_step(self) -> None:
        step, recipe = self.state.step, self.recipe
        limit = self.config.limit
        self.progress.update(limit.fraction(step, self.state.seconds, self.batches.per_epoch), step, self.state.images)
        epoch_ends = recipe.checkpoint_every_epoch and step % self.batches.per_epoch == 0
        if step % recipe.sample_every == 0:
            self._regular_sample()
        if step % recipe.report_every == 0 or epoch_ends:
            self._report()
            if epoch_ends:
                self._save_generator(self.run_dir.epoch_checkpoint(step // self.batches.per_epoch))
        elif recipe.print_every and step % recipe.print_every == 0:
            self._read_losses()
            self.progress.line(self._line())
            self._printed = step
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self._save()
        if step % recipe.sample_every == 0 and (
            self._picture_seconds + self._picture_cost <= PICTURE_SHARE * self.state.seconds
        ):
            began = time.monotonic()
            self._draw_pictures()
            self._aside += time.monotonic() - began

    def _report(self) -> None:
        """One line in log.jsonl, then last.pt and g.pt: what a kill -9 cannot take back."""
        self._read_losses()
        self._check_weights()
        state = self.state
        images_before, then = self._last_report
        images_per_s = (state.images - images_before) / max(time.monotonic() - then - self._aside, 1e-9)
        line = {
            "step": state.step,
            "epoch": round(state.step / self.batches.per_epoch, 4),
            "images": state.images,
            **self.numbers,
            **state.watch.log_fields(),
            "images_per_s": round(images_per_s, 1),
            "minutes": round(state.seconds / 60, 3),
        }
        self.run_dir.append_log(line)
        if self.board is not None:
            self.board.report(line)
        self._save()
        if self._printed != state.step:
            self.progress.line(f"{self._line()}  {images_per_s:.0f} images/s")
        for text in state.watch.news():
            self.progress.line(text)
        self._reported = state.step
        self._last_report = (state.images, time.monotonic())
        self._aside = 0.0

    def _read_losses(self) -> None:
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
        self.state.watch.steps(stats, self.recipe)
        self.numbers = {name: round(value, 6) for name, value in zip(STATS, stats[-1].tolist(), strict=True)}

    def _check_weights(self) -> None:
        network = self.state.not_finite()
        if network is not None:
            raise self._diverged(f"the {network} holds NaN or infinite weights at step {self.state.step}")

    def _diverged(self, what: str) -> JobError:
        recipe = self.recipe
        rates = f"{recipe.lr_g:g}" if recipe.lr_g == recipe.lr_d else f"{recipe.lr_g:g} and {recipe.lr_d:g}"
        good = max(self._reported, self._saved or 0)
        kept = f"{self.run_dir.generator} of step {good} is kept" if good else "no checkpoint was written yet"
        return JobError(
            f"the training diverged: {what}",
            hint=f"start again with a lower --lr (it was {rates}), a larger --batch-size or another --preset; {kept}",
        )

    def _save(self) -> None:
        self._read_losses()
        self._check_weights()
        self.state.save(self.run_dir.last)
        self._save_generator(self.run_dir.generator)
        self._saved, self._saved_at = self.state.step, time.monotonic()

    def _save_generator(self, target: Path) -> None:
        state = self.state
        weights = state.exported.state_dict()
        save_generator(GeneratorCheckpoint(self.config.spec(), weights, state.which, self._provenance()), target)

    def _provenance(self) -> dict[str, Any]:
        config, state = self.config, self.state
        return {
            "data": {"name": config.data_name, "fingerprint": config.fingerprint, "images": config.n_images},
            "recipe": config.recipe.to_json(),
            "seed": config.seed,
            "steps": state.step,
            "images": state.images,
            "minutes": round(state.seconds / 60, 2),
            "device": describe(self.device),
            "speed": self.speed.describe(),
            "versions": {
                "ganport": gan_serve.__version__, "torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }  # fmt: skip

    def _line(self) -> str:
        limit = self.config.limit
        epochs = int(limit.amount) if limit.unit == "epochs" else None
        return loss_line(self.state.step, self.batches.per_epoch, epochs, self.numbers)

    @cached_property
    def _data_diversity(self) -> float | None:
        return data_diversity(self.batches)

    def _regular_sample(self) -> None:
        """A sample of every `sample_every` steps: its diversity is watched. Before the report of its step, so that
        last.pt knows of it.
        """
        began = time.monotonic()
        self._read_losses()
        images_NCHW = self._sample()
        n_classes, cols = self.config.n_classes, self.recipe.cols
        classes = torch.arange(len(images_NCHW)) // cols if n_classes else None
        self.state.watch.sample(self.state.step, diversity(images_NCHW, classes), self._data_diversity)
        self._aside += time.monotonic() - began

    def _sample(self) -> Tensor:
        images_NCHW = pictures.draw_fixed(self.state.exported, self.recipe.n_fixed, self.recipe.cols)
        target = self.run_dir.sample(self.state.step)
        pictures.save_samples(images_NCHW, target, self.recipe.cols, self.recipe.grid)
        if self.board is not None:
            self.board.sample(self.state.step, target)
        return images_NCHW

    def _draw_pictures(self) -> None:
        """losses.png, progress.webp and real_vs_fake.png anew."""
        began = time.monotonic()
        self._read_losses()
        run, state = self.run_dir, self.state
        if state.step:
            pictures.plot_losses(state.history, run.losses)
        pictures.animate(run.sample_files(), run.progress)
        n = min(64, len(self.batches.pixels_NHWC))
        reals_NHWC = self.batches.pixels_NHWC[np.sort(self.batches.order(0)[:n].numpy())]
        fakes_NHWC = to_pixels(pictures.draw_seeds(state.exported, range(n)).numpy())
        pictures.compare(reals_NHWC, fakes_NHWC, run.real_vs_fake)
        self._picture_cost = time.monotonic() - began
        self._picture_seconds += self._picture_cost
