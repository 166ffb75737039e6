"""`python -m lab.loops.guest`: the process of a training program as its users start it, ours or somebody else's.

The program runs from its own folder, unchanged, with its own command line. A signal (SIGUSR1) makes it stop where it
is, generate images with a copy of its generator, and go on: its weights, statistics and random numbers stay as they
were. It reads a `Guest` from stdin and writes a `Drawn` to stdout after each signal.
"""

from __future__ import annotations

import copy
import functools
import importlib
import runpy
import signal
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_bench import questions
from gan_core.arrays import F32, U8
from gan_core.images import to_pixels
from lab.loops.messages import Drawn, Guest

AT_ONCE = 64


@dataclass(frozen=True)
class Program:
    """How a program is started, how the generator that it trains is found from a frame on its stack, and what makes
    images of that: (steps, n → images (n, C, H, W) in [-1, 1]), or None in another frame.
    """

    start: Callable[[Guest], None]
    found: Callable[[types.FrameType], tuple[int, Callable[[int], F32]] | None]


def main() -> None:
    """The process's life. What the program prints goes to stderr."""
    questions.die_with_parent()
    told = questions.private_stdout()
    guest: Guest = questions.read(sys.stdin.readline(), Guest)
    count = 0

    def draw(_number: int, frame: types.FrameType | None) -> None:
        nonlocal count
        count += 1
        try:
            steps, images = next(filter(None, map(program.found, _stack(frame))))
            path = guest.out / f"images-{count}.npy"
            np.save(path, fitted(images(guest.n), guest.image))
            drawn = Drawn(path, steps)
        except StopIteration:
            drawn = Drawn(None, error="it trains no generator yet")
        except Exception as error:  # whatever their code raises belongs to the answer
            drawn = Drawn(None, error=f"{type(error).__name__}: {error}")
        told.write(questions.write(drawn))
        told.flush()

    program = PROGRAMS[guest.program]
    signal.signal(signal.SIGUSR1, draw)
    program.start(guest)


def _stack(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _local(frame: types.FrameType, kind: str) -> Any:
    """A local variable of the class of this name; None without one."""
    return next((value for value in frame.f_locals.values() if type(value).__name__ == kind), None)


def fitted(image_NCHW: F32, image: tuple[int, int, int]) -> U8:
    """Images in [-1, 1] as pixels (n, H, W, C) of another size and number of channels: means of areas, and of colours.

    The size must be a whole multiple of the wanted one.
    """
    n, channels, height, width = image_NCHW.shape
    c, h, w = image
    pooled = image_NCHW.reshape(n, channels, h, height // h, w, width // w).mean((3, 5))
    return to_pixels(np.clip(pooled if channels == c else pooled.mean(1, keepdims=True), -1, 1).astype(np.float32))


def _batches(draw: Callable[[int], Any], n: int) -> F32:
    import torch

    with torch.no_grad():
        parts = [draw(min(AT_ONCE, n - start)).float().cpu().numpy() for start in range(0, n, AT_ONCE)]
    images: F32 = np.concatenate(parts)
    return images


def _start_gan_train(guest: Guest) -> None:
    sys.argv = ["gan-train", *guest.words]
    runpy.run_module("gan_trainer", run_name="__main__")


def _of_gan_train(frame: types.FrameType) -> tuple[int, Callable[[int], F32]] | None:
    """The weights that g.pt would hold: averaged where the recipe averages them."""
    if (training := _local(frame, "Training")) is None:
        return None
    from gan_trainer.evaluation.generators import ModuleGenerator

    state = training.state
    generator = ModuleGenerator(copy.deepcopy(state.exported), state.config.spec())

    def images(n: int) -> F32:
        pixels = np.concatenate(list(generator.stream(range(n), batch_size=AT_ONCE)))
        return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1

    return state.step, images


def _start_dcgan(guest: Guest) -> None:
    assert guest.folder is not None
    script = str(guest.folder / "main.py")
    sys.argv = [script, *guest.words]
    runpy.run_path(script, run_name="__main__")


def _of_dcgan(frame: types.FrameType) -> tuple[int, Callable[[int], F32]] | None:
    """In training mode, as its own samples are generated."""
    names = frame.f_globals
    if "netG" not in names or "i" not in names:
        return None
    import torch

    generator = copy.deepcopy(names["netG"])
    rng = torch.Generator().manual_seed(0)

    def draw(n: int) -> Any:
        z = torch.randn(max(n, 2), names["nz"], 1, 1, generator=rng)
        return generator(z.to(names["device"]))[:n]

    return names["epoch"] * len(names["dataloader"]) + names["i"], functools.partial(_batches, draw)


def _start_lightweight_gan(guest: Guest) -> None:
    """Its own command line. It refuses machines without CUDA: there, its tensors stay on the CPU."""
    sys.path.insert(0, str(guest.folder))
    sys.argv = ["lightweight_gan", *guest.words]
    import torch

    if not (available := torch.cuda.is_available)():
        torch.cuda.is_available = lambda: True
        vars(importlib.import_module("lightweight_gan.lightweight_gan"))["torch"] = _OnCPU("torch")
        importlib.import_module("lightweight_gan.cli")
        torch.cuda.is_available = available
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign,assignment]
    importlib.import_module("lightweight_gan.cli").main()


class _OnCPU(types.ModuleType):
    """torch, where every device is the CPU."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return (lambda *_: torch.device("cpu")) if name == "device" else getattr(torch, name)


def _of_lightweight_gan(frame: types.FrameType) -> tuple[int, Callable[[int], F32]] | None:
    """The last weights, in eval mode. Its averaged ones follow them every 1,000 steps until step 20,000."""
    if (trainer := _local(frame, "Trainer")) is None or trainer.GAN is None:
        return None
    import torch

    generator = copy.deepcopy(trainer.GAN.G).eval()
    device = next(generator.parameters()).device
    rng = torch.Generator().manual_seed(0)

    def draw(n: int) -> Any:
        z = torch.randn(n, trainer.latent_dim, generator=rng)
        return generator(z.to(device)).clamp(0, 1) * 2 - 1

    return trainer.steps, functools.partial(_batches, draw)


PROGRAMS = {
    "gan-train": Program(_start_gan_train, _of_gan_train),
    "dcgan": Program(_start_dcgan, _of_dcgan),
    "lightweight-gan": Program(_start_lightweight_gan, _of_lightweight_gan),
}

if __name__ == "__main__":
    main()
