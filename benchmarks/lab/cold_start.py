"""How long until the picture is there, from nothing: gan-gen beside a bare torch script that draws the same.

    python -m lab.cold_start --model g.onnx --ckpt g.pt --json FILE

Each run is a fresh process, timed from its start to its end; the two commands take turns, so that a machine that
drifts drifts for both. Before them each runs once unmeasured: cold means a cold process, not a cold disk. Both pictures
must be the same within 1 LSB, else there is nothing to compare.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from gan_core.fields import Json
from gan_serve.terminal import console
from lab import shared
from lab.processes import (
    Command,
    check_request,
    gan_gen,
    new_record,
    picture_difference,
    script,
    share,
    table,
    take_turns,
)

app = console.new_app("Time gan-gen and a bare torch script from process start to picture.")


@app.command()
def main_command(
    model: shared.Exported,
    ckpt: shared.Checkpoint,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images in the picture.")] = 25,
    runs: shared.Runs = 7,
    json: shared.RecordFile = None,
) -> None:
    """Time gan-gen and a bare torch script from process start to picture.

    \b
    Example:
      python -m lab.cold_start --model g.onnx --ckpt g.pt --runs 7 --json cold-start.json
    """
    target = check_request(model, ckpt, json, {"--n": (n, 1, 10_000), "--runs": (runs, 1, shared.MAX_RUNS)})
    made = new_record("cold_start", model, ckpt)
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder:
        ours, torch_script = commands(model, ckpt, n, Path(folder))
        take_turns([ours, torch_script], runs)
        difference = picture_difference(ours.out, torch_script.out)
    made |= {"images": n, "runs": runs, "pixels_max_lsb": difference, **compare(ours, torch_script)}
    shared.hand_over(made, render(made), json, target)


def commands(model: Path, ckpt: Path, n: int, folder: Path) -> tuple[Command, Command]:
    """(gan-gen, the torch script), each drawing seeds 0 … n - 1 to a picture of its own in `folder`."""
    ours, theirs = folder / "gan-gen.png", folder / "torch.png"
    return (
        Command(
            "gan-gen", [*gan_gen(), "--model", str(model), "--n", str(n), "--scale", "1", "--out", str(ours)], ours
        ),
        Command("torch script", [*script("draw_with_torch.py"), str(ckpt), str(theirs), str(n)], theirs),
    )


def compare(drawn: Command, torch_script: Command) -> Json:
    """Both commands' numbers, and gan-gen's share of the torch script's (medians)."""
    ours, theirs = drawn.to_json(), torch_script.to_json()
    return {
        "gan_gen": ours,
        "torch_script": theirs,
        "wall_share": share(ours, theirs, "wall_s"),
        "peak_rss_share": share(ours, theirs, "peak_rss_bytes"),
    }


def render(made: Json) -> str:
    """The comparison as a table."""
    rows = [("gan-gen", made["gan_gen"]), ("torch script", made["torch_script"])]
    memory = made["peak_rss_share"]
    shares = ("share", f"{made['wall_share']:.3f}", "", "–" if memory is None else f"{memory:.3f}")
    return table(f"{made['images']} images", rows, more=shares)


if __name__ == "__main__":
    console.run(app, "python -m lab.cold_start")
