"""The command `gan-bench`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, Self

from gan_bench import options
from gan_bench.environment import busy_note, describe, hardware, load_average
from gan_bench.measure import Stages, measure
from gan_bench.record import Settings, read_record
from gan_bench.report import check_alike, compare_text, notes, render
from gan_bench.rows import Selection
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.outputs import check_outputs
from gan_serve.terminal import console

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
    record: options.Record = None,
    model: options.Models = None,
    ckpt: options.BesideCkpt = None,
    peers: options.Peers = None,
    provider: options.Providers = None,
    batch: options.Batches = "1,8,25,64",
    threads: options.Threads = "auto",
    tf32: options.Tf32 = "off",
    end_to_end: options.EndToEnd = False,
    roofline: options.Roofline = True,
    share_process: options.ShareProcess = False,
    json: options.JsonFile = None,
    plot: options.Plot = None,
    compare: options.Compare = None,
    across: options.Across = False,
    seconds: options.Seconds = None,
    rounds: options.Rounds = None,
    quick: options.Quick = False,
    timeout: options.Timeout = 300,
    trust_script: options.TrustScript = False,
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
        settings = options.to_settings(seconds, rounds, quick, timeout, roofline, share_process)
        chosen = options.selection(model or [], ckpt, peers, provider, batch, threads, tf32, end_to_end, trust_script)
        made = _measure(chosen, settings, old, across)
    _show(made, json, target, plot)
    if old is not None:
        text = compare_text(old, made)
        console.show(text, sys.stderr if json == "-" else None)
    for line in notes(made):
        console.warn(line)
    if record is None:
        _judge(made)


class _Watch(Stages):
    """A progress bar for each stage on stderr, on a terminal; looks at the machine. A context manager."""

    def __init__(self, old: Json | None, across: bool) -> None:
        self.old, self.across = old, across
        self.environment: Json = {}
        self._stack = ExitStack()
        self._bar: Any = None

    def notes(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            console.note(f"note: {sentence}")

    def accepted(self, generator: Json) -> None:
        """Is it what the old record is of?"""
        if self.old is not None:
            new = {"environment": {"hardware": hardware()}, "generator": generator}
            check_alike(self.old, new, self.across)

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


def _measure(chosen: Selection, settings: Settings, old: Json | None, across: bool) -> Json:
    started = time.monotonic()
    with _Watch(old, across) as stages:
        measured = measure(chosen, settings, stages=stages)
    environment = stages.environment
    environment["took_s"] = round(time.monotonic() - started, 1)
    environment["load_average_1m_end"] = load_average()
    return measured.to_json(environment, settings)


def _show(made: Json, json: str | None, target: Path | None, plot: Path | None) -> None:
    options.hand_over(made, render(made), json, target)
    if json == "-":
        console.show(render(made), sys.stderr)
    if plot is not None:
        from gan_bench.plot import draw

        draw(made, plot)


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


def main() -> NoReturn:
    """The entry point of `gan-bench`."""
    console.run(app, "gan-bench")
