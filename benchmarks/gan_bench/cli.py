"""The command `gan-bench`."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_bench.compare import check_alike, compare_text
from gan_bench.environment import busy_note, describe, hardware, load_average
from gan_bench.peers import PEERS, missing_peers, parse_peers
from gan_bench.reading import read_record
from gan_bench.records import Settings, dumps
from gan_bench.report import notes, render
from gan_bench.rows import PNG_IMAGES, Request, parse_batches, parse_tf32, parse_threads
from gan_bench.schedule import MIN_ROUNDS
from gan_bench.stages import Bars
from gan_serve import console
from gan_serve.atomic import write_text
from gan_serve.errors import GanportError, JobError, MissingPackageError
from gan_serve.model_file import check_model_file
from gan_serve.outputs import check_outputs
from gan_serve.providers import check_name

Json = dict[str, Any]

WINDOW_S, QUICK_WINDOW_S = 1.0, 0.1
ROUNDS, QUICK_ROUNDS = 12, 4
MIN_CALLS_PER_WINDOW = 34
"""Three windows then hold 100 calls, which a p99 needs."""

HELP = """Measure how fast a generator draws here, beside everything else that could draw it.

One row per file, provider, number of threads and batch size; with --ckpt also PyTorch (eager, channels-last,
torch.compile, TorchScript), the stock ONNX export and OpenVINO. Each row runs in a process of its own; windows of all
rows are taken in turn, so that a machine that drifts drifts for all of them, until each row has settled: its last
three windows, and most of all, within 10 % (else it is marked unstable). A row whose pixels are wrong is struck out,
however fast it is. Beside each row stands its share of what the machine's own matrix product would allow. The table
goes to stdout; docs/benchmarks.md says what each number means.

\b
Examples:
  gan-bench --model g.onnx
  gan-bench --model g.onnx --model g.fp16.onnx --model g.int8.onnx --ckpt g.pt --plot speed.png
  gan-bench --model g.onnx --batch 1,25 --threads 1,2 --json speed.json
  gan-bench --model g.onnx --provider cpu --provider cuda --tf32 off,on
  gan-bench --model g.onnx --compare speed.json
  gan-bench new.json --compare old.json

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
    record: Annotated[
        Path | None, typer.Argument(metavar="RECORD", help="A record to show (and --plot, --compare) again.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The generator: an .onnx file, or a .ts file where torch is installed; give it again "
            "for other precisions. The first fp32 one is the reference, unless there is --ckpt.",
        ),
    ] = None,
    ckpt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its checkpoint: measure PyTorch and others beside it, and compare with it."),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help=f"Which others: all (installed), none, or of {', '.join(PEERS)}. [all]"),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What runs it: auto, cpu, cuda, …; give it again for more rows."),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,N,…", help="Batch sizes, separated by commas.")] = "1,8,25,64",
    threads: Annotated[
        str, typer.Option(metavar="N,N,…", help="CPU threads, separated by commas; auto: as gan-gen does.")
    ] = "auto",
    tf32: Annotated[
        str, typer.Option(metavar="off|on|off,on", help="Whether fp32 products on CUDA may round to TF32.")
    ] = "off",
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help=f"Rows from seeds to {PNG_IMAGES} PNG files on the disk, too.")
    ] = False,
    roofline: Annotated[
        bool, typer.Option("--roofline/--no-roofline", help="Measure the machine's own product and copy beside.")
    ] = True,
    share_process: Annotated[
        bool,
        typer.Option("--share-process", help="One process for all batch sizes: starts faster, memory is of all."),
    ] = False,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the record as JSON to this file; - for stdout.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the record to this file (.png, .svg or .pdf).")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Say what changed beyond noise since this record.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Compare even with a record of another machine or generator.")
    ] = False,
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
    target = None if json in (None, "-") else Path(str(json))
    inputs = {"--ckpt": ckpt, "--compare": compare, "RECORD": record}
    inputs |= {"--model" if index == 0 else f"--model {path}": path for index, path in enumerate(model or [])}
    check_outputs(inputs, {"--json": target, "--plot": plot})
    if plot is not None:
        from gan_bench.plot import check_plot

        check_plot(plot)
    old = read_record(compare) if compare is not None else None
    if record is not None:
        if model or ckpt:
            raise GanportError(
                f"a record ({record}) is shown again, --model and --ckpt are measured: one or the other",
                hint=f"to measure and compare: --model FILE --compare {record}",
            )
        made = read_record(record)
        if old is not None:
            check_alike(old, made, across)
    else:
        settings = _settings(seconds, rounds, quick, timeout, roofline, share_process)
        request = _request(model or [], ckpt, peers, provider, batch, threads, tf32, end_to_end)
        with _terminable():
            made = _measure(request, settings, old, across)
    _show(made, json, target, plot)
    if old is not None:
        text = compare_text(old, made)
        print(text) if json != "-" else console.note(text)
    for line in notes(made):
        console.warn(line)
    if record is None:
        _judge(made)


