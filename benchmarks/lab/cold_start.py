"""How long until the picture is there, from nothing: gan-gen beside a bare torch script that draws the same.

    python -m lab.cold_start --model g.onnx --ckpt g.pt --json FILE

Each run is a fresh process, timed from its start to its end; the two commands take turns, so that a machine that
drifts drifts for both. Before them each runs once unmeasured: cold means a cold process, not a cold disk. Both pictures
must be the same within 1 LSB, else there is nothing to compare.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gan_bench.shared.output import hand_over
from gan_bench.shared.stats import Spread
from gan_serve.terminal import console
from lab import options
from lab.processes.commands import (
    Command,
    Json,
    check_request,
    gan_gen,
    new_record,
    picture_difference,
    script,
    take_turns,
)

app = console.new_app("Time gan-gen and a bare torch script from process start to picture.")


@app.command()
def main_command(
    model: options.Exported,
    ckpt: options.Checkpoint,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images in the picture.")] = 25,
    runs: options.Runs = 7,
    json: options.RecordFile = None,
) -> None:
    """Time gan-gen and a bare torch script from process start to picture.

    \b
    Example:
      python -m lab.cold_start --model g.onnx --ckpt g.pt --runs 7 --json cold-start.json
    """
    target = check_request(model, ckpt, json, {"--n": (n, 10_000), "--runs": (runs, 1000)})
    made = new_record("lab.cold_start", model, ckpt)
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder:
        ours, torch_script = commands(model, ckpt, n, Path(folder))
        take_turns([ours, torch_script], runs)
        difference = picture_difference(ours.out, torch_script.out)
    made |= {"images": n, "runs": runs, "pixels_max_lsb": difference, **compare(ours, torch_script)}
    hand_over(made, render(made), json, target)


def commands(model: Path, ckpt: Path, n: int, folder: Path) -> tuple[Command, Command]:
    """(gan-gen, the torch script), each drawing seeds 0 … n - 1 to a picture of its own in `folder`."""
    ours, theirs = folder / "gan-gen.png", folder / "torch.png"
    return (
        Command("gan-gen", [*gan_gen(), "--model", str(model), "--n", str(n), "--out", str(ours)], ours),
        Command("torch script", [*script("draw_with_torch.py"), str(ckpt), str(theirs), str(n)], theirs),
    )


def compare(drawn: Command, torch_script: Command) -> Json:
    """Both commands' numbers, and gan-gen's share of the torch script's (medians)."""
    ours, theirs = drawn.to_json(), torch_script.to_json()
    peaks = ours["peak_rss_bytes"], theirs["peak_rss_bytes"]
    return {
        "gan_gen": ours,
        "torch_script": theirs,
        "wall_share": round(ours["wall_s"] / theirs["wall_s"], 4),
        "peak_rss_share": None if None in peaks else round(peaks[0] / peaks[1], 4),
    }


def render(made: Json) -> str:
    """The comparison as a table."""
    rows = []
    for name, key in (("gan-gen", "gan_gen"), ("torch script", "torch_script")):
        numbers = made[key]
        wall = Spread(numbers["wall_s"], numbers["wall_s_low"], numbers["wall_s_high"])
        peak = numbers["peak_rss_bytes"]
        rows.append(
            (name, f"{wall.median:.2f}", f"{wall.low:.2f}–{wall.high:.2f}", f"{peak / 2**20:.0f}" if peak else "–")
        )
    memory = made["peak_rss_share"]
    rows.append(("share", f"{made['wall_share']:.3f}", "", "–" if memory is None else f"{memory:.3f}"))
    return console.table((f"{made['images']} images", "wall s", "low–high", "peak MiB"), rows, right=(1, 2, 3))


def main() -> NoReturn:
    """The entry point of `python -m lab.cold_start`."""
    console.run(app, "python -m lab.cold_start")


if __name__ == "__main__":
    main()
