"""This checkout beside another one of the project: the same commands on the same model, in turn.

    git worktree add ../before COMMIT
    python -m lab.beside --other ../before --model g.onnx --json FILE

Three tasks: a picture from nothing (gan-gen --n 25), a folder of PNG files (gan-gen --n N), and images drawn and thrown
away. Each run is a fresh process of the interpreter that runs this, with the packages of one checkout on its path; what
both draw must be the same within 1 LSB. A ratio above 1 says that this checkout takes longer: the median of the ratios
of runs that came one after the other.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.environment import commit
from gan_bench.windows import spread
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from lab import shared
from lab.processes import Command, Sides, folder_difference, picture_difference, table, take_turns

ROOT = Path(__file__).parents[2]
DRAW = "import gan_serve, sys; [None for _ in gan_serve.load(sys.argv[1]).stream(range(int(sys.argv[2])))]"

SIDES = Sides("this checkout", "the other", "one of them generates wrong images, or both are meant to differ")

app = console.new_app("Time this checkout beside another one of the project.")


@app.command()
def main_command(
    other: Annotated[Path, typer.Option(metavar="FOLDER", help="The other checkout.")],
    model: shared.Exported,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images of the folder, and of those thrown away.")] = 5000,
    runs: shared.Runs = 7,
    json: shared.RecordFile = None,
) -> None:
    """Time this checkout beside another one of the project.

    \b
    Example:
      python -m lab.beside --other ../before --model g.onnx --json beside.json
    """
    shared.check_numbers({"--n": (n, 1, 1_000_000), "--runs": (runs, 1, shared.MAX_RUNS)})
    check_runnable(model)
    target = shared.record_target(json, {"--model": model})
    checkouts = {"this": ROOT, "other": other.resolve()}
    made = shared.new_record("beside", packages=("onnxruntime", "pillow", "typer"))
    made |= {"model": file_provenance(model), "images": n, "runs": runs, "tasks": {}}
    made["commits"] = {name: commit(root) for name, root in checkouts.items()}
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as name:
        for task in ("picture", "folder", "drawing"):
            both = [command(side, root, task, model, n, Path(name)) for side, root in checkouts.items()]
            take_turns(both, runs)
            made["tasks"][task] = compare(*both) | {"pixels_max_lsb": difference(task, n, *both)}
    shared.hand_over(made, render(made), json, target)


def command(side: str, root: Path, task: str, model: Path, n: int, folder: Path) -> Command:
    """One task of the checkout at `root`. Raises `GanportError` when none is there."""
    project = project_of(root)
    path = os.pathsep.join(str(root / Path(package).parent) for package in project["packages"])
    module, function = project["gan-gen"].split(":")
    start = ["env", f"PYTHONPATH={path}", sys.executable, "-P", "-c"]
    gan_gen = [*start, f"from {module} import {function}; {function}()", "--model", str(model), "--n"]
    out = folder / f"{side}-{task}"
    if task == "picture":
        out = out.with_suffix(".png")
        return Command(f"{side}: {task}", [*gan_gen, "25", "--out", str(out)], out)
    if task == "folder":
        return Command(f"{side}: {task}", [*gan_gen, str(n), "--out", f"{out}/"], out)
    return Command(f"{side}: {task}", [*start, DRAW, str(model), str(n)], out)


def project_of(root: Path) -> Json:
    """Where a checkout's packages lie, and its entry point of gan-gen. Raises `GanportError` when it is none."""
    try:
        said = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        packages = said["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        return {"packages": packages, "gan-gen": said["project"]["scripts"]["gan-gen"]}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise GanportError(
            f"{root} is no checkout of this project", hint="git worktree add ../before COMMIT makes one"
        ) from error


def compare(this: Command, other: Command) -> Json:
    """Both commands' numbers, and how many times as long this one takes."""
    ratios = spread([a / b for a, b in zip(this.walls_s, other.walls_s, strict=True)])
    return {
        "this": this.to_json(),
        "other": other.to_json(),
        "ratio": round(ratios.median, 4),
        "ratio_low": round(ratios.low, 4),
        "ratio_high": round(ratios.high, 4),
    }


def difference(task: str, n: int, this: Command, other: Command) -> int | None:
    """The largest difference of what both drew, in LSB; None where nothing is kept."""
    if task == "folder":
        return folder_difference(this.out, other.out, n, SIDES)
    return picture_difference(this.out, other.out, SIDES) if task == "picture" else None


def render(made: Json) -> str:
    """A line for each task and checkout, and the ratios."""
    rows = [(f"{side}: {task}", numbers[side]) for task, numbers in made["tasks"].items() for side in ("this", "other")]
    ratios = ", ".join(
        f"{task} {numbers['ratio']:.3f} ({numbers['ratio_low']:.3f}–{numbers['ratio_high']:.3f})"
        for task, numbers in made["tasks"].items()
    )
    sides = "\n".join(f"{side}: {at}" for side, at in made["commits"].items())
    return f"{table('task', rows)}\n\n{sides}\nthis takes, times the other: {ratios}"


if __name__ == "__main__":
    console.run(app, "python -m lab.beside")
