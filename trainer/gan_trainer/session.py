"""From what was asked for to a run that can start: data, configuration, folder, device, state.

Everything is checked before anything is written, and the cheap checks come before the data are decoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.image_input import CHANNELS_IN_WORDS
from gan_core.interface import number_classes
from gan_core.pictures import Track, untracked
from gan_trainer.boards import Boards, parse_boards
from gan_trainer.config import FREE, Limit, RunConfig, TrainRequest
from gan_trainer.data import ImageDataset, check_large_enough, check_still_there, open_dataset
from gan_trainer.devices import describe, resolve
from gan_trainer.distributed import Peers
from gan_trainer.loop import Outcome, Training
from gan_trainer.presets import TUTORIALS
from gan_trainer.progress import Progress
from gan_trainer.recipes import Recipe
from gan_trainer.rundir import FollowedRun, RunDir, default_name, newest, next_free
from gan_trainer.settings import DEFAULT_DATA
from gan_trainer.settings_file import dump_settings
from gan_trainer.speed import Speed, choose
from gan_trainer.start import Start
from gan_trainer.state import TrainState, read_last

RUNS = Path("runs")

log = logging.getLogger(__name__)


def train(
    request: TrainRequest, progress: Progress | None = None, peers: Peers | None = None, track: Track = untracked
) -> tuple[RunDir, Outcome]:
    """Trains as asked, from the start or from where a run stopped. Returns the run's folder and how it ended.

    Every process of a distributed job calls it, with the `peers` it has joined. A job that torchrun has restarted goes
    on with its run. `progress` and `track` show how far it is. Raises `GanportError` for input that cannot be trained
    with, `JobError` when the training fails.
    """
    check_packages()
    parse_boards(request.log)
    peers = peers or Peers()
    device = resolve(request.device, request.ngpu, peers.local_rank if peers.joined else None)
    if peers.restarted_run is not None:
        request = dataclasses.replace(request, resume=True, out=peers.restarted_run)
    with torch.random.fork_rng(devices=[]), explain_memory(), threads(request.threads):
        job = _Job(request, device, progress or Progress(), peers, track)
        return job.resumed() if request.resume else job.fresh()


@dataclass(frozen=True)
class _Job:
    """A training, as one of its processes sees it."""

    request: TrainRequest
    device: torch.device
    progress: Progress
    peers: Peers
    track: Track

    def fresh(self) -> tuple[RunDir, Outcome]:
        request, peers = self.request, self.peers
        start = None if request.init is None else Start.read(request.init)
        request = request if start is None else start.networks_for(request)
        recipe = request.recipe()
        if request.out is not None:
            self._run_dir(request.out).check_free()
        data = self._begun_on()
        dataset = peers.in_turn(lambda: self._open(data, recipe))
        recipe = request.recipe(dataset.channels).override(size=dataset.size, channels=dataset.channels)
        limit = request.limit or Limit.of(epochs=recipe.epochs, steps=recipe.steps) or Limit("steps", 1)
        config = RunConfig(
            data=data,
            data_name=dataset.name,
            fingerprint=dataset.fingerprint,
            n_images=len(dataset),
            recipe=recipe.trained_for(limit.unit, limit.amount),
            seed=request.seed or 0,
            limit=limit,
            class_names=dataset.class_names,
            init=None if start is None else str(start.path),
            films=request.changes.get("sample_every") is None,
        )
        base = RUNS / default_name(dataset.name, recipe.arch, dataset.size)
        run = self._run_dir(peers.said(lambda: request.out or next_free(base)))
        _check_same_images(config, peers)
        state = TrainState.fresh(config, self.device)
        if start is not None:
            start.into(state)
        training = self._training(state, dataset, run, self._speed(recipe))
        run.check_free()
        with run.lock():
            run.start(config.to_json(), dump_settings(config, self.request))
            return self._run(training)

    def resumed(self) -> tuple[RunDir, Outcome]:
        request, peers = self.request, self.peers
        run = self._run_dir(peers.said(lambda: request.out or self._newest_run()))
        if peers.leads and not run.last.exists():
            missing = run.last if run.path.is_dir() else f"folder {run.path}"
            raise GanportError(f"nothing to resume: no {missing}", hint="start it without `resume`, or name its `out`")
        with run.lock():
            config, content = peers.said(lambda: read_last(run.last))
            if request.data is None:
                check_still_there(config.data)
            data = config.data if request.data is None else request.data
            dataset = peers.in_turn(lambda: self._open(data, config.recipe))
            config.check_resumed(dataset.fingerprint, request)
            limit = request.limit or config.limit
            recipe = config.recipe.override(**{name: request.changes.get(name) for name in FREE})
            config = dataclasses.replace(
                config,
                data=data,
                limit=limit,
                recipe=recipe.trained_for(limit.unit, limit.amount),
                films=config.films and request.changes.get("sample_every") is None,
            )
            speed = self._speed(config.recipe)
            state = TrainState.fresh(config, self.device)
            state.restore(content, str(run.last))
            training = self._training(state, dataset, run, speed)
            if training.reached:
                log.info(
                    f"nothing left to do: {run.path} has {state.step} steps in {state.seconds / 60:.1f} minutes, "
                    f"the limit is {config.limit}; more `steps`, `epochs` or `minutes` go on"
                )
            run.rewind(state.step)
            if peers.leads:
                run.describe(config.to_json(), dump_settings(config, self.request))
            return self._run(training)

    def _training(self, state: TrainState, dataset: ImageDataset, run: RunDir, speed: Speed) -> Training:
        return Training(
            state, dataset.pixels_NHWC, run, self.device, labels=dataset.labels, ngpu=self.request.ngpu, speed=speed,
            progress=self.progress, peers=self.peers,
        )  # fmt: skip

    def _run(self, training: Training) -> tuple[RunDir, Outcome]:
        self.peers.remember(training.run_dir.path)
        if not training.reached:
            _introduce(training, self.request.ngpu)
        if (names := parse_boards(self.request.log)) and self.peers.leads:
            told = training.recipe.to_json() | {"data": training.config.data_name, "seed": training.config.seed}
            training.boards = Boards(names, training.run_dir.path, training.state.step, told)
        return training.run_dir, training.run()

    def _run_dir(self, path: Path) -> RunDir:
        return RunDir(path) if self.peers.leads else FollowedRun(path)

    def _begun_on(self) -> str:
        """The data of a run that begins."""
        return DEFAULT_DATA if self.request.data is None else self.request.data

    def _newest_run(self) -> Path:
        """The run that the same request without `resume` made last."""
        recipe = self.request.recipe()
        dataset = self._open(self._begun_on(), recipe)
        return newest(RUNS / default_name(dataset.name, recipe.arch, dataset.size))

    def _open(self, data: str, recipe: Recipe) -> ImageDataset:
        if recipe.task == "upscale":
            check_large_enough(data, recipe.size, root=self.request.root)
        return open_dataset(data, size=recipe.size, channels=recipe.channels, root=self.request.root, track=self.track)

    def _speed(self, recipe: Recipe) -> Speed:
        request = self.request
        if self.peers.joined and request.compiled == "on":
            raise GanportError(
                '`compile="on"` does not go with torchrun yet', hint="leave it out: auto compiles nothing"
            )
        return choose(
            self.device,
            exact=recipe.name in TUTORIALS,
            amp=request.amp,
            compiled=request.compiled,
            cuda_graphs=request.cuda_graphs and not self.peers.joined,
            ngpu=request.ngpu,
        )


def _check_same_images(config: RunConfig, peers: Peers) -> None:
    """Raises `GanportError` when this process reads other images than process 0 does."""
    first = peers.said(lambda: config.fingerprint)
    if first != config.fingerprint:
        raise GanportError(
            f"process {peers.rank} reads other images from {config.data} than process 0: their digest is "
            f"{config.fingerprint[:12]}…, expected {first[:12]}…",
            hint="give every host the same data",
        )


def _introduce(training: Training, ngpu: int) -> None:
    config, recipe, spec = training.config, training.recipe, training.config.spec()
    channels, height, width = spec.interface.image
    kind = CHANNELS_IN_WORDS[channels]
    discriminator = sum(weight.numel() for weight in training.state.discriminator.parameters())
    networks = f"G {spec.parameters / 1e6:.2f} M" + (f" + D {discriminator / 1e6:.2f} M" if recipe.adversarial else "")
    classes = f" in {config.n_classes} classes" if config.n_classes else ""
    device = f"{describe(training.device)}{f' and {ngpu - 1} more' if ngpu > 1 else ''}"
    if training.peers.joined:
        device = f"{training.peers.world} processes on {device}"
    log.info(
        f"{config.data_name}: {config.n_images:,} {kind} images of {width}x{height}{classes}; "
        f"{spec.name}, {networks} weights; {device}, "
        f"{training.speed.describe()}"
    )
    if config.n_classes:
        log.info(f"classes: {number_classes(config.class_names)}")
    if (chosen := config.left_out) is not None:
        log.info(f"{len(chosen)} of the images are left out, to measure the upscaler by")
    if training.batches.batch_size < recipe.batch_size:
        log.info(
            f"fewer images than the batch size of {recipe.batch_size}: every step sees all {config.n_images} of them"
        )
    start = f"from step {training.state.step} " if training.state.step else ""
    seen = f"augmented by {', '.join(recipe.augmentations)}; " if recipe.augmentations else ""
    log.info(
        f"recipe {recipe.name}: batches of {training.batches.batch_size}, {training.batches.per_epoch} an epoch; {seen}"
        f"{start}to {config.limit} → {training.run_dir.path}"
    )


def check_packages() -> None:
    """Raises `MissingPackageError` when something that draws the pictures or writes run.yaml is not installed."""
    for package in ("matplotlib", "torchvision", "yaml"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "train", "gan-train")


@contextlib.contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Within, torch computes with `n` CPU threads, None: as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def explain_memory() -> Iterator[None]:
    """Turns torch's failures to find memory into a `JobError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in text:
            raise JobError(
                "out of memory: the networks and a batch do not fit",
                hint="try a smaller `batch_size` or `width`; a saved run goes on with `resume=True`",
            ) from error
        raise
