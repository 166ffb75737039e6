"""What gan-bench is asked for, as a `Request` and `Settings`: everything checked that can be without opening a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from gan_bench.measuring.schedule import MIN_ROUNDS
from gan_bench.peers import missing_peers, parse_peers
from gan_bench.records.record import Settings
from gan_bench.records.rows import Request, parse_batches, parse_tf32, parse_threads
from gan_bench.shared.inputs import check_checkpoint
from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.model_file import check_model_file
from gan_serve.runtime.providers import check_name
from gan_serve.terminal import console

WINDOW_S, QUICK_WINDOW_S = 1.0, 0.1
ROUNDS, QUICK_ROUNDS = 12, 4
MIN_CALLS_PER_WINDOW = 34
"""Three windows then hold 100 calls, which a p99 needs."""


def to_request(
    models: list[Path], ckpt: Path | None, peers: str | None, provider: list[str] | None, batch: str, threads: str,
    tf32: str, end_to_end: bool,
) -> Request:  # fmt: skip
    """What is to be measured, from the options' texts. Raises `GanportError`."""
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
        raise GanportError("--end-to-end needs --model, which it draws", hint="--model FILE.onnx")
    chosen: tuple[str, ...] = ()
    if ckpt is not None:
        check_checkpoint(ckpt)
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


def to_settings(
    seconds: float | None, rounds: int | None, quick: bool, timeout: int, roofline: bool, share_process: bool
) -> Settings:
    """How it is measured; None is what is usual, or what `quick` makes of it. Raises `GanportError`."""
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
        raise GanportError(f"--timeout takes 1 to 86400 seconds, got {timeout}", hint="leave it out for 300")
    return Settings(window_s, max_rounds, quick, timeout, MIN_CALLS_PER_WINDOW, roofline, share_process)


def _providers(given: list[str] | None) -> list[str]:
    names = [name.strip() for name in given or ["auto"]]
    if "" in names:
        raise GanportError("--provider is empty", hint="auto, cpu, cuda, …; give --provider again for more rows")
    for name in names:
        check_name(name)
    return names
