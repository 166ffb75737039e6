"""gan-train beside the programs that people would pick instead: the same images, the same minutes, one after the other.

    git clone https://github.com/pytorch/examples; git clone https://github.com/lucidrains/lightweight-gan
    python -m lab.beside_trainers --data folder:emoji@64 --gan-train "--preset default" --gan-train "--preset r3gan" \
        --dcgan examples/dcgan --lightweight-gan lightweight-gan --out beside --json beside-emoji.json

Each program runs as its users start it (`lab.loops.guest`), with its own defaults. Its clock runs from its start, and
stands still while it generates the images that are measured. All are measured as gan-train eval measures, against the
data that they were trained on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from gan_bench import questions
from gan_bench.process import Process, WorkerError
from gan_bench.record import dumps
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_core.files.atomic import write_text
from gan_core.grids import grid
from gan_core.images import encode_png
from gan_serve.terminal import console
from lab import shared
from lab.checkerboard import checkerboard
from lab.loops.messages import Drawn, Guest

if TYPE_CHECKING:
    from gan_core.arrays import U8
    from gan_trainer.evaluation import Evaluator

COMMAND = (sys.executable, "-P", "-m", "lab.loops.guest")
SILENCE_S = 1800.0
SHOWN = 64
FOREVER = "100000"

app = console.new_app("Train with gan-train and with other programs for equally long, and measure their images.")


@dataclass(frozen=True)
class Arm:
    """A program and its words; `OUT` in them is its folder, `IMAGES` that of the images."""

    name: str
    program: str
    words: tuple[str, ...]
    clone: Path | None = None


@app.command()
def main_command(
    data: Annotated[str, typer.Option(metavar="DATA", help="A data set by name, or folder:PATH.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder: for images, runs and pictures.")],
    size: Annotated[int, typer.Option(metavar="N", help="Of the images.")] = 64,
    gan_train: Annotated[
        list[str] | None,
        typer.Option("--gan-train", metavar="OPTIONS", help="Train by gan-train with these options. Repeats."),
    ] = None,
    dcgan: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A clone's dcgan folder: pytorch/examples.")
    ] = None,
    lightweight_gan: Annotated[
        Path | None, typer.Option("--lightweight-gan", metavar="FOLDER", help="A clone of lucidrains/lightweight-gan.")
    ] = None,
    marks: Annotated[str, typer.Option(metavar="M,M,…", help="After how many minutes to measure.")] = "2,5,10",
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images to measure, at most half of the data's.")] = 2000,
    features: Annotated[str, typer.Option(metavar="NAME", help="As gan-train eval takes it.")] = "auto",
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the data sets known by name lie.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the record here.")] = None,
) -> None:
    """Train with gan-train and with other programs for equally long, and measure their images.

    \b
    Examples:
      python -m lab.beside_trainers --data folder:emoji --gan-train "--preset r3gan" --dcgan FOLDER --out beside
      python -m lab.beside_trainers --data mnist --size 32 --gan-train "--arch mlp" --lightweight-gan FOLDER --out new
    """
    minutes = shared.ascending(marks, "--marks", "minutes")
    shared.check_numbers({"--n": (n, 32, 10_000)})
    if out.exists():
        raise GanportError(f"--out {out} exists", hint="name a new folder")
    check_outputs({}, {"--json": json_file})
    for option, folder, file in (
        ("--dcgan", dcgan, "main.py"), ("--lightweight-gan", lightweight_gan, "lightweight_gan/cli.py"),
    ):  # fmt: skip
        if folder is not None and not (folder / file).is_file():
            raise GanportError(f"{option} {folder} has no {file}", hint="name the folder in a clone of its repository")
    shared.require("training")
    from gan_trainer.data import open_dataset
    from gan_trainer.evaluation import Evaluator

    dataset = open_dataset(data.removeprefix("folder:"), size=size, root=root)
    arms = list(_arms(gan_train or (), dcgan, lightweight_gan, size, grey=dataset.channels == 1))
    if not arms:
        raise GanportError(
            "nothing to train", hint='--gan-train "--preset default", --dcgan FOLDER, --lightweight-gan FOLDER'
        )
    evaluator = Evaluator(dataset, features, n=min(n, len(dataset) // 2))
    write_images(dataset.pixels_NHWC, out / "images")
    reals = dataset.pixels_NHWC[evaluator.reference]
    environment = shared.look_around("beside_trainers", packages=("torch", "torchvision"))
    made: Json = {
        "schema": 1, "tool": "lab.beside_trainers", "environment": environment,
        "data": {"name": dataset.name, "images": len(dataset), "size": size, "channels": dataset.channels,
                 "fingerprint": dataset.fingerprint},
        "features": dataclasses.asdict(evaluator.info), "n": evaluator.n, "marks_min": minutes,
        "real": {"distance": round(evaluator.floor.distance, 4), "checkerboard": round(checkerboard(reals), 3)},
        "arms": [],
    }  # fmt: skip
    for arm in arms:
        console.note(f"{arm.name}: {minutes[-1]:g} minutes")
        made["arms"].append(
            {"name": arm.name, "command": shlex.join((arm.program, *arm.words)), "commit": commit_of(arm.clone),
             "marks": train(arm, out, minutes, evaluator)}
        )  # fmt: skip
        if json_file is not None:
            write_text(json_file, dumps(made))
    console.show(render(made))


def _arms(
    gan_train: Sequence[str], dcgan: Path | None, lightweight_gan: Path | None, size: int, *, grey: bool
) -> Iterator[Arm]:
    """The programs with the words that their users type: where the images are, their size, where to write."""
    for text in dict.fromkeys(gan_train):
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise GanportError(
                f"--gan-train {text!r}: {error}", hint='for example --gan-train "--preset r3gan"'
            ) from None
        common = ("--data", "IMAGES/all", "--size", f"{size}", "--minutes", FOREVER, "--out", "OUT/run")
        yield Arm(" ".join(["gan-train", *words]), "gan-train", (*common, *words))
    if dcgan is not None:
        words = ["--dataset", "folder", "--dataroot", "IMAGES", "--niter", FOREVER, "--outf", "OUT"]
        yield Arm("pytorch/examples dcgan", "dcgan", tuple(words), dcgan)
    if lightweight_gan is not None:
        words = ["--data", "IMAGES", "--image-size", f"{size}", "--results-dir", "OUT/results", "--models-dir",
                 "OUT/models", *(["--greyscale"] if grey else [])]  # fmt: skip
        yield Arm("lightweight-gan", "lightweight-gan", tuple(words), lightweight_gan)


def write_images(pixels_NHWC: U8, folder: Path) -> None:
    """The data as PNG files, for every program to read: one folder in a folder, as torchvision's ImageFolder has it."""
    inside = folder / "all"
    inside.mkdir(parents=True)
    for number, pixels_HWC in enumerate(pixels_NHWC):
        (inside / f"{number:06}.png").write_bytes(encode_png(pixels_HWC))


