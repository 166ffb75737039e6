"""A record as text: one line a row, grouped by batch size, with what a reader must know beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from gan_bench.environment import VECTOR_SETS
from gan_bench.peers import PEERS
from gan_bench.rows import OURS, threads_label
from gan_bench.windows import rounded
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.printable import printable
from gan_serve.terminal.console import Column, table

NONE = "–"
BEST, STRUCK = "best", "✗"
COLUMNS = (
    Column("", fit="middle", least=19), Column("runs on", drop=2), Column("images/s", right=True),
    Column("ratio", right=True), Column("low–high", right=True, drop=5), Column("limit", right=True, drop=4),
    Column("p50 ms", right=True, drop=1), Column("p99 ms", right=True, drop=3), Column("1st ms", right=True, drop=7),
    Column("open ms", right=True, drop=8), Column("MiB", right=True, drop=6), Column("GPU MiB", right=True, drop=1),
    Column("LSB", right=True), Column("", state=True),
)  # fmt: skip
CSV_FIELDS = (
    "task", "batch", "name", "runtime", "model", "precision", "tf32", "provider", "threads", "status", "images_per_s",
    "images_per_s_low", "images_per_s_high", "ratio", "limit_images_per_s", "limit_fraction", "latency_p50_ms",
    "latency_p95_ms", "latency_p99_ms", "first_run_ms", "import_ms", "session_create_ms", "peak_rss_bytes",
    "peak_device_bytes", "pixels_max_lsb", "psnr_db", "reason",
)  # fmt: skip
FORMATS = ("table", "markdown", "csv", "json")


def render(record: Json, as_markdown: bool = False) -> str:
    """The table of a record, under lines that name the generator, the machine and its limits."""
    lines: list[Sequence[str] | str] = []
    for rows in by_batch(record["rows"]).values():
        best = best_of(rows)
        lines += [batch_name(rows[0]), *(_cells(row, row is best) for row in rows)]
    cells = [line for line in lines if not isinstance(line, str)]
    # No column of notes, ratios or GPU memory that no row has.
    optional = {at for at, column in enumerate(COLUMNS) if column.name in ("ratio", "GPU MiB") or column.state}
    kept = [at for at in range(len(COLUMNS)) if at not in optional or any(row[at] not in ("", NONE) for row in cells)]
    shown = [line if isinstance(line, str) else [line[at] for at in kept] for line in lines]
    head = [f"{model_line(record)} on {machine_line(record)}", *_limit_lines(record)]
    text = grouped([COLUMNS[at] for at in kept], shown, as_markdown)
    return ("\n\n" if as_markdown else "\n").join([*head, text])


def grouped(columns: Sequence[Column], lines: Sequence[Sequence[str] | str], as_markdown: bool) -> str:
    """Rows under the titles of their groups, as a table; in Markdown each has its title."""
    if not as_markdown:
        return table(columns, [line if isinstance(line, str) else [f" {line[0]}", *line[1:]] for line in lines])
    title, rows = "", [["", *(column.name for column in columns)]]
    rows.append([":--", *("--:" if column.right else ":--" for column in columns)])
    for line in lines:
        if isinstance(line, str):
            title = line
        else:
            rows.append([title, *(printable(cell).replace("|", "\\|") for cell in line)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_csv(record: Json) -> str:
    """A line for each row under a line of names, with the record's numbers; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"name": label(row)} | (row["parity"] or {}) for row in record["rows"])
    return out.getvalue().removesuffix("\n")


def by_batch(rows: Iterable[Json]) -> dict[tuple[str, int], list[Json]]:
    """The rows of each task and batch, in the order in which these come."""
    found: dict[tuple[str, int], list[Json]] = {}
    for row in rows:
        found.setdefault((row["task"], row["batch"]), []).append(row)
    return found


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
    runtime = next((model["runtime"] for model in record["models"]), None)
    gpus = [gpu.split(",")[0] for gpu in hardware["gpus"]]
    return ", ".join([cpu_words(hardware), *gpus, *([f"{runtime['name']} {runtime['version']}"] if runtime else [])])


def cpu_words(hardware: Json) -> str:
    """ "AMD EPYC with AVX-512, 2 cores"; without the instructions where the record does not say."""
    cores, sets = hardware["cores_usable"], hardware.get("vectors")
    widest = f" with {VECTOR_SETS[sets[-1]]}" if sets else ""
    return f"{hardware['cpu']}{widest}, {cores} core{'s' if cores != 1 else ''}"


