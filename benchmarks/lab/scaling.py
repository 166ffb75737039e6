"""How gan-gen's time and memory grow with the number of images: `gan-gen --n N` to an array, for several N.

    python -m lab.scaling --model g.onnx --n 25,250,2500,25000 --json FILE

Each run is a fresh process, timed from its start to its end; all take turns. To an array (.npy), so that the numbers
are those of drawing and streaming; `lab.end_to_end` has the PNG files. The least-squares line through the medians
says what a start and what an image costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from lab import shared
from lab.processes import Command, gan_gen, share, table, take_turns

MAX_N = 1_000_000

app = console.new_app("Time gan-gen for several numbers of images.")


@app.command()
def main_command(
    model: shared.Exported,
    n: Annotated[str, typer.Option("--n", metavar="N,N,…", help="Numbers of images.")] = "25,250,2500,10000",
    runs: shared.Runs = 3,
    json: shared.RecordFile = None,
) -> None:
    """Time gan-gen for several numbers of images, and see whether its memory grows.

    \b
    Example:
      python -m lab.scaling --model g.onnx --n 25,250,2500,10000 --json scaling.json
    """
    counts = parse_counts(n)
    shared.check_numbers({"--runs": (runs, 1, shared.MAX_RUNS)})
    check_runnable(model)
    target = shared.record_target(json, {"--model": model})
    made = shared.new_record("scaling")
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as place:
        given = commands(model, counts, Path(place))
        take_turns(given, runs)
    points = [{"images": count} | command.to_json() for count, command in zip(counts, given, strict=True)]
    made |= {"model": file_provenance(model), "runs": runs, "points": points}
    shared.hand_over(made | line_through(made["points"]), render(made["points"]), json, target)


def parse_counts(text: str) -> list[int]:
    """ "25,250" as [25, 250]. Raises `GanportError` unless they are at least two, and rising."""
    counts = shared.whole_numbers(text, "--n", MAX_N, "such as 1,100,10000")
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
    return {
        "start_s": round(float(start), 4),
        "image_ms": round(float(slope) * 1e3, 4),
        "peak_rss_share": share(points[-1], points[0], "peak_rss_bytes"),
    }


def render(points: Sequence[Json]) -> str:
    """The points as a table, and the line through them."""
    rows = [(str(point["images"]), point | {"images_per_s": point["images"] / point["wall_s"]}) for point in points]
    line, text = line_through(points), table("images", rows, rates=True)
    return f"{text}\n\na start costs {line['start_s']:.2f} s, an image {line['image_ms']:.2f} ms"


if __name__ == "__main__":
    console.run(app, "python -m lab.scaling")
