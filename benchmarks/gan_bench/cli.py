"""The command `gan-bench`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, Self

import typer

import gan_serve
from gan_bench import options
from gan_bench.compare import check_alike, render_comparison, rows_slower_than_baseline, slower_rows
from gan_bench.environment import busy_note, describe, hardware, load_average
from gan_bench.measure import Stages, measure
from gan_bench.record import Settings, dumps, read_record
from gan_bench.report import FORMATS, as_csv, baseline_rows, notes, render, with_ratios
from gan_bench.rows import Selection
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_core.files.atomic import write_text
from gan_core.said import parse_answers
from gan_serve.runtime import providers
from gan_serve.terminal import commands, console
from gan_serve.terminal.commands import answered_by
from gan_serve.terminal.console import Column, table

HELP = """Measure how fast a generator makes images on this machine, and compare ways to run it.

One row per file, provider, number of threads and batch size; with --ckpt also PyTorch (eager, channels-last,
torch.compile, TorchScript), the stock ONNX export and OpenVINO. Each row runs in its own process, and the rows take
turns, window by window, until their speeds settle. A row whose pixels are wrong has no speed and is marked WRONG.
docs/benchmarks.md says what each number means.

\b
Examples:
  gan-bench g.onnx
  gan-bench g.onnx g.int8.onnx theirs.onnx --baseline theirs.onnx
  gan-bench g.onnx --ckpt g.pt --baseline eager --plot speed.png
  gan-bench g.onnx --batch 1,25 --threads 1,2 --json speed.json
  gan-bench g.onnx --provider cpu --provider cuda --tf32 off,on
  gan-bench g.onnx --compare speed.json --fail-if-slower 10%
  gan-bench new.json --compare old.json --format markdown

\b
Exit codes:
  0  measured
  1  a row gave wrong pixels, every row failed, or --fail-if-slower
  2  wrong input
  130  interrupted
