"""From what was asked for to a run that can start: data, configuration, folder, device, state.

Everything is checked before anything is written, and the cheap checks come before the data are decoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from gan_serve import console
from gan_serve.atomic import write_text
from gan_serve.errors import GanportError, JobError, MissingPackageError
from gan_trainer.config import Limit, RunConfig, check_resume, limit_of
from gan_trainer.data import ImageDataset, open_dataset
from gan_trainer.devices import describe, resolve
from gan_trainer.distributed import Peers
from gan_trainer.loop import Outcome, Training
from gan_trainer.presets import TUTORIALS, preset
from gan_trainer.progress import Progress
from gan_trainer.recipes import Recipe
from gan_trainer.rundir import FollowedRun, RunDir, default_name, newest, next_free
from gan_trainer.speed import Speed, choose
from gan_trainer.state import TrainState, read_last
from gan_trainer.tensorboard import Board, check_tensorboard

DEFAULT_DATA = "digits"
DEFAULT_PRESET = "default"
DEFAULT_EMA_BETA = 0.999
RUNS = Path("runs")


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

    def recipe(self) -> Recipe:
        """The preset with everything that was asked for in its place. Raises `GanportError` for values out of range."""
        recipe = preset(self.preset or DEFAULT_PRESET).override(
            arch=self.arch, size=self.size, channels=self.channels, width=self.width, z_dim=self.z_dim,
            conditional=self.conditional, batch_size=self.batch_size, lr_g=self.lr,
            lr_d=self.lr if self.lr_d is None else self.lr_d, n_critic=self.n_critic, augment=self.augment,
            penalty_weight=self.penalty_weight, penalty_every=self.penalty_every,
            report_every=self.report_every, sample_every=self.sample_every,
        )  # fmt: skip
        if self.ema is None or self.ema == (recipe.ema_beta is not None):
            return recipe
        return dataclasses.replace(recipe, ema_beta=DEFAULT_EMA_BETA if self.ema else None)


def train(request: Request, progress: Progress | None = None, peers: Peers | None = None) -> tuple[RunDir, Outcome]:
    """Trains as asked, from the start or from where a run stopped. Returns the run's folder and how it ended.

    Every process of a distributed job calls it, with the `peers` it has joined. A job that torchrun has restarted goes
    on with its run. Raises `GanportError` for input that cannot be trained with, `JobError` when the training fails.
    """
    check_packages()
    if request.tensorboard:
        check_tensorboard()
    peers = peers or Peers()
    device = resolve(request.device, request.ngpu, peers.local_rank if peers.joined else None)
    if peers.restarted_run is not None:
        request = dataclasses.replace(request, resume=True, out=peers.restarted_run)
    with torch.random.fork_rng(devices=[]), explain_memory():
        return (_resumed if request.resume else _fresh)(request, device, progress, peers)


def _fresh(request: Request, device: torch.device, progress: Progress | None, peers: Peers) -> tuple[RunDir, Outcome]:
    recipe = request.recipe()
    if request.out is not None:
        _run_dir(request.out, peers).check_free()
    data = request.data or DEFAULT_DATA
    dataset = peers.in_turn(lambda: open_dataset(data, size=recipe.size, channels=recipe.channels, root=request.root))
    recipe = recipe.override(size=dataset.size, channels=dataset.channels)
    config = RunConfig(
        data=data,
        data_name=dataset.name,
        fingerprint=dataset.fingerprint,
        n_images=len(dataset),
        recipe=recipe,
        seed=request.seed or 0,
        limit=request.limit or limit_of(recipe),
        class_names=dataset.class_names,
    )
    base = RUNS / default_name(dataset.name, recipe.arch, dataset.size)
    run = _run_dir(peers.said(lambda: request.out or next_free(base)), peers)
    _check_same_images(config, peers)
    speed = _speed(request, recipe, device, peers)
    state = TrainState.fresh(config, device)
    training = Training(
        state,
        dataset.pixels_NHWC,
        run,
        device,
        labels=dataset.labels,
        ngpu=request.ngpu,
        speed=speed,
        progress=progress,
        peers=peers,
    )
    run.check_free()
    with run.lock():
        run.start(config.to_json())
        peers.remember(run.path)
        _introduce(training, request.ngpu)
        _watch(training, request)
        return run, training.run()


def _resumed(request: Request, device: torch.device, progress: Progress | None, peers: Peers) -> tuple[RunDir, Outcome]:
    run = _run_dir(peers.said(lambda: request.out or _newest_run(request)), peers)
    if peers.leads and not run.path.is_dir():
        raise GanportError(
            f"nothing to resume: no folder {run.path}", hint="start it without --resume, or name its --out"
        )
    with run.lock():
        config, content = peers.said(lambda: read_last(run.last))
        dataset = peers.in_turn(lambda: _same_data(request, config))
        check_resume(config, dataset.fingerprint, _asked(request))
        config = dataclasses.replace(
            config,
            data=request.data or config.data,
            limit=request.limit or config.limit,
            recipe=config.recipe.override(report_every=request.report_every, sample_every=request.sample_every),
        )
        speed = _speed(request, config.recipe, device, peers)
        state = TrainState.fresh(config, device)
        state.restore(content, str(run.last))
        training = Training(
            state,
            dataset.pixels_NHWC,
            run,
            device,
            labels=dataset.labels,
            ngpu=request.ngpu,
            speed=speed,
            progress=progress,
            peers=peers,
        )
        peers.remember(run.path)
        if training.reached:
            console.note(
                f"nothing left to do: {run.path} has {state.step} steps in {state.seconds / 60:.1f} minutes, "
                f"the limit is {config.limit}"
            )
        run.rewind(state.step)
        if peers.leads:
            write_text(run.config, json.dumps(config.to_json(), indent=2, ensure_ascii=False) + "\n")
        _introduce(training, request.ngpu)
        _watch(training, request)
        return run, training.run()


def _run_dir(path: Path, peers: Peers) -> RunDir:
    return RunDir(path) if peers.leads else FollowedRun(path)


def _check_same_images(config: RunConfig, peers: Peers) -> None:
    """Raises `GanportError` when this process reads other images than process 0 does."""
    first = peers.said(lambda: config.fingerprint)
    if first != config.fingerprint:
        raise GanportError(
            f"process {peers.rank} reads other images from {config.data} than process 0: their digest is "
            f"{config.fingerprint[:12]}…, expected {first[:12]}…",
            hint="give every host the same data",
        )


def _newest_run(request: Request) -> Path:
    """The run that the same command without --resume made last."""
    recipe = request.recipe()
    dataset = open_dataset(request.data or DEFAULT_DATA, size=recipe.size, channels=recipe.channels, root=request.root)
    return newest(RUNS / default_name(dataset.name, recipe.arch, dataset.size))


def _same_data(request: Request, config: RunConfig) -> ImageDataset:
    recipe = config.recipe
    return open_dataset(request.data or config.data, size=recipe.size, channels=recipe.channels, root=request.root)


def _asked(request: Request) -> dict[str, Any]:
    """The settings that a resumed run must share, under their option names."""
    names = (
        "preset", "arch", "size", "channels", "width", "z_dim", "conditional", "batch_size", "lr", "lr_d", "n_critic",
        "penalty_weight", "penalty_every", "augment", "ema", "seed",
    )  # fmt: skip
    return {name: getattr(request, name) for name in names}


def _speed(request: Request, recipe: Recipe, device: torch.device, peers: Peers) -> Speed:
    if peers.joined and request.compiled == "on":
        raise GanportError("--compile on does not go with torchrun yet", hint="leave it out: auto compiles nothing")
    return choose(
        device,
        exact=recipe.name in TUTORIALS,
        amp=request.amp,
        compiled=request.compiled,
        cuda_graphs=request.cuda_graphs and not peers.joined,
        ngpu=request.ngpu,
    )


def _watch(training: Training, request: Request) -> None:
    """Opens TensorBoard's events where they are asked for; one process of a job writes them."""
    if request.tensorboard and training.peers.leads:
        training.board = Board(training.run_dir.path, training.state.step)


