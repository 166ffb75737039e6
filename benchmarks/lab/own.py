"""The project's own CPU records, from nothing: models, exports, and every benchmark of them. `make bench` runs it.

    python -m lab.own --out benchmarks/results

Models at the tutorials' widths (`lab.lively_models`) are exported with the commands that users have, and measured by
them; each step is a process of its own. A step that fails is said, the others go on. An idle machine with two cores
takes about 25 minutes, and more for dcgan-128; `--quick` goes through everything in a few, and its records are not to
be quoted.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_serve.terminal import console
from lab import shared

MODELS = ("mlp-28", "dcgan-64", "dcgan-96", "dcgan-128")
WHOLE = "dcgan-64"
"""The model that is also measured in lower precisions, and in whole processes."""
ALL = (*MODELS, "cold-start", "end-to-end", "scaling")
PRECISIONS = ("fp32", "fp16", "int8")

_IN_MEMORY = ("--folder", "/dev/shm") if Path("/dev/shm").is_dir() else ()
"""Ten thousand small files measure the disk more than the program; `lab.end_to_end` times the disk beside it."""

_COMMANDS = {"gan-export": "gan_export.cli", "gan-bench": "gan_bench.cli"}
STDERR = 2
"""What the steps print is no data of this command's."""

app = console.new_app("Measure the project's own models, and write their records.")


@dataclass(frozen=True)
class Step:
    """One process: Python's `arguments`, and the command as a user would type it.

    needs     files it cannot do without
    optional  files named by `--model` that it can: without them it measures the others
    """

    title: str
    arguments: tuple[str, ...]
    shown: tuple[str, ...]
    needs: tuple[Path, ...] = ()
    optional: tuple[Path, ...] = ()

    def without(self, absent: Sequence[Path]) -> Step:
        """The same step without these `--model` files."""
        return replace(self, arguments=_without(self.arguments, absent), shown=_without(self.shown, absent))


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
    shared.check_numbers({"--width": (width, 1, 1024)})
    for path in also or []:
        if not path.is_file():
            raise GanportError(
                f"{path} is no file, expected a checkpoint",
                hint="name a checkpoint that gan-train wrote, such as runs/NAME/g.pt",
            )
    if out.exists() and not out.is_dir():
        raise GanportError(f"{out} is a file, expected a folder", hint="--out benchmarks/results")
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


def _without(words: tuple[str, ...], absent: Sequence[Path]) -> tuple[str, ...]:
    names = {str(path) for path in absent}
    pairs = zip(words, (*words[1:], ""), strict=True)
    dropped = [word == "--model" and following in names for word, following in pairs]
    return tuple(
        word for word, gone, before in zip(words, dropped, [False, *dropped], strict=False) if not gone | before
    )


def plan(
    out: Path, models: Path, wanted: Sequence[str], also: Sequence[Path], *, quick: bool, width: int
) -> list[Step]:
    """Every step, models first. The names of the records are those that the documentation quotes."""
    steps: list[Step] = []
    networks = [name for name in MODELS if name in wanted]
    if set(wanted) - set(MODELS) and WHOLE not in networks:
        networks.append(WHOLE)
    for name in networks:
        write = f"from lab.lively_models import write_model; from pathlib import Path; write_model({name!r}, "
        code = f"{write}Path({str(models)!r}), {width})"
        steps.append(Step(f"{name} model", ("-c", code), ("python", "-c", code)))
        precisions = PRECISIONS if name == WHOLE else ("fp32",)
        steps += [
            _export(models / f"{name}.pt", models / _file(name, precision), precision) for precision in precisions
        ]
        if name in wanted:
            files = [models / _file(name, precision) for precision in precisions]
            steps.append(_bench(name, files, models / f"{name}.pt", out, quick))
    for checkpoint in also:
        name = checkpoint.stem.replace("_", "-")
        files = [models / _file(name, precision) for precision in PRECISIONS]
        for file, precision in zip(files, PRECISIONS, strict=True):
            steps.append(_export(checkpoint, file, precision, "--accept"))
        steps.append(_bench(name, files, checkpoint, out, quick, batches="1,25"))
    return steps + [step for name, step in _whole(out, models, quick).items() if name in wanted]


def _whole(out: Path, models: Path, quick: bool) -> dict[str, Step]:
    """The benchmarks of whole processes."""
    model, checkpoint = models / _file(WHOLE, "fp32"), models / f"{WHOLE}.pt"
    both = ("--model", str(model), "--ckpt", str(checkpoint))
    return {
        "cold-start": _module(
            "lab.cold_start", (*both, "--n", "25", "--runs", "2" if quick else "7"),
            out / "cold-start-dcgan64.json", (model, checkpoint),
        ),
        "end-to-end": _module(
            "lab.end_to_end",
            (*both, "--n", "200" if quick else "10000", "--runs", "1" if quick else "3", *_IN_MEMORY),
            out / "end-to-end-dcgan64.json", (model, checkpoint),
        ),
        "scaling": _module(
            "lab.scaling",
            ("--model", str(model), "--n", "25,100" if quick else "25,250,2500,10000", "--runs", "1" if quick else "3"),
            out / "scaling-dcgan64.json", (model,),
        ),
    }  # fmt: skip


def _export(checkpoint: Path, target: Path, precision: str, *more: str) -> Step:
    given = ("--ckpt", str(checkpoint), "--out", str(target), "--precision", precision, *more)
    return _command(f"{target.name}", "gan-export", ("onnx", *given), (checkpoint,))


def _bench(
    name: str, files: Sequence[Path], checkpoint: Path, out: Path, quick: bool, batches: str = "1,8,25,64"
) -> Step:
    """The record is called cpu-NAME.json, the picture cpu-NAME.png; the names are without the architecture's dash.

    A lower precision whose export failed its proof is left out (its own step has failed, and said why).
    """
    stem = "cpu-" + name.replace("dcgan-", "dcgan").replace("mlp-", "mlp")
    given = [word for file in files for word in ("--model", str(file))]
    given += ["--ckpt", str(checkpoint), "--provider", "cpu", "--batch", "2" if quick else batches, "--end-to-end"]
    given += ["--quick", "--rounds", "3", "--peers", "eager,stock"] if quick else ["--seconds", "0.5"]
    given += ["--json", str(out / f"{stem}.json"), "--plot", str(out / f"{stem}.png")]
    step = _command(f"{name} benchmark", "gan-bench", tuple(given), (files[0], checkpoint))
    return replace(step, optional=tuple(files[1:]))


def _file(name: str, precision: str) -> str:
    return f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx"


def _command(title: str, command: str, arguments: tuple[str, ...], needs: tuple[Path, ...]) -> Step:
    """A command of ours, by its module: it need not be on the PATH. The record shows it as typed."""
    start = f"import sys; sys.argv[0] = {command!r}; from {_COMMANDS[command]} import main; main()"
    return Step(title, ("-c", start, *arguments), (command, *arguments), needs)


def _module(module: str, arguments: tuple[str, ...], record: Path, needs: tuple[Path, ...]) -> Step:
    given = ("-m", module, *arguments, "--json", str(record))
    return Step(module.removeprefix("lab."), given, ("python", *given), needs)


if __name__ == "__main__":
    console.run(app, "python -m lab.own")
