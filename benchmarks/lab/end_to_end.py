"""From seeds to a folder of PNG files: gan-gen beside its model alone, and beside torch with save_image.

    python -m lab.end_to_end --model g.onnx --ckpt g.pt --n 10000 --json FILE

Each run is a fresh process, timed from its start to its end, in turn with the others: gan-gen --n N to a folder; the
same images drawn and thrown away; gan-gen --n N/10, whose memory should be the same; a bare torch script that writes
the same files. The images of both folders must be the same within 1 LSB. What the disk itself takes for files of these
sizes is measured beside, because on some machines that is more than all the rest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.windows import spread
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files import check_writable
from gan_serve.terminal import console
from lab import shared
from lab.processes import (
    Command,
    check_request,
    folder_difference,
    gan_gen,
    new_record,
    script,
    share,
    table,
    take_turns,
)

FEWER = 10
"""gan-gen also draws N / 10, for its memory."""
_DISK_RUNS = 3
_KEYS = ("gan_gen", "model_alone", "gan_gen_fewer", "torch_script")

app = console.new_app("Time a folder of PNG files, beside the model alone and beside torch.")


@app.command()
def main_command(
    model: shared.Exported,
    ckpt: shared.Checkpoint,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images, a file each.")] = 10_000,
    runs: shared.Runs = 3,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write here, and remove it again. [the system's for temporary files]"),
    ] = None,
    json: shared.RecordFile = None,
) -> None:
    """Time gan-gen to a folder of PNG files, beside the model alone and beside torch with save_image.

    \b
    Example:
      python -m lab.end_to_end --model g.onnx --ckpt g.pt --n 10000 --json end-to-end.json
    """
    if 0 < n < FEWER:
        raise GanportError(
            f"--n takes {FEWER} or more, got {n}",
            hint="the time of one image is a difference between two counts, so it needs enough of them",
        )
    target = check_request(model, ckpt, json, {"--n": (n, 1, 1_000_000), "--runs": (runs, 1, shared.MAX_RUNS)})
    if folder is not None:
        if not folder.is_dir():
            raise GanportError(f"{folder} is no folder", hint="make it, or leave --folder out")
        check_writable(folder / "x")
    made = new_record("end_to_end", model, ckpt)
    with tempfile.TemporaryDirectory(prefix="gan-bench-", dir=folder) as place:
        given = commands(model, ckpt, n, Path(place))
        take_turns(given, runs)
        ours, theirs = given[0].out, given[3].out
        difference = folder_difference(ours, theirs, n)
        sizes = [file.stat().st_size for file in sorted(ours.iterdir())]
        disk_s = [plain_writes_s(sizes, Path(place) / "plain") for _ in range(_DISK_RUNS)]
    made |= {"images": n, "images_fewer": n // FEWER, "runs": runs, "pixels_max_lsb": difference}
    made |= {"png_bytes_mean": round(sum(sizes) / n), "disk_alone_s": round(spread(disk_s).median, 4)}
    made |= compare(given, n)
    shared.hand_over(made, render(made), json, target)


def commands(model: Path, ckpt: Path, n: int, folder: Path) -> list[Command]:
    """gan-gen, the model alone, gan-gen with fewer images, the torch script: the order of the record's keys."""
    ours, fewer, theirs = folder / "gan-gen", folder / "fewer", folder / "torch"
    draw = [*gan_gen(), "--model", str(model), "--out"]
    return [
        Command("gan-gen", [*draw, f"{ours}/", "--n", str(n)], ours),
        Command("model alone", [*script("draw_only.py"), str(model), str(n)], folder / "nothing"),
        Command(f"gan-gen --n {n // FEWER}", [*draw, f"{fewer}/", "--n", str(n // FEWER)], fewer),
        Command("torch script", [*script("write_with_torch.py"), str(ckpt), str(theirs), str(n)], theirs),
    ]


def plain_writes_s(sizes: Sequence[int], folder: Path) -> float:
    """How long files of these sizes take to write when nothing else is done, in seconds. Removes them again."""
    data = os.urandom(max(sizes))
    folder.mkdir()
    started = time.perf_counter()
    for number, size in enumerate(sizes):
        with (folder / f"{number:06d}").open("wb", buffering=0) as file:
            file.write(memoryview(data)[:size])
    took_s = time.perf_counter() - started
    shutil.rmtree(folder)
    return took_s


def compare(given: Sequence[Command], n: int) -> Json:
    """The commands' numbers by the record's keys, and what they say of gan-gen (medians)."""
    made: Json = {key: command.to_json() for key, command in zip(_KEYS, given, strict=True)}
    for key in ("gan_gen", "model_alone", "torch_script"):
        made[key]["images_per_s"] = round(n / made[key]["wall_s"], 1)
    ours = made["gan_gen"]
    return made | {
        "wall_share_of_model_alone": share(ours, made["model_alone"], "wall_s"),
        "times_torch_script": share(made["torch_script"], ours, "wall_s", digits=3),
        "peak_rss_share_of_fewer": share(ours, made["gan_gen_fewer"], "peak_rss_bytes"),
    }


def render(made: Json) -> str:
    """The comparison as a table, and what the disk took."""
    names = ("gan-gen", "model alone", f"gan-gen --n {made['images_fewer']}", "torch script")
    rows = [(name, made[key]) for key, name in zip(_KEYS, names, strict=True)]
    shown = table(f"{made['images']} files", rows, rates=True)
    memory = made["peak_rss_share_of_fewer"]
    return shown + (
        f"\n\ngan-gen takes {made['wall_share_of_model_alone']:.2f} of the model's own time and is "
        f"{made['times_torch_script']:.1f} times as fast as the torch script; memory is "
        f"{'unknown' if memory is None else format(memory, '.2f')} of that with {made['images_fewer']} images. "
        f"The disk alone: {made['disk_alone_s']:.2f} s for files of {made['png_bytes_mean']} bytes."
    )


if __name__ == "__main__":
    console.run(app, "python -m lab.end_to_end")