def _request(
    models: list[Path], ckpt: Path | None, peers: str | None, provider: list[str] | None, batch: str, threads: str,
    tf32: str, end_to_end: bool,
) -> Request:  # fmt: skip
    """Everything checked that can be without opening a file. Raises `GanportError`."""
    if not models and ckpt is None:
        raise GanportError("nothing to measure", hint="gan-bench --model g.onnx, or show a record: gan-bench RECORD")
    providers = _providers(provider)
    for path in models:
        check_model_file(path)
    if len({path.name for path in models}) < len(models):
        raise GanportError("two --model files have the same name", hint="they tell rows apart: rename one")
    if peers is not None and ckpt is None:
        raise GanportError(
            "--peers needs --ckpt, which they draw", hint="the checkpoint that --model was exported from"
        )
    if end_to_end and not models:
        raise GanportError("--end-to-end needs --model, which it draws")
    chosen: tuple[str, ...] = ()
    if ckpt is not None:
        if ckpt.is_dir() or not ckpt.exists():
            what = "is a folder, expected a checkpoint file" if ckpt.is_dir() else "does not exist"
            raise GanportError(f"{ckpt} {what}", hint="gan-train writes one, g.pt; --model is its export")
        if importlib.util.find_spec("torch") is None:
            raise MissingPackageError("torch", "export", "--ckpt")
        chosen = parse_peers("all" if peers is None else peers)
        if peers in (None, "all") and missing_peers():
            console.note(f"note: no rows for {', '.join(missing_peers())}: not installed")
    request = Request(
        models=tuple(models),
        providers=tuple(providers),
        threads=parse_threads(threads),
        batches=parse_batches(batch),
        ckpt=ckpt,
        peers=chosen,
        tf32=parse_tf32(tf32, providers),
        end_to_end=end_to_end,
    )
    if not request.rows("cpu"):
        raise GanportError("no rows", hint="give --model, or let --peers name what draws --ckpt")
    return request


def _measure(request: Request, settings: Settings, old: Json | None, across: bool) -> Json:
    from gan_bench.bench import measure

    environment: Json = {}

    class Watch(Bars):
        def accepted(self, generator: Json) -> None:
            """Is it what the old record is of?"""
            if old is not None:
                check_alike(old, {"environment": {"hardware": hardware()}, "generator": generator}, across)

        def begin(self, label: str, steps: int) -> None:
            """Once nothing can be refused any more and every row's process waits: what else does the machine do?"""
            if label == "measuring":
                environment.update(describe(shlex.join(["gan-bench", *sys.argv[1:]])))
                busy = busy_note(environment)
                if busy:
                    console.warn(busy)
            super().begin(label, steps)

    started = time.monotonic()
    with Watch() as stages:
        measured = measure(request, settings, stages=stages)
    environment["took_s"] = round(time.monotonic() - started, 1)
    environment["load_average_1m_end"] = load_average()
    made: Json = measured.to_json(environment, settings)
    return made


def _show(made: Json, json: str | None, target: Path | None, plot: Path | None) -> None:
    print(dumps(made) if json == "-" else render(made), end="" if json == "-" else "\n", flush=True)
    if json == "-":
        console.note(render(made))
    if target is not None:
        write_text(target, dumps(made))
    if plot is not None:
        from gan_bench.plot import draw

        draw(made, plot)


def _settings(
    seconds: float | None, rounds: int | None, quick: bool, timeout: int, roofline: bool, share_process: bool
) -> Settings:
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
    return Settings(window_s, max_rounds, quick, timeout, MIN_CALLS_PER_WINDOW, roofline, share_process)


def _providers(given: list[str] | None) -> list[str]:
    names = [name.strip() for name in given or ["auto"]]
    if "" in names:
        raise GanportError("--provider is empty", hint="auto, cpu, cuda, …; give --provider again for more rows")
    for name in names:
        check_name(name)
    return names


def _judge(made: Json) -> None:
    """Raises `JobError` when a row drew wrong pixels, or no row was measured."""
    statuses = [row["status"] for row in made["rows"]]
    if "wrong" in statuses:
        raise JobError(
            f"{statuses.count('wrong')} of {len(statuses)} rows drew other pixels than the reference",
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
