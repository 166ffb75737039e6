"""The command `gan-bench`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_bench import rows as row_lists
from gan_bench.environment import busy_note, describe, load_average
from gan_bench.records import Settings, dumps, record
from gan_bench.report import notes, render
from gan_bench.schedule import MIN_ROUNDS
from gan_serve import console
from gan_serve.atomic import write_text
from gan_serve.errors import GanportError, JobError
from gan_serve.model_file import check_model_file
from gan_serve.outputs import check_outputs

Json = dict[str, Any]

WINDOW_S, QUICK_WINDOW_S = 1.0, 0.1
ROUNDS, QUICK_ROUNDS = 12, 4
MIN_CALLS_PER_WINDOW = 34
"""Three windows then hold 100 calls, which a p99 needs."""

HELP = """Measure how fast a generator file draws here: images/s, latency, start-up time, memory.

One row per provider, number of threads and batch size. Each row runs in a process of its own; windows of all rows
are taken in turn, so that a machine that drifts drifts for all of them, until each row has settled: its last three
windows, and most of all, within 10 % (else it is marked unstable). A row whose pixels are not those of the CPU
provider is struck out, however fast it is. The table goes to stdout; docs/benchmarks.md says what each number means.

\b
Examples:
  gan-bench --model g.onnx
  gan-bench --model g.onnx --batch 1,25 --threads 1,2 --plot speed.png
  gan-bench --model g.onnx --provider cpu --provider cuda --json speed.json
  gan-bench --model g.onnx --quick --json -

\b
Exit codes:
  0  measured
  1  a row drew wrong pixels, or every row failed
  2  wrong input
  130  interrupted
"""

app = console.new_app(HELP)


@app.command(help=HELP)
def bench(
    model: Annotated[
        Path, typer.Option(metavar="FILE", help="The generator: an .onnx file, or a .ts file where torch is installed.")
    ],
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What runs it: auto, cpu, cuda, …; give it again for more rows."),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,N,…", help="Batch sizes, separated by commas.")] = "1,8,25,64",
    threads: Annotated[
        str, typer.Option(metavar="N,N,…", help="CPU threads, separated by commas; auto: as gan-gen does.")
    ] = "auto",
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the record as JSON to this file; - for stdout.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the record to this file (.png, .svg or .pdf).")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help=f"Length of one window in seconds. [{WINDOW_S:g}]")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", help=f"The most windows a row may take. [{ROUNDS}]")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help=f"Windows of {QUICK_WINDOW_S:g} s, at most {QUICK_ROUNDS}: a first look."),
    ] = False,
    timeout: Annotated[
        int,
        typer.Option(
            metavar="S", help="Seconds a row's process may take to load, or to answer, before it is given up."
        ),
    ] = 300,
) -> None:
    """Parses, checks everything that can be checked, measures, and writes what was asked for."""
    settings = _settings(seconds, rounds, quick, timeout)
    wanted = row_lists.make_rows(_providers(provider), row_lists.parse_threads(threads), row_lists.parse_batches(batch))
    target = None if json in (None, "-") else Path(str(json))
    check_model_file(model)
    check_outputs({"--model": model}, {"--json": target, "--plot": plot})
    if plot is not None:
        from gan_bench.plot import check_plot

        check_plot(plot)
    with _terminable():
        made = _measure(model, wanted, settings)
    print(dumps(made) if json == "-" else render(made), end="" if json == "-" else "\n", flush=True)
    if json == "-":
        console.note(render(made))
    if target is not None:
        write_text(target, dumps(made))
    if plot is not None:
        from gan_bench.plot import draw

        draw(made, plot)
    for line in notes(made):
        console.warn(line)
    _judge(made)


def _measure(model: Path, wanted: tuple[row_lists.Row, ...], settings: Settings) -> Json:
    from gan_bench.bench import measure

    environment: Json = {}

    def look_around() -> None:
        """Once nothing can be refused any more and every row's process waits: what else does the machine do?"""
        environment.update(describe(shlex.join(["gan-bench", *sys.argv[1:]])))
        busy = busy_note(environment)
        if busy:
            console.warn(busy)

    started = time.monotonic()
    with console.progress(len(wanted) * settings.max_rounds, "measuring") as bar:
        about, results = measure(
            model, wanted, settings, before_windows=look_around, after_window=lambda: bar.update(1)
        )
    environment["took_s"] = round(time.monotonic() - started, 1)
    environment["load_average_1m_end"] = load_average()
    return record(environment, about, settings, results)


def _settings(seconds: float | None, rounds: int | None, quick: bool, timeout: int) -> Settings:
    window_s = seconds if seconds is not None else QUICK_WINDOW_S if quick else WINDOW_S
    max_rounds = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    if not 0.01 <= window_s <= 600:
        raise GanportError(f"--seconds takes 0.01 to 600, got {window_s:g}", hint="1 is usual, 0.1 a first look")
    if not MIN_ROUNDS <= max_rounds <= 1000:
        raise GanportError(
            f"--rounds takes {MIN_ROUNDS} to 1000, got {max_rounds}",
            hint="three windows must agree for a row to be stable",
        )
    if not 1 <= timeout <= 86_400:
        raise GanportError(f"--timeout takes 1 to 86400 seconds, got {timeout}")
    return Settings(window_s, max_rounds, quick, timeout, MIN_CALLS_PER_WINDOW)


def _providers(given: list[str] | None) -> list[str]:
    names = [name.strip() for name in given or ["auto"]]
    if "" in names:
        raise GanportError("--provider is empty", hint="auto, cpu, cuda, …; give --provider again for more rows")
    return names


def _judge(made: Json) -> None:
    """Raises `JobError` when a row drew wrong pixels, or no row was measured."""
    statuses = [row["status"] for row in made["rows"]]
    if "wrong" in statuses:
        raise JobError(
            f"{statuses.count('wrong')} of {len(statuses)} rows drew other pixels than the CPU provider",
            hint="gan-gen --selftest with that provider looks closer; do not use it for this model",
        )
    if set(statuses) == {"failed"}:
        raise JobError("no row could be measured", hint="the reasons are above, one a row")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM ends a benchmark as Ctrl-C does: workers killed, nothing written, exit code 130."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> NoReturn:
    """The entry point of `gan-bench`."""
    console.run(app, "gan-bench")
