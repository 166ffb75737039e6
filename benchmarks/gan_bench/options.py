"""The options of gan-bench, and what they ask for: a `Selection` and `Settings`.

Everything is checked here that can be without opening a file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.peers import PEERS, missing_peers
from gan_bench.record import Settings
from gan_bench.report import FORMATS
from gan_bench.rows import PNG_IMAGES, TF32_PROVIDERS, Selection
from gan_bench.windows import AGREEING_WINDOWS
from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.model_file import check_model_file
from gan_core.installation import pip
from gan_core.said import OnnxAnswers
from gan_serve.runtime.providers import check_name
from gan_serve.terminal import console
from gan_serve.terminal.commands import in_panel

WINDOW_S, QUICK_WINDOW_S = 1.0, 0.1
ROUNDS, QUICK_ROUNDS = 12, 4
MIN_CALLS_PER_WINDOW = 34
"""Three windows then hold 100 calls, which a p99 needs."""
MAX_BATCH, MAX_THREADS = 65_536, 1_024

WHAT, HOW, COMPARISON, OUTPUT = "What is measured", "How it is measured", "Comparison", "Output"
"""The panels of --help."""
of_what, of_how, of_comparison, of_output = map(in_panel, (WHAT, HOW, COMPARISON, OUTPUT))

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE",
        help="Generators, as by --model; or one record (.json), to show, compare or plot again.",
    ),
]
Models = Annotated[
    list[Path] | None,
    of_what(
        metavar="FILE",
        help="A generator: .onnx, of ganport or another exporter, or .ts if torch is installed. Repeats. The first "
        "fp32 one is the reference, unless there is --ckpt.",
    ),
]
BesideCkpt = Annotated[
    Path | None,
    of_what(metavar="FILE", help="Its checkpoint: also measure PyTorch and others, and compare with it."),
]
Peers = Annotated[
    str | None,
    of_what(metavar="NAME,…", help=f"Which others: all (installed), none, or of {', '.join(PEERS)}. [all]"),
]
Providers = Annotated[
    list[str] | None,
    of_what(metavar="NAME", help="What runs it: auto, cpu, cuda, … Repeats. [auto]"),
]
Batches = Annotated[str, of_what(metavar="N,…", help="Images a call.")]
Threads = Annotated[str, of_what(metavar="N,…", help="CPU threads; auto: as gan-gen does.")]
Tf32 = Annotated[
    str,
    of_what(metavar="off|on|off,on", help="Whether fp32 products on CUDA may round to TF32."),
]
EndToEnd = Annotated[
    bool,
    of_what("--end-to-end", help=f"Rows from seeds to {PNG_IMAGES} PNG files, too."),
]
TrustScript = Annotated[
    bool,
    of_what("--trust-script", help="Run .ts files without checking their program, with your rights."),
]
Seconds = Annotated[float | None, of_how(metavar="S", help=f"Length of one window. [{WINDOW_S:g}]")]
Rounds = Annotated[int | None, of_how(metavar="N", help=f"The most windows a row may take. [{ROUNDS}]")]
Quick = Annotated[
    bool,
    of_how("--quick", help=f"A first look: windows of {QUICK_WINDOW_S:g} s, at most {QUICK_ROUNDS}."),
]
Roofline = Annotated[
    bool,
    of_how("--roofline/--no-roofline", help="Measure the machine's own matrix product and copy, too."),
]
ShareProcess = Annotated[
    bool,
    of_how("--share-process", help="One process for all batch sizes: starts faster, but memory is that of all."),
]
Timeout = Annotated[
    int,
    of_how(metavar="S", help="Seconds that a row's process may take to load, or to answer."),
]
Baseline = Annotated[
    str | None,
    of_comparison(metavar="ROW", help='Show ratios to this row: "torch eager", eager, a file or provider.'),
]
Compare = Annotated[
    Path | None,
    of_comparison(metavar="OLD.json", help="Show what changed since this record, beyond noise."),
]
Across = Annotated[
    bool,
    of_comparison("--across", help="Compare with another machine or generator, too."),
]
FailIfSlower = Annotated[
    str | None,
    of_comparison(
        metavar="PERCENT",
        help="Exit code 1 if a row is slower by this much than in --compare, or one of ganport's than --baseline: 10%.",
    ),
]
Format = Annotated[str, of_output(metavar="|".join(FORMATS), help="What goes to stdout.")]
JsonFile = Annotated[
    str | None,
    of_output(metavar="FILE", help="Write the record as JSON to this file; - for stdout."),
]
Plot = Annotated[
    Path | None,
    of_output(metavar="FILE", help="Plot the record to this file: .png, .svg or .pdf."),
]
ListProviders = Annotated[
    bool,
    of_output("--list-providers", help="Show which providers can run models here, and exit."),
]


def sort_files(files: Sequence[Path], models: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """(the record, the models) that are named by their place or by --model. Raises `GanportError`."""
    records = [path for path in files if path.suffix.lower() == ".json"]
    if len(records) > 1:
        raise GanportError(
            "one record is shown at a time", hint=f"to compare them: gan-bench {records[1]} --compare {records[0]}"
        )
    named = list(dict.fromkeys([*(path for path in files if path not in records), *models]))
    return (records[0] if records else None), named


def parse_percent(text: str) -> float:
    """ "10%" or "10" as 0.1. Raises `GanportError` for anything but a number from 0 to less than 100."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1
    if not 0 <= percent < 100:
        raise GanportError(
            f"--fail-if-slower takes a percentage from 0% to less than 100%, got {text!r}",
            hint="10% is usual; less than 5 % counts as noise",
        )
    return percent / 100


