"""A record as text: one line a row, grouped by batch size, what a reader must know beside it; or two records compared.

A row's windows scatter; their middle half (the quartiles) says how much. A row has changed when the middle halves of
old and new do not overlap, and the medians differ by more than 5 %: from process to process the same code differs by
some per cent, for where its memory came to lie. Rows that are unstable in either record are compared by their whole
range.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from gan_bench.peers import PEERS
from gan_bench.rows import OURS, threads_label
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_serve.terminal.console import table

HEADER = (
    "", "runs on", "images/s", "low–high", "limit", "p50 ms", "p99 ms", "1st ms", "open ms", "MiB", "LSB", "",
)  # fmt: skip
NONE = "–"
BEST, STRUCK = "◂ best", "✗"
NAME_WIDTH = 19
"""So that a table stays within 120 columns; a longer name loses its middle."""
CHANGED = 0.05
COMPARED = ("row", "old images/s", "new images/s", "change", "")


def render(record: Json) -> str:
    """The table of a record, under lines that name the generator, the machine and its limits."""
    rows: list[Json] = record["rows"]
    lines: list[tuple[str, ...]] = []
    for task, batch in dict.fromkeys((row["task"], row["batch"]) for row in rows):
        group = [row for row in rows if (row["task"], row["batch"]) == (task, batch)]
        title = f"{batch} PNG files" if task == "png" else f"batch {batch}"
        lines.append((title, *[""] * (len(HEADER) - 1)))
        best = best_of(group)
        lines += [_line(row, row is best) for row in group]
    width = len(HEADER) if any(line[-1] for line in lines) else len(HEADER) - 1  # no column of empty notes
    text = table(HEADER[:width], [line[:width] for line in lines], right=range(2, 11))
    return "\n".join([f"{model_line(record)} on {machine_line(record)}", *_limit_lines(record), text])


def model_line(record: Json) -> str:
    """The generator in a few words."""
    generator = record["generator"]
    channels, height, width = generator["image"]
    words = f"{generator['name']}, {width}×{height}×{channels}"
    flops = generator["flops_per_image"]
    return words if flops is None else f"{words}, {operations(flops)} an image"


def operations(flops: float) -> str:
    """ "0.21 GFLOP", "3.01 MFLOP"."""
    return f"{number(flops / 1e9)} GFLOP" if flops >= 1e8 else f"{number(flops / 1e6)} MFLOP"


def machine_line(record: Json) -> str:
    """The machine and our runtime in a few words: a number means nothing without them."""
    hardware = record["environment"]["hardware"]
    cores = hardware["cores_usable"]
    runtime = next((model["runtime"] for model in record["models"]), None)
    gpus = [gpu.split(",")[0] for gpu in hardware["gpus"]]
    words = [hardware["cpu"], f"{cores} core{'s' if cores != 1 else ''}", *gpus]
    return ", ".join(words + ([f"{runtime['name']} {runtime['version']}"] if runtime else []))


def best_of(rows: Sequence[Json]) -> Json | None:
    """The fastest row that settled, where there are at least two to choose from."""
    measured = [row for row in rows if row["status"] == "ok"]
    if len(measured) < 2:
        return None
    return max(measured, key=lambda row: row["images_per_s"])


def label(row: Json) -> str:
    """What draws, in a few words: "ganport fp16", "torch.compile", "torch eager fp16 (TF32)"."""
    known = PEERS.get(row["runtime"])
    name = OURS if row["runtime"] == OURS else known.label if known else row["runtime"]
    precision = "" if row["precision"] == "fp32" else f" {row['precision']}"
    return f"{name}{precision}{' TF32' if row['tf32'] else ''}"


def place(row: Json) -> str:
    """Where it runs: "cpu ×2"."""
    threads = threads_label(row["threads"])
    provider = row["provider"] or row["provider_requested"]
    return provider if provider in ("cuda", "tensorrt") else f"{provider} ×{threads}"


def row_name(row: Json) -> str:
    """A row in one phrase."""
    what = f"{row['batch']} PNG files" if row["task"] == "png" else f"batch {row['batch']}"
    return f"{label(row)}, {place(row)}, {what}"


def notes(record: Json) -> list[str]:
    """Sentences about the rows that need one, for stderr."""
    rows: Sequence[Json] = record["rows"]
    lines = [f"{row_name(row)}: {row['status']}: {row['reason']}" for row in rows if row["reason"]]
    lines += [
        f"{row_name(row)}: {row['cpu_nodes']} nodes fell to the CPU"
        for row in rows
        if row["cpu_nodes"] and row["provider"] != "cpu"
    ]
    if any(row["status"] == "unstable" for row in rows):
        lines.append(
            f"unstable: not settled within 10 % after {record['settings']['max_rounds']} rounds: quote its range, "
            "stop other work, or allow more with `rounds`"
        )
    if any(row["latency_calls"] and row["latency_p99_ms"] is None and row["task"] == "pixels" for row in rows):
        lines.append(f"{NONE} under p99: fewer than 100 calls, too few to tell; give longer `seconds`")
    if record["settings"]["roofline"]:
        lines += [f"limit of {limit['device']}: {limit['reason']}" for limit in record["limits"] if limit["reason"]]
        if record["generator"]["flops_per_image"] is None:
            lines.append("no limits: the files carry no spec to count operations in, and the package onnx is missing")
    return lines


def _limit_lines(record: Json) -> list[str]:
    lines = []
    for limit in record["limits"]:
        if limit["product_gflop_per_s"] is None:
            continue
        copy = limit["copy_gb_per_s"]
        size = limit["product_size"]
        threads = "" if limit["threads"] is None else f" ×{limit['threads']}"
        lines.append(
            f"limit {limit['device']}{threads} {limit['precision']}: {number(limit['product_gflop_per_s'])} GFLOP/s "
            f"({limit['product_by']}, {size}²){'' if copy is None else f', copy {number(copy)} GB/s'}"
        )
    return lines


def _line(row: Json, best: bool) -> tuple[str, ...]:
    measured = row["images_per_s"] is not None
    peak = row["peak_rss_bytes"]
    start = [value for value in (row["import_ms"], row["session_create_ms"]) if value is not None]
    share = row["limit_fraction"]
    note = BEST if best else row["status"] if measured and row["status"] != "ok" else ""
    return (
        _shortened(label(row) if measured or row["status"] != "wrong" else f"{STRUCK} {label(row)}"),
        place(row),
        number(row["images_per_s"]) if measured else row["status"].upper(),
        f"{number(row['images_per_s_low'])}–{number(row['images_per_s_high'])}" if measured else NONE,
        NONE if share is None else f"{share:.2f}",
        *(number(row[f"latency_{name}_ms"]) for name in ("p50", "p99")),
        number(row["first_run_ms"]),
        number(sum(start)) if start else NONE,
        NONE if peak is None else f"{peak / 2**20:.0f}",
        _parity(row),
        note,
    )


def _parity(row: Json) -> str:
    """In the measure that the row's precision is held to: LSB, or dB below fp32."""
    parity = row["parity"]
    if parity is None:
        return NONE
    if (row["precision"] == "fp32" and not row["tf32"]) or parity["psnr_db"] is None:
        return str(parity["pixels_max_lsb"])
    return f"{parity['psnr_db']:.0f} dB"


