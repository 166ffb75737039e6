"""What a training that is timed is asked, and what it says while it trains; a line each, see `gan_bench.questions`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Train:
    """What to train, until it is killed. `folder` is for what it writes.

    classic, gan-train   DCGAN at 64x64, by the classic loop and by gan-train's: `batch_size`, `width`; `workers` of the
                         classic loop's DataLoader
    steps                any `recipe` (as JSON) in gan-train's loop, nothing reported, drawn or saved on the way
    """

    loop: Literal["classic", "gan-train", "steps"]
    data: str
    device: str
    folder: Path
    seed: int = 0
    root: Path | None = None
    batch_size: int = 128
    width: int = 64
    workers: int = 2
    amp: str = "auto"
    compiled: str = "auto"
    cuda_graphs: bool = True
    recipe: dict[str, Any] | None = None


@dataclass(frozen=True)
class Ready:
    """It is about to take the first step; what came before took so long. In which numbers it computes, and by how many
    threads.
    """

    seconds: float
    computes: str = "float32"
    threads: int | None = None


@dataclass(frozen=True)
class At:
    """A step is known to be done: time.monotonic() then, and the images that updates of G have drawn so far."""

    clock: float
    images: int


@dataclass(frozen=True)
class Saved:
    """After SIGUSR1: a generator checkpoint of this moment."""

    path: Path
    images: int


@dataclass(frozen=True)
class Guest:
    """What a guest starts: a program of `lab.loops.guest.PROGRAMS` with `words`, from the clone in `folder`.

    folder   None: this project's own program
    out      where NPY files of images go
    image    (C, H, W) of the images that are kept, whatever the program's are
    n        how many a signal asks for
    """

    program: str
    words: tuple[str, ...]
    folder: Path | None
    out: Path
    image: tuple[int, int, int]
    n: int


@dataclass(frozen=True)
class Drawn:
    """After a signal: uint8 images (n, H, W, C) in the file `path`, and the steps so far; or why there are none."""

    path: Path | None
    steps: int = 0
    error: str = ""