"""

app = console.new_app(HELP)


@app.command(help=HELP)
@answered_by(commands.unsaid)
def bench(
    ctx: typer.Context,
    files: options.Files = None,
    model: options.Models = None,
    ckpt: options.BesideCkpt = None,
    peers: options.Peers = None,
    provider: options.Providers = None,
    batch: options.Batches = "1,8,25,64",
    threads: options.Threads = "auto",
    tf32: options.Tf32 = "off",
    end_to_end: options.EndToEnd = False,
    trust_script: options.TrustScript = False,
    seconds: options.Seconds = None,
    rounds: options.Rounds = None,
    quick: options.Quick = False,
    roofline: options.Roofline = True,
    share_process: options.ShareProcess = False,
    timeout: options.Timeout = 300,
    baseline: options.Baseline = None,
    compare: options.Compare = None,
    across: options.Across = False,
    fail_if_slower: options.FailIfSlower = None,
    format: options.Format = "table",  # noqa: A002
    json: options.JsonFile = None,
    plot: options.Plot = None,
    list_providers: options.ListProviders = False,
    answers: Any = None,
) -> None:
    """Parses, checks everything that can be checked, measures, and writes what was asked for."""
    output = _format(format, json)
    if list_providers:
        _show_providers(output)
        return
    record, models = options.sort_files(files or [], model or [])
    target = None if json in (None, "-") else Path(str(json))
    read = {"--ckpt": ckpt, "--compare": compare, "RECORD": record}
    read |= {"--model" if index == 0 else f"--model {path}": path for index, path in enumerate(models)}
    check_outputs(read, {"--json": target, "--plot": plot})
    limit = None if fail_if_slower is None else options.parse_percent(fail_if_slower)
    if limit is not None and compare is None and baseline is None:
        raise GanportError("--fail-if-slower: slower than what?", hint="--compare OLD.json, or --baseline ROW")
    if across and compare is None:
        raise GanportError("--across is about --compare, which is not there", hint="--compare OLD.json --across")
    if plot is not None:
        from gan_bench.plot import check_plot

        check_plot(plot)
    old = read_record(compare) if compare is not None else None
    if record is not None:
        _only_shown(ctx, record, models)
        made = read_record(record)
        if old is not None:
            check_alike(old, made, across)
    else:
        settings = options.to_settings(seconds, rounds, quick, timeout, roofline, share_process)
        unsaid = parse_answers(**answers)
        chosen = options.selection(
            models, ckpt, peers, provider, batch, threads, tf32, end_to_end, trust_script, unsaid
        )
        made = _measure(chosen, settings, _Watch(old, across, baseline))
    if baseline is not None:
        made = with_ratios(made, baseline)
    if target is not None:
        write_text(target, dumps(made))
    _show(made, old, output)
    if plot is not None:
        from gan_bench.plot import draw

        draw(made, plot)
    for line in notes(made):
        console.warn(line)
    if record is None:
        _judge(made)
    if limit is not None:
        _judge_speed(made, old, limit)


def _format(named: str, json: str | None) -> str:
    """What goes to stdout, of `FORMATS`."""
    if named not in FORMATS:
        raise GanportError(f"--format takes {', '.join(FORMATS)}, got {named!r}", hint="leave it out for a table")
    if json == "-" and named not in ("table", "json"):
        raise GanportError(f"--format {named} and --json - both write to stdout", hint="--json FILE writes a file")
    return "json" if json == "-" else named


def _show_providers(output: str) -> None:
    if output not in ("table", "json"):
        raise GanportError(f"--list-providers is a table or JSON, not {output}", hint="--format json")
    found = try_providers()
    console.show_json(found) if output == "json" else console.show(render_providers(found))


def _only_shown(ctx: typer.Context, record: Path, models: Sequence[Path]) -> None:
    """Raises `GanportError` for what is measured, where a record is shown."""
    given = [
        parameter.opts[0]
        for parameter in ctx.command.params
        if getattr(parameter, "rich_help_panel", None) in (options.WHAT, options.HOW, commands.UNSAID)
        and str(getattr(ctx.get_parameter_source(parameter.name or ""), "name", "")) == "COMMANDLINE"
    ]
    if models or given:
        raise GanportError(
            f"{record} is a record, which is shown again; {given[0] if given else models[0]} is for measuring",
            hint=f"to measure and compare: gan-bench g.onnx --compare {record}",
        )


class _Watch(Stages):
    """A progress bar for each stage on stderr, on a terminal; looks at the machine. A context manager."""

    def __init__(self, old: Json | None, across: bool, baseline: str | None) -> None:
        self.old, self.across, self.baseline = old, across, baseline
        self.environment: Json = {}
        self._stack = ExitStack()
        self._bar: Any = None

    def notes(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            console.note(f"note: {sentence}")

    def accepted(self, planned: Json) -> None:
        """Is it what the old record is of, and is there the row that ratios are to be of?"""
        if self.old is not None:
            check_alike(self.old, planned | {"environment": {"hardware": hardware()}}, self.across)
        if self.baseline is not None:
            baseline_rows(planned, self.baseline)

    def begin(self, label: str, steps: int) -> None:
        """Once nothing can be refused any more and every row's process waits: what else does the machine do?"""
        if label == "measuring":
            self.environment = describe(shlex.join(["gan-bench", *sys.argv[1:]]))
            if busy := busy_note(self.environment):
                console.warn(busy)
        self._stack.close()
        self._bar = self._stack.enter_context(console.progress(steps, label))

    def step(self) -> None:
        self._bar.update(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _measure(chosen: Selection, settings: Settings, watch: _Watch) -> Json:
    started = time.monotonic()
    with watch as stages:
        measured = measure(chosen, settings, stages=stages)
    environment = stages.environment
    environment["took_s"] = round(time.monotonic() - started, 1)
    environment["load_average_1m_end"] = load_average()
    return measured.to_json(environment, settings)


def _show(made: Json, old: Json | None, output: str) -> None:
    """The record on stdout, and what has changed; the tables on stderr, where stdout is a program's."""
    for_program = output in ("csv", "json")
    if for_program:
        console.show(as_csv(made) if output == "csv" else dumps(made).removesuffix("\n"))
    if not (for_program and console.is_quiet()):
        stream = sys.stderr if for_program else None
        is_markdown = output == "markdown"
        console.show(render(made, is_markdown), stream)
        if old is not None:
            console.show("\n" + render_comparison(old, made, is_markdown), stream)


def _judge(made: Json) -> None:
    """Raises `JobError` when a row gave wrong pixels, or no row was measured."""
    statuses = [row["status"] for row in made["rows"]]
    if "wrong" in statuses:
        raise JobError(
            f"{statuses.count('wrong')} of {len(statuses)} rows generated other pixels than the reference",
            hint="gan-gen --selftest with that provider looks closer; do not use it for this model",
        )
    if set(statuses) == {"failed"}:
        raise JobError("no row could be measured", hint="the reasons are above, one a row")


def _judge_speed(made: Json, old: Json | None, limit: float) -> None:
    """Raises `JobError` for rows that are slower by more than `limit`."""
    found = {"than before": slower_rows(old, made, limit)} if old is not None else {}
    if "baseline" in made:
        found[f"than {made['baseline']}"] = rows_slower_than_baseline(made, limit)
    said = [f"{than}: {'; '.join(rows)}" for than, rows in found.items() if rows]
    if said:
        raise JobError(
            f"more than {100 * limit:g} % slower {', and '.join(said)}",
            hint="measure again on an idle machine, or allow more with `fail_if_slower`",
        )


def main() -> NoReturn:
    """The entry point of `gan-bench`."""
    console.run(app, "gan-bench")


COLUMNS = (Column("provider"), Column("", state=True), Column("", fit="wrap", least=30))


def try_providers() -> list[Json]:
    """Of every provider its `name`, whether it is `installed` and `works` (opens a model), and a `note`: what runs it,
    why it does not, or how to get it. Raises `MissingPackageError` without onnxruntime.
    """
    here, auto = providers.available(), gan_serve.load().provider
    version = providers.import_onnxruntime().__version__
    found = []
    for name in providers.PROVIDERS:
        works, note = False, providers.how_to_get(name)
        if name in here:
            try:
                gan_serve.load(provider=name)
                plugin = ", as a plug-in" if providers.is_plugin(name) else ""
                works, note = True, f"onnxruntime {version}{plugin}{'; auto takes it' if name == auto else ''}"
            except GanportError as error:
                note = str(error)
        found.append({"name": name, "installed": name in here, "works": works, "note": note})
    return found


def render_providers(found: list[Json]) -> str:
    """The table of `try_providers`."""
    states = {(True, True): "ok", (True, False): "FAIL", (False, False): "not installed"}
    return table(COLUMNS, [(each["name"], states[each["installed"], each["works"]], each["note"]) for each in found])
