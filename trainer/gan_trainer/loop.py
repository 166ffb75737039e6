"""The training loop: steps, reports, samples, and an end that is always saved.

for step: batch, latents → train_step → EMA       (nothing waits for the device)
print:    the step's losses on the terminal
report:   losses checked for NaN, weights too; log.jsonl, last.pt, g.pt
save:     last.pt and g.pt alone, where reports are more than a minute apart
sample:   the fixed latents drawn with the weights that g.pt would hold

Here is what a step does and when the rest is due; `gan_trainer.reporter` and `gan_trainer.pictures` do the rest.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from gan_core.arrays import I64, U8
from gan_trainer.batches import Batches
from gan_trainer.boards import Boards
from gan_trainer.devices import parallel, send
from gan_trainer.distributed import Peers
from gan_trainer.pictures import Gallery, UpscalerGallery
from gan_trainer.progress import Progress
from gan_trainer.reporter import Reporter
from gan_trainer.rundir import RunDir
from gan_trainer.speed import PLAIN, CudaRecorder, GraphedStep, Speed, Step, as_called, folded, lay_out, settle
from gan_trainer.state import TrainState
from gan_trainer.steps import draw_noise, train_step
from gan_trainer.winograd import with_winograd

SAVE_EVERY_S = 60.0
"""A kill -9 costs at most this time, on machines where a report takes long to come."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

GRACE_S = 5.0
"""In a job of several processes, further signals within this time count for the first."""


class StopRequest:
    """While the context is open, the first signal sets `requested`; a second one raises KeyboardInterrupt at once.

    `job`: one of several processes. A second signal soon after the first counts for the same: a scheduler may signal
    torchrun and its processes both, and torchrun passes its own on. And when an error leaves the context, SIGTERM is
    ignored from there on: torchrun sends it as soon as another process has ended, and would silence what this one is
    about to say of it.

    A signal that is ignored stays so: SIGHUP under nohup. Outside the main thread, where Python takes no signals, it
    only carries the flag, to be set by hand.
    """

    def __init__(self, *, job: bool = False) -> None:
        self.requested = False
        self._job = job
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            silencing = self._job and isinstance(error, Exception) and number == signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if silencing else handler)
        self._before.clear()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and not (self._job and now - self._first < GRACE_S):
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._first = True, now