def train(arm: Arm, out: Path, minutes: Sequence[float], evaluator: Evaluator) -> list[Json]:
    """What one program's images are like at each mark; a picture of some is kept for each."""
    folder = out / "".join(c if c.isalnum() else "-" for c in arm.name)
    folder.mkdir()
    rows = []
    for mark, drawn in zip(minutes, images_at(arm, folder, out / "images", minutes, evaluator), strict=True):
        assert drawn.path is not None
        pixels_NHWC = np.load(drawn.path)
        (folder / f"{mark:g}-min.png").write_bytes(encode_png(grid(pixels_NHWC[:SHOWN])))
        evaluation = evaluator.evaluate(pixels_NHWC)
        rows.append(
            {"minutes": mark, "steps": drawn.steps, "distance": round(evaluation.metrics.distance, 4),
             "checkerboard": round(checkerboard(pixels_NHWC), 3), "metrics": dataclasses.asdict(evaluation.metrics)}
        )  # fmt: skip
    return rows


def images_at(arm: Arm, folder: Path, images: Path, minutes: Sequence[float], evaluator: Evaluator) -> list[Drawn]:
    """Trains until the last mark, alone on the machine. Raises `JobError` when the program ends or has no images."""
    dataset = evaluator.dataset
    words = tuple(
        word.replace("IMAGES", str(images.resolve())).replace("OUT", str(folder.resolve())) for word in arm.words
    )
    guest = Guest(
        arm.program, words, None if arm.clone is None else arm.clone.resolve(), folder.resolve(),
        (dataset.channels, dataset.size, dataset.size), evaluator.n,
    )  # fmt: skip
    found, passed_s = [], 0.0
    with Process(COMMAND) as process, console.progress(len(minutes), arm.name) as bar:
        try:
            process.write(questions.write(guest))
            for mark in minutes:
                began = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    process.line(mark * 60 - passed_s)
                    raise JobError(f"{arm.name} said something before it was asked", hint="is its clone the original?")
                passed_s += time.monotonic() - began
                process.signal(signal.SIGUSR1, alone=True)
                drawn: Drawn = questions.read(process.line(SILENCE_S), Drawn)
                if drawn.path is None:
                    raise JobError(f"{arm.name} after {mark:g} minutes: {drawn.error}", hint="name later --marks")
                found.append(drawn)
                bar.update(1)
        except WorkerError as error:
            raise JobError(f"{arm.name} ended: {error}", hint="try its own command alone") from None
        except TimeoutError:
            raise JobError(f"{arm.name} generates no images", hint="lower --n") from None
    return found


def commit_of(clone: Path | None) -> str | None:
    """The commit of a clone, None for a folder that is none."""
    if clone is None:
        return None
    done = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def render(made: Json) -> str:
    """A line for each program, a pair of columns for each mark."""
    heads = [f"{minutes:g} min" for minutes in made["marks_min"]]
    rows = [
        (arm["name"], *(f"{row['distance']:.2f}" for row in arm["marks"]), f"{arm['marks'][-1]['checkerboard']:.1f}")
        for arm in made["arms"]
    ]
    rows.append(("real images", *("" for _ in heads[1:]), f"{made['real']['distance']:.2f}",
                 f"{made['real']['checkerboard']:.1f}"))  # fmt: skip
    columns = (f"distance on {made['features']['id']}", *heads, "checkerboard")
    return console.table(columns, rows, right=tuple(range(1, len(columns))))


if __name__ == "__main__":
    console.run(app, "python -m lab.beside_trainers")
