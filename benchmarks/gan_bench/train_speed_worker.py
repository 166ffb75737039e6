"""One of the two trainings that `gan_bench.train_speed` sets beside each other, in its own process.

    python -m gan_bench.train_speed_worker '{"loop": "classic", "data": …, "batch_size": 128, …}'

It trains until it is killed, and writes a line of JSON to stdout for every step that is known to be done:

    {"ready": seconds}                    it is about to take the first step; what came before took so long
    {"at": clock, "images": n}            time.monotonic() and the images so far
    {"saved": path, "images": n}          after SIGUSR1: a generator checkpoint of this moment

A GPU is waited for before a line is written: the classic loop does so every step by itself, gan-train's is asked every
`SYNC_STEPS` steps, as often as a report at most.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_serve.cores import rest_idle_threads

if TYPE_CHECKING:
    import torch

    from gan_trainer.loop import Training

SYNC_STEPS = 20
Say = Callable[[dict[str, Any]], None]


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
            self.say({"saved": str(path), "images": images})


def classic(asked: dict[str, Any], marks: Marks, began: float) -> None:
    """The loop of `gan_bench.classic_loop`."""
    import torch
    from torch.utils.data import DataLoader

    from gan_bench import classic_loop
    from gan_trainer.checkpoint import GeneratorCheckpoint, save_generator
    from gan_trainer.networks import network_spec

    torch.manual_seed(asked["seed"])
    device = torch.device(asked["device"])
    pictures = classic_loop.Pictures(Path(asked["data"]), 64)
    loader = DataLoader(pictures, asked["batch_size"], shuffle=True, num_workers=asked["workers"])
    netG, netD = classic_loop.generator(asked["width"]), classic_loop.discriminator(asked["width"])
    for network in (netG, netD):
        classic_loop.initialise(network)
        network.to(device)
    spec = network_spec("dcgan", 64, 3, width=asked["width"])
    names = [name for name, _ in _built(spec).state_dict().items()]

    def save(path: Path) -> None:
        weights = dict(zip(names, netG.state_dict().values(), strict=True))
        save_generator(GeneratorCheckpoint(spec, weights), path)

    images = 0
    marks.say({"ready": time.monotonic() - began})
    for n, _ in classic_loop.train(netG, netD, loader, device):
        images += n
        marks.say({"at": time.monotonic(), "images": images})
        marks.take(images, save)


def gan_train(asked: dict[str, Any], marks: Marks, began: float) -> None:
    """The loop of gan-train with the preset dcgan64, its reports, samples and checkpoints included."""
    import torch

    from gan_trainer.config import Limit, RunConfig
    from gan_trainer.data import open_dataset
    from gan_trainer.loop import Training
    from gan_trainer.memory import keep_freed_memory
    from gan_trainer.presets import preset
    from gan_trainer.rundir import RunDir
    from gan_trainer.speed import choose
    from gan_trainer.state import TrainState

    keep_freed_memory()
    device = torch.device(asked["device"])
    dataset = open_dataset(asked["data"], size=64, channels=3)
    recipe = preset("dcgan64").override(batch_size=asked["batch_size"], width=asked["width"])
    config = RunConfig(
        data=asked["data"], data_name=dataset.name, fingerprint=dataset.fingerprint, n_images=len(dataset),
        recipe=recipe, seed=asked["seed"], limit=Limit("steps", 10**9),
    )  # fmt: skip
    speed = choose(
        device, exact=True, amp=asked["amp"], compiled=asked["compile"], cuda_graphs=bool(asked["cuda_graphs"])
    )
    run = RunDir(marks.folder / "run")
    run.start(config.to_json())
    state = TrainState.fresh(config, device)
    watch = _watching(marks, device)
    training = Training(state, dataset.pixels_NHWC, run, device, speed=speed, progress=watch)
    watch.training = training
    marks.say({"ready": time.monotonic() - began, "speed": speed.describe()})
    training.run()


def _watching(marks: Marks, device: torch.device) -> Any:
    """A `Progress` that tells of each step instead of drawing a bar."""
    import torch

    from gan_trainer.checkpoint import GeneratorCheckpoint, save_generator
    from gan_trainer.progress import Progress

    class Watching(Progress):
        training: Training

        def update(self, fraction: float, step: int, images: int) -> None:  # noqa: ARG002
            if device.type == "cuda":
                if step % SYNC_STEPS:
                    return
                torch.cuda.synchronize(device)
            marks.say({"at": time.monotonic(), "images": images})
            marks.take(images, self.save)

        def save(self, path: Path) -> None:
            state = self.training.state
            weights = state.exported.state_dict()
            save_generator(GeneratorCheckpoint(state.config.spec(), weights, state.which), path)

    return Watching()


def _built(spec: Any) -> Any:
    from gan_trainer.build import build

    return build(spec)


def main() -> None:
    """The process's life. Everything but the answers goes to stderr."""
    began = time.monotonic()
    asked = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    if asked["loop"] == "gan-train":
        rest_idle_threads()
    with tempfile.TemporaryDirectory(prefix="gan-bench-", dir=asked["folder"]) as folder:
        {"classic": classic, "gan-train": gan_train}[asked["loop"]](asked, Marks(Path(folder), say), began)


if __name__ == "__main__":
    main()