def best_of(rows: Sequence[Json]) -> Json | None:
    """The fastest row that settled, where there are at least two to choose from."""
    measured = [row for row in rows if row["status"] == "ok"]
    if len(measured) < 2:
        return None
    return max(measured, key=lambda row: row["images_per_s"])


def label(row: Json) -> str:
    """What draws, in a few words: "ganport fp16", "torch.compile", "torch eager fp16 (TF32)"; or its file's name."""
    if row.get("name"):
        return f"{row['name']}{' TF32' if row['tf32'] else ''}"
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
    return f"{label(row)}, {place(row)}, {batch_name(row)}"


def batch_name(row: Json) -> str:
    """ "batch 8", "256 PNG files"."""
    return f"{row['batch']} PNG files" if row["task"] == "png" else f"batch {row['batch']}"


def with_ratios(record: Json, baseline: str) -> Json:
    """`record` with each row's `ratio`: its images/s over those of the row of its batch that `baseline` names.

    A row is named by what the table calls it ("torch eager"), by its `peers` name, its file or its provider. Of several
    that fit, the one with the row's provider and threads is taken, else the first. Raises `GanportError` where no
    row is named so.
    """
    named = baseline_rows(record, baseline)
    rows = [row | {"ratio": _ratio(row, named)} for row in record["rows"]]
    return record | {"baseline": baseline.strip(), "rows": rows}


def baseline_rows(record: Json, baseline: str) -> list[Json]:
    """The rows that `baseline` names; those that the table calls just so go before. Raises as `with_ratios`."""
    rows: list[Json] = record["rows"]
    wanted = baseline.strip().casefold()
    exact = [row for row in rows if label(row).casefold() == wanted]
    found = exact or [row for row in rows if wanted in _names(row)]
    if not found:
        raise GanportError(
            f"no row is called {baseline!r}, which `baseline` names",
            hint=f"here are {', '.join(dict.fromkeys(label(row) for row in rows))}",
        )
    return found


def reference_of(row: Json, named: Sequence[Json]) -> Json | None:
    """Which of the rows `named` a row is compared with; None where none has its batch."""
    beside = [other for other in named if (other["task"], other["batch"]) == (row["task"], row["batch"])]
    alike = [other for other in beside if place(other) == place(row)]
    return next(iter(alike or beside), None)


def _ratio(row: Json, named: Sequence[Json]) -> float | None:
    other = reference_of(row, named)
    if other is None or row["images_per_s"] is None or not other["images_per_s"]:
        return None
    return rounded(row["images_per_s"] / other["images_per_s"])


def _names(row: Json) -> set[str]:
    model = row["model"] or ""
    names = (label(row), row["runtime"], model, model.rpartition(".")[0], row["provider"] or "")
    return {name.casefold() for name in names if name}


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


def _cells(row: Json, best: bool) -> list[str]:
    """A row's cells, of `COLUMNS`."""
    measured = row["images_per_s"] is not None
    start = [value for value in (row["import_ms"], row["session_create_ms"]) if value is not None]
    share, ratio = row["limit_fraction"], row.get("ratio")
    return [
        label(row) if measured or row["status"] != "wrong" else f"{STRUCK} {label(row)}",
        place(row),
        number(row["images_per_s"]) if measured else row["status"].upper(),
        NONE if ratio is None else f"{ratio:.2f}×",
        f"{number(row['images_per_s_low'])}–{number(row['images_per_s_high'])}" if measured else NONE,
        NONE if share is None else f"{share:.2f}",
        *(number(row[f"latency_{name}_ms"]) for name in ("p50", "p99")),
        number(row["first_run_ms"]),
        number(sum(start)) if start else NONE,
        *(NONE if row[key] is None else f"{row[key] / 2**20:,.0f}" for key in ("peak_rss_bytes", "peak_device_bytes")),
        _parity(row),
        BEST if best else row["status"] if measured and row["status"] != "ok" else "",
    ]


def _parity(row: Json) -> str:
    """In the measure that the row's precision is held to: LSB, or dB below fp32."""
    parity = row["parity"]
    if parity is None:
        return NONE
    if (row["precision"] == "fp32" and not row["tf32"]) or parity["psnr_db"] is None:
        return str(parity["pixels_max_lsb"])
    return f"{parity['psnr_db']:.0f} dB"


def number(value: float | None) -> str:
    """Three significant digits without an exponent; whole numbers from 100."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