def _shortened(name: str) -> str:
    half = NAME_WIDTH // 2
    return f" {name}" if len(name) <= NAME_WIDTH else f" {name[:half]}…{name[-half:]}"


def number(value: float | None) -> str:
    """Three significant digits without an exponent; whole numbers from 100."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def key_of(row: Json) -> tuple[Any, ...]:
    """What makes two rows the same row in two records. The file's name does not: its precision does."""
    keys = ("task", "runtime", "precision", "tf32", "threads", "batch")
    return (row["provider"] or row["provider_requested"], *(row[key] for key in keys))


def check_alike(old: Json, new: Json, across: bool) -> None:
    """Raises `GanportError` when the records are of different machines or generators, unless `across`."""
    for what, (before, after) in _differences(old, new).items():
        if not across:
            raise GanportError(
                f"the records are of different {what}: {before}, and now {after}",
                hint="to compare them all the same, and say so: `across=True`",
            )


def compare_text(old: Json, new: Json) -> str:
    """The comparison as text: what is different about the two, the rows that changed, those in one alone."""
    lines = [
        f"different {what}: {before} → {after}: not the code's doing alone"
        for what, (before, after) in _differences(old, new).items()
    ]
    before = {key_of(row): row for row in old["rows"]}
    after = {key_of(row): row for row in new["rows"]}
    both = [key for key in after if key in before]
    verdicts = {key: _verdict(before[key], after[key]) for key in both}
    rows = [
        (row_name(after[key]), _speed(before[key]), _speed(after[key]), *verdicts[key])
        for key in both
        if verdicts[key][1]
    ]
    if rows:
        lines.append(table(COMPARED, rows, right=(1, 2, 3)))
    same = len(both) - len(rows)
    when = f"{old['environment']['date'][:10]}, {_commit(old)}"
    lines.append(f"{same} of {len(both)} rows as before within noise (since {when})")
    for title, those, others in (("only before", before, after), ("only now", after, before)):
        alone = [row_name(those[key]) for key in those if key not in others]
        if alone:
            lines.append(f"{title}: {'; '.join(alone)}")
    return "\n".join(lines)