def selection(
    models: list[Path], ckpt: Path | None, peers: str | None, provider: list[str] | None, batch: str, threads: str,
    tf32: str, end_to_end: bool, trust_script: bool = False, answers: OnnxAnswers = OnnxAnswers(),
) -> Selection:  # fmt: skip
    """What is to be measured, from the options' texts. Raises `GanportError`."""
    if not models and ckpt is None:
        raise GanportError("nothing to measure", hint="gan-bench g.onnx; or show a record: gan-bench speed.json")
    providers = _providers(provider)
    for path in models:
        check_model_file(path)
    if len({path.name for path in models}) < len(models):
        raise GanportError("two of the files have the same name", hint="they tell rows apart: rename one")
    if peers is not None and ckpt is None:
        raise GanportError("--peers needs --ckpt, which they run", hint="the checkpoint that --model was exported from")
    if end_to_end and not models:
        raise GanportError("--end-to-end needs --model, which it runs", hint="--model FILE.onnx")
    others: tuple[str, ...] = ()
    if ckpt is not None:
        check_checkpoint(ckpt)
        if importlib.util.find_spec("torch") is None:
            raise MissingPackageError("torch", "export", "--ckpt")
        others = parse_peers("all" if peers is None else peers)
        if peers in (None, "all") and missing_peers():
            console.note(f"note: no rows for {', '.join(missing_peers())}: not installed")
    chosen = Selection(
        models=tuple(models),
        providers=tuple(providers),
        threads=parse_threads(threads),
        batches=parse_batches(batch),
        ckpt=ckpt,
        peers=others,
        tf32=parse_tf32(tf32, providers),
        end_to_end=end_to_end,
        trust_script=trust_script,
        answers=None if answers == OnnxAnswers() else answers,
    )
    if not chosen.rows("cpu"):
        raise GanportError("no rows", hint="give --model, or let --peers name what runs --ckpt")
    return chosen


