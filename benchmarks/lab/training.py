"""The record of a training run: what was trained, how long, how fast, on what.

    python -m lab.training --run runs/fashion --json benchmarks/results/fashion.json

Everything but the environment comes from the run's own files; the command is the one that `--command` gives, since a
run does not remember how it was typed.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_bench import environment
from gan_bench.record import dumps
from gan_core.errors import GanportError, MissingPackageError
from gan_core.files import check_outputs
from gan_core.files.atomic import write_text
from gan_serve.terminal import console

SCHEMA = 1

app = console.new_app("Write the record of a training run as JSON.")


@app.command()
def main_command(
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="A folder that gan-train wrote.")],
    command: Annotated[str, typer.Option(metavar="TEXT", help="The gan-train command that made it.")],
    note: Annotated[
        str, typer.Option(metavar="TEXT", help="What a reader has to know, such as other work beside it.")
    ] = "",
    *,
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="Where the record goes.")],
) -> None:
    """Write the record of a training run as JSON.

    \b
    Example:
      python -m lab.training --run runs/fashion --command "gan-train --data fashion-mnist" --json fashion.json
    """
    check_outputs({}, {"--json": json_file})
    made = record(run, command, note)
    write_text(json_file, dumps(made))
    console.note(summary(made))
    console.show_path(json_file)


def record(run: Path, command: str, note: str = "") -> dict[str, Any]:
    """The record of the run in `run`. Raises `GanportError` when the folder holds no finished run."""
    try:
        from gan_trainer.networks.generator import load_generator
    except ImportError as error:
        raise MissingPackageError("torch", "train", "reading a training run") from error
    log_file = run / "log.jsonl"
    if not log_file.is_file():
        raise GanportError(
            f"{run} holds no log.jsonl, expected the folder of a gan-train run",
            hint="name the folder that gan-train printed, such as runs/digits",
        )
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise GanportError(f"{log_file} is empty: the run made no report yet", hint="train it further")
    checkpoint = load_generator(run / "g.pt")
    speeds = [line["images_per_s"] for line in lines]
    return {
        "schema": SCHEMA,
        "environment": environment.describe(command),
        "note": note,
        "training": checkpoint.training,
        "generator": {
            "name": checkpoint.spec.name,
            "weights": checkpoint.which,
            "parameters": checkpoint.spec.parameters,
            "image": list(checkpoint.spec.interface.image),
        },
        "images_per_s": {"median": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds)},
        "last_report": lines[-1],
        "reports": len(lines),
    }


def summary(made: dict[str, Any]) -> str:
    """One line for people."""
    training, speed = made["training"], made["images_per_s"]
    return (
        f"{made['generator']['name']} on {training['data']['name']}: {training['steps']} steps, "
        f"{training['images']:,} images in {training['minutes']:.1f} minutes, {speed['median']:.0f} images/s "
        f"({speed['lowest']:.0f} to {speed['highest']:.0f})"
    )


if __name__ == "__main__":
    console.run(app, "python -m lab.training")