def _verdict(old: Json, new: Json) -> tuple[str, str]:
    """("+12 %", "faster") for a change, ("", "") within noise."""
    if old["images_per_s"] is None or new["images_per_s"] is None:
        changed = old["status"] != new["status"]
        return ("", f"{old['status']} → {new['status']}") if changed else ("", "")
    change = new["images_per_s"] / old["images_per_s"] - 1
    (old_low, old_high), (new_low, new_high) = _noise(old), _noise(new)
    if abs(change) <= CHANGED or (new_low <= old_high and old_low <= new_high):
        return "", ""
    return f"{change:+.0%}", "faster" if change > 0 else "slower"


def _noise(row: Json) -> tuple[float, float]:
    """The middle half of a row's windows; the whole range of an unstable row."""
    rates = [window["images_per_s"] for window in row["windows"]]
    if row["status"] != "ok" or len(rates) < 2:
        return row["images_per_s_low"], row["images_per_s_high"]
    low, _, high = statistics.quantiles(rates, n=4, method="inclusive")
    return low, high


def _differences(old: Json, new: Json) -> dict[str, tuple[str, str]]:
    """What of the machine and the generator differs: what → (old, new)."""
    found = {}
    machines = [_machine(record["environment"]) for record in (old, new)]
    if machines[0] != machines[1]:
        found["machines"] = (machines[0], machines[1])
    old_sha, new_sha = (record["generator"].get("checkpoint_sha256") for record in (old, new))
    generators = [
        f"{about['name']} {'×'.join(map(str, about['image']))}" for about in (old["generator"], new["generator"])
    ]
    if generators[0] != generators[1]:
        found["generators"] = (generators[0], generators[1])
    elif old_sha and new_sha and old_sha != new_sha:
        found["checkpoints"] = (f"sha256 {old_sha[:8]}", new_sha[:8])
    return found


def _machine(environment: Json) -> str:
    hardware = environment["hardware"]
    cores = hardware["cores_usable"]
    return ", ".join([hardware["cpu"], f"{cores} core{'s' if cores != 1 else ''}", *hardware["gpus"]])


def _speed(row: Json) -> str:
    return number(row["images_per_s"]) if row["images_per_s"] is not None else row["status"].upper()


def _commit(record: Json) -> str:
    commit = record["environment"]["commit"]
    return f"commit {commit[:8]}" if commit else f"ganport {record['environment']['versions']['ganport']}"