def to_settings(
    seconds: float | None, rounds: int | None, quick: bool, timeout: int, roofline: bool, share_process: bool
) -> Settings:
    """How it is measured; None is what is usual, or what `quick` makes of it. Raises `GanportError`."""
    window_s = seconds if seconds is not None else QUICK_WINDOW_S if quick else WINDOW_S
    max_rounds = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    if not 0.01 <= window_s <= 600:
        raise GanportError(f"--seconds takes 0.01 to 600, got {window_s:g}", hint="1 is usual, 0.1 a first look")
    if not AGREEING_WINDOWS <= max_rounds <= 1000:
        raise GanportError(
            f"--rounds takes {AGREEING_WINDOWS} to 1000, got {max_rounds}",
            hint="three windows must agree for a row to be stable",
        )
    if not 1 <= timeout <= 86_400:
        raise GanportError(f"--timeout takes 1 to 86400 seconds, got {timeout}", hint="leave it out for 300")
    return Settings(window_s, max_rounds, quick, timeout, MIN_CALLS_PER_WINDOW, roofline, share_process)


def _providers(given: list[str] | None) -> list[str]:
    names = [name.strip() for name in given or ["auto"]]
    if "" in names:
        raise GanportError("--provider is empty", hint="auto, cpu, cuda, …; give --provider again for more rows")
    for name in names:
        check_name(name)
    return names


def parse_batches(text: str) -> tuple[int, ...]:
    """ "1,8,25" as (1, 8, 25). Raises `GanportError` for anything but whole numbers from 1, separated by commas."""
    hint = "batch sizes separated by commas, such as --batch 1,8,25,64"
    return tuple(whole_number(item, "--batch", MAX_BATCH, hint) for item in text.split(","))


def parse_threads(text: str) -> tuple[int | None, ...]:
    """ "auto,1,2" as (None, 1, 2). Raises `GanportError` for anything but `auto` and whole numbers from 1."""
    hint = "thread counts separated by commas, or auto (the runtime's own choice), such as --threads 1,2"
    return tuple(
        None if item.strip() == "auto" else whole_number(item, "--threads", MAX_THREADS, hint)
        for item in text.split(",")
    )


def parse_tf32(text: str, providers: Sequence[str]) -> tuple[bool, ...]:
    """ "off,on" as (False, True). Raises `GanportError` for other words, or `on` where no named provider has TF32."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in ("on", "off"):
            raise GanportError(f"--tf32 takes off, on, or off,on, got {word!r}", hint="off,on measures both")
    if "on" in words and not set(providers) & set(TF32_PROVIDERS):
        raise GanportError(
            "--tf32 on needs a provider that has TF32", hint=f"name one: --provider {' or '.join(TF32_PROVIDERS)}"
        )
    return tuple(word == "on" for word in words)


def parse_peers(text: str) -> tuple[str, ...]:
    """ "eager,stock" as a tuple; "all": every peer that is installed; "none": no peer.

    Raises `GanportError` for a name that does not exist, `MissingPackageError` for one that was named and is not
    installed.
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["all"]:
        return tuple(name for name, peer in PEERS.items() if peer.installed)
    if words == ["none"]:
        return ()
    for word in words:
        if word not in PEERS:
            raise GanportError(
                f"--peers takes all, none, or names out of {', '.join(PEERS)}, got {word!r}",
                hint="separate them by commas: --peers compile,stock",
            )
        if not PEERS[word].installed:
            package = PEERS[word].package
            raise MissingPackageError(package, "export", f"--peers {word}", hint=pip(f"install {package}"))
    return tuple(dict.fromkeys(words))


def check_checkpoint(ckpt: Path) -> None:
    """Raises `GanportError` for a path that leads to no file. What is in it, torch says later."""
    if not ckpt.is_file():
        what = "is a folder, expected a checkpoint file" if ckpt.is_dir() else "does not exist"
        raise GanportError(f"{ckpt} {what}", hint="gan-train writes one, g.pt; --model is its export")


def whole_number(item: str, option: str, most: int, hint: str) -> int:
    """One of the numbers of `option`. Raises `GanportError` for anything but a whole number from 1 to `most`."""
    item = item.strip()
    if not (item.isascii() and item.isdigit() and 1 <= int(item[:12]) <= most):
        raise GanportError(f"{option} takes whole numbers from 1 to {most}, got {item!r}", hint=hint)
    return int(item)