def _introduce(training: Training, ngpu: int) -> None:
    config, recipe, spec = training.config, training.recipe, training.config.spec()
    discriminator = sum(weight.numel() for weight in training.state.discriminator.parameters())
    kind = "RGB" if spec.image[0] == 3 else "grey"
    classes = f" in {config.n_classes} classes" if config.n_classes else ""
    device = f"{describe(training.device)}{f' and {ngpu - 1} more' if ngpu > 1 else ''}"
    if training.peers.joined:
        device = f"{training.peers.world} processes on {device}"
    console.note(
        f"{config.data_name}: {config.n_images:,} {kind} images of {spec.image[1]}x{spec.image[2]}{classes}; "
        f"{spec.name}, G {spec.parameters / 1e6:.2f} M + D {discriminator / 1e6:.2f} M weights; {device}, "
        f"{training.speed.describe()}"
    )
    if training.batches.batch_size < recipe.batch_size:
        console.note(
            f"fewer images than the batch size of {recipe.batch_size}: every step sees all {config.n_images} of them"
        )
    start = f"from step {training.state.step} " if training.state.step else ""
    console.note(
        f"recipe {recipe.name}: batches of {training.batches.batch_size}, {training.batches.per_epoch} an epoch; "
        f"{start}to {config.limit} → {training.run_dir.path}"
    )


def check_packages() -> None:
    """Raises `MissingPackageError` when something that draws the pictures is not installed."""
    for package in ("matplotlib", "torchvision"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "train", "gan-train")


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
                hint="try a smaller --batch-size or --width; a saved run goes on with --resume",
            ) from error
        raise
