"""How far a file of lower precision is from the float32 file, image by image, over many seeds.

    python -m lab.precision --model g.onnx --model g.int8.onnx --n 1000 --json FILE

The first file is what the others are compared with. gan-bench compares the eight images that it times, and the proof of
an export some dozens; the worst of many is worse. Both files run on the CPU provider. Whether a worse image looks
worse is not said here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from gan_core.arrays import F64
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_core.limits import decibels, max_lsb, mean_square
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.runtimes import load
from gan_serve.terminal import console
from lab import shared

MAX_N = 1_000_000
AT_ONCE = 64
DECIBELS = ("worst_psnr_db", "hundredth_psnr_db", "median_psnr_db")

app = console.new_app("Compare the images of files of several precisions, seed by seed.")


@app.command()
def main_command(
    model: Annotated[list[Path], typer.Option(metavar="FILE", help="An exported generator. Twice or more.")],
    n: Annotated[int, typer.Option("--n", metavar="N", help="Seeds, from 0 on.")] = 1000,
    json: shared.RecordFile = None,
) -> None:
    """Compare the images of files of several precisions, seed by seed.

    \b
    Example:
      python -m lab.precision --model g.onnx --model g.int8.onnx --n 1000 --json precision.json
    """
    shared.check_numbers({"--n": (n, 1, MAX_N)})
    if len(model) < 2:
        raise GanportError("--model names one file, expected two or more", hint="--model g.onnx --model g.int8.onnx")
    for path in model:
        target = shared.record_target(json, {"--model": path})
    generators = [load(path, "cpu") for path in model]
    shapes = {generator.contract.interface for generator in generators}
    if len(shapes) > 1:
        raise GanportError(
            f"{model[0]} and the other files do not take and generate the same", hint="name exports of one checkpoint"
        )
    made = shared.new_record("precision")
    rows = [file_provenance(path) for path in model]
    for row, generator, squares, lsb in zip(rows, generators, *differences(generators, n), strict=True):
        share = round(row["size_bytes"] / rows[0]["size_bytes"], 4)
        row |= {"precision": generator.contract.precision, "share_of_size": share}
        if row is not rows[0]:
            row |= in_decibels(squares) | {"pixels_max_lsb": int(lsb.max())}
    made |= {"images": n, "files": rows}
    shared.hand_over(made, render(made), json, target)


def differences(generators: list[Generator], n: int) -> tuple[F64, F64]:
    """(files, n) mean squares and largest differences in LSB of the images of seeds 0 … n - 1 from the first file's."""
    squares, lsb = np.zeros((2, len(generators), n))
    with console.progress(n, "images") as bar:
        for start in range(0, n, AT_ONCE):
            seeds = range(start, min(start + AT_ONCE, n))
            expected, *others = [generator.generate(seeds) for generator in generators]
            for file, pixels_NHWC in enumerate(others, start=1):
                for seed, ours, theirs in zip(seeds, pixels_NHWC, expected, strict=True):
                    squares[file, seed], lsb[file, seed] = mean_square(ours, theirs), max_lsb(ours, theirs)
            bar.update(len(seeds))
    return squares, lsb


def in_decibels(squares: F64) -> Json:
    """PSNR in dB of the worst image, of the one that 1 % are worse than, and of the median; None for equal images."""
    found = dict(zip(DECIBELS, np.quantile(squares, [1.0, 0.99, 0.5]), strict=True))
    return {name: round(decibels(float(square)), 2) if square else None for name, square in found.items()}


def render(made: Json) -> str:
    """A line for each file."""
    rows = [
        (row["file"], row["precision"], f"{row['size_bytes'] / 1e6:.2f} MB", f"{row['share_of_size']:.2f}",
         *("" if name not in row else "equal" if row[name] is None else f"{row[name]:.1f} dB" for name in DECIBELS))
        for row in made["files"]
    ]  # fmt: skip
    columns = (f"{made['images']:,} images", "precision", "size", "share", "worst", "1 % below", "median")
    return console.table(columns, rows, right=(2, 3, 4, 5, 6))


if __name__ == "__main__":
    console.run(app, "python -m lab.precision")