@dataclass(frozen=True)
class Outcome:
    """How a training ended. `numbers` are the last step's losses (empty when no step was made, or none since
    an interruption).
    """

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
        pixels_NHWC: U8,
        run: RunDir,
        device: torch.device,
        *,
        labels: I64 | None = None,
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
        self.peers = peers or Peers()
        d_has_winograd = speed.winograd and self.recipe.penalty == "none"  # a penalty has gradients of gradients
        if speed.bf16 is None and state.bf16 is not None:  # goes on as it began
            speed = speed.decided(state.bf16)
        elif self.recipe.adversarial:
            n = min(self.recipe.batch_size, len(pixels_NHWC))
            shape, classes = (n, *state.config.spec().interface.image), self.recipe.conditional
            speed = self.peers.said(
                lambda: settle(speed, state.discriminator, shape, classes=classes, winograd=d_has_winograd)
            )
        self.speed, state.bf16 = speed, speed.bf16
        labels = labels if self.recipe.conditional else None
        self.batches = Batches(
            pixels_NHWC, self.recipe.batch_size, self.config.seed, device, labels=labels, left_out=self.config.left_out,
            channels_last=speed.channels_last and self.recipe.arch != "mlp",
        )  # fmt: skip
        progress = progress or Progress()
        self.reporter = Reporter(state, run, self.batches.per_epoch, device, speed.describe(), progress)
        self.gallery = (Gallery if self.recipe.task == "generate" else UpscalerGallery)(state, run, self.batches)
        self.boards: Boards | None = None
        lay_out(state.generator, state.optimizer_g, speed)
        lay_out(state.discriminator, state.optimizer_d, speed)
        if state.ema is not None:
            lay_out(state.ema.module, None, speed)
        generator, discriminator = folded(state.generator, winograd=speed.winograd), state.discriminator
        if speed.winograd and d_has_winograd:
            discriminator = with_winograd(discriminator)
        self.G = as_called(self.peers.wrap(parallel(generator, ngpu), device), speed, device)
        self.D = as_called(self.peers.wrap(parallel(discriminator, ngpu), device), speed, device)
        self._steps: dict[tuple[bool, bool], Step] = {}
        self._began = 0.0

    def run(self) -> Outcome:
        """Trains up to the limit, or until Ctrl-C or SIGTERM.

        Raises `JobError` when the training diverges, `GanportError` when the disk refuses; the last good g.pt and
        last.pt are then still there.
        """
        state = self.state
        self._began = time.monotonic() - state.seconds
        try:
            with StopRequest(job=self.peers.joined) as stop:
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
            self.reporter.progress.close()
            if self.boards is not None:
                self.boards.close()
        return Outcome(state.step, state.images, state.seconds / 60, self.reporter.numbers, interrupted)

    @property
    def reached(self) -> bool:
        """Whether the limit is reached."""
        return self.config.limit.fraction(self.state.step, self.state.seconds, self.batches.per_epoch) >= 1

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
            self.reporter.take(stats)
        state.step += 1
        state.images += n
        state.seconds = time.monotonic() - self._began

    def _step_of_kind(self, train_g: bool, penalise: bool) -> Step:
        """Steps that train G or not, with the penalty or without: each kind is a CUDA graph of its own."""
        kind = (train_g, penalise)
        if kind not in self._steps:
            step = self.plain_step(train_g, penalise)
            self._steps[kind] = GraphedStep(step, CudaRecorder(self.device)) if self.speed.cuda_graphs else step
        return self._steps[kind]

    def plain_step(self, train_g: bool, penalise: bool) -> Step:
        """A step as it is computed without a graph."""
        state = self.state
        return partial(
            train_step, self.G, self.D, state.optimizer_g, state.optimizer_d,
            recipe=self.recipe, train_g=train_g, penalise=penalise,
        )  # fmt: skip

    def _start(self) -> None:
        self.reporter.start()
        if self.state.step == 0:
            self.state.save(self.run_dir.last)
            self._sample()

    def _after_step(self) -> None:
        """What is due after this step. The sample comes first: the report's last.pt knows of it."""
        step, recipe = self.state.step, self.recipe
        self.reporter.update_progress()
        sample_due = step % recipe.sample_every == 0
        epoch_ends = recipe.checkpoint_every_epoch and step % self.batches.per_epoch == 0
        if sample_due:
            self._sample()
        elif self.config.films and self.gallery.frame_due:
            with self.reporter.aside():
                self._show(self.gallery.frame())
        if step % recipe.report_every == 0 or epoch_ends:
            self._report()
        elif recipe.print_every and step % recipe.print_every == 0:
            self.reporter.print_losses()
        if epoch_ends:
            self.reporter.save_generator(self.run_dir.epoch_checkpoint(step // self.batches.per_epoch))
        if time.monotonic() - self.reporter.saved_at >= SAVE_EVERY_S:
            with self.reporter.aside():
                self.reporter.save()
        if sample_due and self.gallery.affordable:
            self._draw_pictures()

    def _end(self, interrupted: bool) -> None:
        """Saves. An interruption adds no line to the log and no sample: the resumed run's are as if it never was."""
        step = self.state.step
        if step and not interrupted and self.reporter.reported != step:
            self._report()
        if step and self.reporter.saved != step:
            self.reporter.save()
        if not interrupted:
            self._show(self.gallery.last_sample())
        self._draw_pictures()

    def _report(self) -> None:
        line = self.reporter.report()
        if self.boards is not None:
            self.boards.report(line)

    def _sample(self) -> None:
        with self.reporter.aside():
            self.reporter.read()
            self._show(self.gallery.watched_sample())

    def _show(self, sample: Path | None) -> None:
        if self.boards is not None and sample is not None:
            self.boards.sample(self.state.step, sample)

    def _draw_pictures(self) -> None:
        with self.reporter.aside():
            self.reporter.read()
            self.gallery.redraw()
