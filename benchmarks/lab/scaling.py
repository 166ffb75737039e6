"""How gan-gen's time and memory grow with the number of images: `gan-gen --n N` to an array, for several N.

    python -m lab.scaling --model g.onnx --n 25,250,2500,25000 --json FILE

Each run is a fresh process, timed from its start to its end; all take turns. To an array (.npy), so that the numbers
are those of drawing and streaming; `lab.end_to_end` has the PNG files. The least-squares line through the medians
says what a start and what an image costs.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from gan_bench.shared.environment import busy_note, describe
from gan_bench.shared.output import hand_over
from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_core.files.outputs import check_outputs
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from lab import options
from lab.processes.commands import Command, gan_gen, take_turns

Json = dict[str, Any]

SCHEMA = 1
MAX_N = 1_000_000
MAX_RUNS = 1000

app = console.new_app("Time gan-gen for several numbers of images.")


@app.command()
def main_command(
    model: options.Exported,
    n: Annotated[str, typer.Option("--n", metavar="N,N,…", help="Numbers of images.")] = "25,250,2500,10000",
    runs: options.Runs = 3,
    json: options.RecordFile = None,
) -> None:
    """Time gan-gen for several numbers of images, and see whether its memory grows.

    \b
    Example:
      python -m lab.scaling --model g.onnx --n 25,250,2500,10000 --json scaling.json
    """
    counts = parse_counts(n)
    if not 1 <= runs <= MAX_RUNS:
        raise GanportError(f"--runs takes 1 to {MAX_RUNS}, got {runs}", hint="leave it out for the usual number")
    check_runnable(model)
    target = None if json in (None, "-") else Path(str(json))
    check_outputs({"--model": model}, {"--json": target})
    environment = describe(shlex.join(["python", "-m", "lab.scaling", *sys.argv[1:]]))
    if busy := busy_note(environment):
        console.warn(busy)
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as place:
        given = commands(model, counts, Path(place))
        take_turns(given, runs)
    made: Json = {
        "schema": SCHEMA,
        "tool": "lab.scaling",
        "environment": environment,
        "model": {"file": model.name, "sha256": sha256_of(model), "size_bytes": model.stat().st_size},
        "runs": runs,
        "points": [{"images": count} | command.to_json() for count, command in zip(counts, given, strict=True)],
    }
    hand_over(made | line_through(made["points"]), render(made["points"]), json, target)


def parse_counts(text: str) -> list[int]:
    """ "25,250" as [25, 250]. Raises `GanportError` unless they are at least two, and rising."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= MAX_N for word in words):
        raise GanportError(
            f"--n takes whole numbers from 1 to {MAX_N}, separated by commas, got {text!r}", hint="such as 1,100,10000"
        )
    counts = [int(word) for word in words]
    if len(counts) < 2 or counts != sorted(set(counts)):
        raise GanportError(f"--n takes two numbers or more, rising, got {text!r}", hint="--n 25,250,2500")
    return counts


def commands(model: Path, counts: Sequence[int], folder: Path) -> list[Command]:
    """gan-gen to an array, for each count."""
    return [
        Command(f"gan-gen --n {count}", [*gan_gen(), "--model", str(model), "--n", str(count), "--out", str(out)], out)
        for count in counts
        for out in [folder / f"{count}.npy"]
    ]


def line_through(points: Sequence[Json]) -> Json:
    """{"start_s", "image_ms", "peak_rss_share"}: what a start and an image cost, and the last peak over the first.

    Least squares through the medians, each weighted by one over its images, so that the start is not drowned.
    """
    images = np.array([point["images"] for point in points], float)
    walls = np.array([point["wall_s"] for point in points])
    slope, start = np.polyfit(images, walls, 1, w=1 / np.sqrt(images))
    peaks = [point["peak_rss_bytes"] for point in points]
    return {
        "start_s": round(float(start), 4),
        "image_ms": round(float(slope) * 1e3, 4),
        "peak_rss_share": None if None in (peaks[0], peaks[-1]) else round(peaks[-1] / peaks[0], 4),
    }


def render(points: Sequence[Json]) -> str:
    """The points as a table, and the line through them."""
    rows = [
        (
            str(point["images"]),
            f"{point['wall_s']:.2f}",
            f"{point['wall_s_low']:.2f}–{point['wall_s_high']:.2f}",
            f"{point['images'] / point['wall_s']:.0f}",
            "–" if point["peak_rss_bytes"] is None else f"{point['peak_rss_bytes'] / 2**20:.0f}",
        )
        for point in points
    ]
    line = line_through(points)
    text = console.table(("images", "wall s", "low–high", "images/s", "peak MiB"), rows, right=range(5))
    return f"{text}\n\na start costs {line['start_s']:.2f} s, an image {line['image_ms']:.2f} ms"


def main() -> NoReturn:
    """The entry point of `python -m lab.scaling`."""
    console.run(app, "python -m lab.scaling")


if __name__ == "__main__":
    main()
