"""`python -m lab.loops.worker`: the process of a training that others are set beside.

It reads a `Train` from stdin, trains until it is killed, and writes the messages of `lab.loops.messages` to stdout.

Where not every step trains G or computes the penalty, a line comes after whole turns of them. A GPU is waited for
before a line is written: the classic loop does so every step by itself, gan-train's is asked every `SYNC_STEPS` steps,
as often as a report at most.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_bench import questions
from gan_core.process import keep_freed_memory, rest_idle_threads
from lab.loops.messages import At, Ready, Saved, Train

if TYPE_CHECKING:
    import torch

    from gan_trainer.data import ImageDataset
    from gan_trainer.loop import Training
    from gan_trainer.recipes import Recipe

SYNC_STEPS = 20
NEVER = 10**9
Say = Callable[[At | Ready | Saved], None]


class Marks:
    """SIGUSR1, remembered until the step is done."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder = folder
        self.say = say
        self.wanted = False
        self.count = 0
        signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, *_: object) -> None:
        self.wanted = True

    def take(self, images: int, save: Callable[[Path], None]) -> None:
        if self.wanted:
            self.wanted = False
            self.count += 1
            path = self.folder / f"mark-{self.count}.pt"
            save(path)
            self.say(Saved(path, images))


def classic(asked: Train, marks: Marks, began: float) -> None:
    """The loop of `lab.loops.classic_loop`."""
    import torch
    from torch.utils.data import DataLoader

    from gan_trainer.networks.architectures import network_spec
    from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator
    from lab.loops import classic_loop

    torch.manual_seed(asked.seed)
    device = torch.device(asked.device)
    pictures = classic_loop.Pictures(Path(asked.data), 64)
    loader = DataLoader(pictures, asked.batch_size, shuffle=True, num_workers=asked.workers)
    netG, netD = classic_loop.generator(asked.width), classic_loop.discriminator(asked.width)
    for network in (netG, netD):
        classic_loop.initialise(network)
        network.to(device)
    spec = network_spec("dcgan", 64, 3, width=asked.width)
    names = [name for name, _ in _built(spec).state_dict().items()]

    def save(path: Path) -> None:
        weights = dict(zip(names, netG.state_dict().values(), strict=True))
        save_generator(GeneratorCheckpoint(spec, weights), path)

    images = 0
    marks.say(Ready(time.monotonic() - began))
    for n, _ in classic_loop.train(netG, netD, loader, device):
        images += n
        marks.say(At(time.monotonic(), images))
        marks.take(images, save)


def gan_train(asked: Train, marks: Marks, began: float) -> None:
    """The loop of gan-train with the preset dcgan64, its reports, samples and checkpoints included."""
    from gan_trainer.data import open_dataset
    from gan_trainer.presets import preset

    dataset = open_dataset(asked.data, size=64, channels=3)
    recipe = preset("dcgan64").override(batch_size=asked.batch_size, width=asked.width)
    _train(asked, marks, began, dataset, recipe)


def steps_alone(asked: Train, marks: Marks, began: float) -> None:
    """The steps of any recipe in gan-train's loop: nothing is reported, drawn or saved on the way."""
    from gan_trainer.data import open_dataset
    from gan_trainer.recipes import Recipe

    recipe = dataclasses.replace(
        Recipe.from_json(asked.recipe or {}),
        report_every=NEVER, print_every=0, sample_every=NEVER, checkpoint_every_epoch=False,
    )  # fmt: skip
    dataset = open_dataset(asked.data, size=recipe.size, channels=recipe.channels, root=asked.root)
    _train(asked, marks, began, dataset, recipe, saves=False)


def _train(
    asked: Train, marks: Marks, began: float, dataset: ImageDataset, recipe: Recipe, *, saves: bool = True
) -> None:
    import torch

    from gan_trainer.config import Limit, RunConfig
    from gan_trainer.loop import Training
    from gan_trainer.presets import TUTORIALS
    from gan_trainer.rundir import RunDir
    from gan_trainer.speed import choose
    from gan_trainer.state import TrainState

    keep_freed_memory()
    device = torch.device(asked.device)
    config = RunConfig(
        data=asked.data, data_name=dataset.name, fingerprint=dataset.fingerprint, n_images=len(dataset),
        recipe=recipe, seed=asked.seed, limit=Limit("steps", NEVER), class_names=dataset.class_names,
    )  # fmt: skip
    speed = choose(
        device, exact=recipe.name in TUTORIALS, amp=asked.amp, compiled=asked.compiled,
        cuda_graphs=asked.cuda_graphs,
    )  # fmt: skip
    run = RunDir(marks.folder / "run")
    run.start(config.to_json())
    state = TrainState.fresh(config, device)
    watch = _watching(marks, device, recipe, saves)
    training = Training(
        state, dataset.pixels_NHWC, run, device, labels=dataset.labels, speed=speed, progress=watch
    )  # fmt: skip
    watch.training = training
    marks.say(Ready(time.monotonic() - began, speed.describe(), torch.get_num_threads()))
    training.run()


def told_every(recipe: Recipe, on_gpu: bool) -> int:
    """After how many steps a line is due: whole turns of steps with and without G and the penalty."""
    turn = math.lcm(recipe.n_critic, recipe.penalty_every)
    return math.ceil(SYNC_STEPS / turn) * turn if on_gpu else turn


def _watching(marks: Marks, device: torch.device, recipe: Recipe, saves: bool) -> Any:
    """A `Progress` that tells of the steps instead of drawing a bar."""
    import torch

    from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator
    from gan_trainer.progress import Progress

    every = told_every(recipe, device.type == "cuda")

    class Watching(Progress):
        training: Training
        seen = 0
        drawn = 0

        def update(self, fraction: float, step: int, images: int) -> None:  # noqa: ARG002
            if recipe.trains_g(step - 1):
                self.drawn += images - self.seen
            self.seen = images
            if not saves:  # the minute until the next saving goes on while this process stands still
                self.training.reporter.saved_at = time.monotonic()
            if step % every:
                return
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            marks.say(At(time.monotonic(), self.drawn))
            marks.take(self.drawn, self.save)

        def save(self, path: Path) -> None:
            state = self.training.state
            weights = state.exported.state_dict()
            save_generator(GeneratorCheckpoint(state.config.spec(), weights, state.which), path)

    return Watching()


def _built(spec: Any) -> Any:
    from gan_trainer.networks.generator import build

    return build(spec)


def main() -> None:
    """The process's life. Everything but the messages goes to stderr."""
    began = time.monotonic()
    questions.die_with_parent()
    told = questions.private_stdout()
    asked: Train = questions.read(sys.stdin.readline(), Train)

    def say(message: At | Ready | Saved) -> None:
        told.write(questions.write(message))
        told.flush()

    if asked.loop != "classic":
        rest_idle_threads()
    with tempfile.TemporaryDirectory(prefix="gan-bench-", dir=asked.folder) as folder:
        loops = {"classic": classic, "gan-train": gan_train, "steps": steps_alone}
        loops[asked.loop](asked, Marks(Path(folder), say), began)


if __name__ == "__main__":
    main()
