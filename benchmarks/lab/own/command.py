"""The project's own CPU records, from nothing: models, exports, and every benchmark of them. `make bench` runs it.

    python -m lab.own --out benchmarks/results

Models at the tutorials' widths (`lab.own.models`) are exported with the commands that users have, and measured by
them; each step is a process of its own. A step that fails is said, the others go on. An idle machine with two cores
takes about 25 minutes; `--quick` goes through everything in a few, and its records are not to be quoted.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_serve.terminal import console
from lab.own.plan import ALL, Step, plan

STDERR = 2
"""What the steps print is no data of this command's."""

app = console.new_app("Measure the project's own models, and write their records.")


@dataclass(frozen=True)
class Done:
    """A step that was run: its exit code and how long it took."""

    step: Step
    code: int
    took_s: float


@app.command()
def main_command(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the records and pictures go.")],
    models: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the models go, and stay. [build/bench-models]")
    ] = None,
    only: Annotated[str, typer.Option(metavar="NAME,…", help=f"Which parts, out of {', '.join(ALL)}.")] = ",".join(ALL),
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="CKPT", help="Export this checkpoint in fp32, fp16 and int8, and measure it too."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short windows and few images: to see that it works.")] = False,
    width: Annotated[int, typer.Option(metavar="N", help="Of the networks; 64 is the tutorials'.")] = 64,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands and run none.")] = False,
) -> None:
    """Measure the project's own models, and write their records.

    \b
    Examples:
      python -m lab.own --out benchmarks/results
      python -m lab.own --out /tmp/try --quick --only mlp-28
    """
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in ALL:
            raise GanportError(
                f"--only takes names out of {', '.join(ALL)}, got {name!r}", hint="--dry-run lists the steps"
            )
    if not 1 <= width <= 1024:
        raise GanportError(f"--width takes 1 to 1024, got {width}", hint="leave it out for the records' own width")
    for path in also or []:
        if not path.is_file():
            raise GanportError(
                f"{path} is no file, expected a checkpoint",
                hint="name a checkpoint that gan-train wrote, such as runs/NAME/g.pt",
            )
    if out.exists() and not out.is_dir():
        raise GanportError(f"{out} is a file, expected a folder", hint="--out benchmarks/results")
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError("torch", "export", "the models to measure")
    steps = plan(out, models or Path("build/bench-models"), wanted, also or [], quick=quick, width=width)
    if dry_run:
        console.show("\n".join(shlex.join(step.shown) for step in steps))
        return
    out.mkdir(parents=True, exist_ok=True)
    done = run_all(steps)
    console.show(summary(done))
    failed = [item.step.title for item in done if item.code]
    if failed:
        raise JobError(
            f"{len(failed)} of {len(done)} steps failed: {', '.join(failed)}",
            hint="their own errors stand above; --only NAME runs one again",
        )


def run_all(steps: Sequence[Step]) -> list[Done]:
    """Runs the steps one after the other; their output goes to stderr. A step whose inputs are missing fails (127)."""
    done = []
    for number, planned in enumerate(steps, 1):
        step = planned.without([path for path in planned.optional if not path.exists()])
        console.note(f"[{number}/{len(steps)}] {step.title}: {shlex.join(step.shown)}")
        started = time.monotonic()
        absent = [path for path in step.needs if not path.exists()]
        if absent:
            console.warn(f"{step.title}: {absent[0]} was not made")
            code = 127
        else:
            command = [sys.executable, "-P", *step.arguments]
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=STDERR, check=False).returncode
        done.append(Done(step, code, time.monotonic() - started))
    return done


def summary(done: Sequence[Done]) -> str:
    """What was run, how it ended, and how long it took."""
    rows = [(item.step.title, "ok" if item.code == 0 else f"exit {item.code}", f"{item.took_s:.0f}") for item in done]
    total = ("", "", f"{sum(item.took_s for item in done):.0f}")
    return console.table(("step", "", "seconds"), [*rows, total], right=(2,))


def main() -> NoReturn:
    """The entry point of `python -m lab.own`."""
    console.run(app, "python -m lab.own")
