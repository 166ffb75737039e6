"""The benchmark as text: one line a row, and what a reader must know beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gan_bench.rows import threads_label
from gan_serve.console import table

Json = dict[str, Any]

HEADER = (
    "provider", "threads", "batch", "images/s", "low–high", "p50 ms", "p95 ms", "p99 ms", "first ms", "session ms",
    "peak MiB", "max LSB", "note",
)  # fmt: skip
NONE = "–"


def render(record: Json) -> str:
    """The table of a record, under a line that names the model and the machine."""
    rows = [_line(row) for row in record["rows"]]
    width = len(HEADER) if any(row[-1] for row in rows) else len(HEADER) - 1  # no column of empty notes
    text = table(HEADER[:width], [row[:width] for row in rows], right=range(1, 12))
    return f"{model_line(record)} on {machine_line(record)}\n{text}"


def model_line(record: Json) -> str:
    """The model in a few words."""
    model = record["model"]
    channels, height, width = model["image"]
    return f"{model['name']} {model['precision']}, {width}×{height}×{channels}"


def machine_line(record: Json) -> str:
    """The machine and the runtime in a few words: a number means nothing without them."""
    hardware, runtime = record["environment"]["hardware"], record["model"]["runtime"]
    cores = hardware["cores_usable"]
    return f"{hardware['cpu']}, {cores} core{'s' if cores != 1 else ''}, {runtime['name']} {runtime['version']}"


def notes(record: Json) -> list[str]:
    """Sentences about the rows that need one, for stderr."""
    rows: Sequence[Json] = record["rows"]
    lines = [f"{_name(row)}: {row['status']}: {row['reason']}" for row in rows if row["reason"]]
    if any(row["status"] == "unstable" for row in rows):
        lines.append(
            f"unstable: not settled within 10 % after {record['settings']['max_rounds']} rounds: quote its range, "
            "stop other work, or allow more with --rounds"
        )
    if any(row["latency_calls"] and row["latency_p99_ms"] is None for row in rows):
        lines.append(f"{NONE} under p95 or p99: fewer than 20 or 100 calls, too few to tell; give longer --seconds")
    return lines


def _line(row: Json) -> tuple[str, ...]:
    measured = row["images_per_s"] is not None
    peak = row["peak_rss_bytes"]
    return (
        row["provider"] or row["provider_requested"],
        threads_label(row["threads"]),
        str(row["batch"]),
        number(row["images_per_s"]) if measured else row["status"].upper(),
        f"{number(row['images_per_s_low'])}–{number(row['images_per_s_high'])}" if measured else NONE,
        *(number(row[f"latency_{name}_ms"]) for name in ("p50", "p95", "p99")),
        number(row["first_run_ms"]),
        number(row["session_create_ms"]),
        NONE if peak is None else f"{peak / 2**20:.0f}",
        NONE if row["parity"] is None else str(row["parity"]["pixels_max_lsb"]),
        row["status"] if measured and row["status"] != "ok" else "",
    )


def number(value: float | None) -> str:
    """Three significant digits without an exponent; whole numbers from 100."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _name(row: Json) -> str:
    return f"{row['provider_requested']}, threads {threads_label(row['threads_requested'])}, batch {row['batch']}"
