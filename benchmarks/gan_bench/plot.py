"""The benchmark as a picture: images/s on the left, latency on the right, one colour per provider and thread count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_bench.environment import BUSY
from gan_bench.report import label, machine_line, model_line, number
from gan_bench.rows import threads_label
from gan_serve.atomic import atomic_path
from gan_serve.errors import GanportError, MissingPackageError

Json = dict[str, Any]
Series = tuple[str, int | None]

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""Okabe and Ito's palette: told apart by colour-blind readers and in grey."""
INK, FAINT, ALARM = "#222222", "#777777", "#B00020"
MAX_LABELS = 24
"""With more bars than this, numbers above them would overlap; the table has them."""


def check_plot(target: Path) -> None:
    """Raises `GanportError` for a suffix that is not a picture's, `MissingPackageError` without matplotlib."""
    if target.suffix.lower() not in SUFFIXES:
        raise GanportError(
            f"--plot takes a file name ending in {', '.join(SUFFIXES)}, got {target.name}", hint=f"{target}.png"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("matplotlib", "plot", "--plot") from error


def draw(record: Json, target: Path) -> None:
    """Draws `record` (see docs/benchmarks.md) to `target`, whole or not at all. Raises as `check_plot`."""
    check_plot(target)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows: list[Json] = record["rows"]
    batches = sorted({row["batch"] for row in rows})
    series = list(dict.fromkeys(_series(row) for row in rows))
    width = min(22.0, max(9.5, 5.5 + 0.42 * len(batches) * len(series)))
    with rc_context({"font.size": 10, "axes.edgecolor": FAINT, "text.color": INK, "hatch.linewidth": 0.6}):
        figure = Figure(
            figsize=(width, 4.6), layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 0.88), w_pad=0.12, h_pad=0.08)
        )
        FigureCanvasAgg(figure)
        figure.text(0.012, 0.975, model_line(record), va="top", fontsize=12, fontweight="bold")
        figure.text(0.012, 0.922, _explanation(record), va="top", fontsize=8, color=FAINT)
        speed, latency = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_speed(speed, rows, batches, series)
        _draw_latency(latency, rows, batches, series)
        for axes in (speed, latency):
            axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
            axes.set_xlabel("images per batch")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=0, colors=INK)
            axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
            axes.set_axisbelow(True)
        _legend(figure, rows, series)
        with atomic_path(target) as temporary:
            figure.savefig(temporary, dpi=160, facecolor="white")


def _draw_speed(axes: Any, rows: list[Json], batches: list[int], series: list[Series]) -> None:
    """Bars at the median of the windows, with whiskers from the lowest to the highest."""
    axes.set_title("images per second  (median, lowest and highest window)", loc="left", fontsize=10)
    bar = min(0.6, 0.8 / len(series))
    top = max((row["images_per_s_high"] or 0.0 for row in rows), default=0.0) or 1.0
    for row in rows:
        x = batches.index(row["batch"]) + (series.index(_series(row)) - (len(series) - 1) / 2) * bar
        median = row["images_per_s"]
        if median is None:
            axes.text(
                x, top * 0.02, row["status"].upper(), rotation=90, ha="center", va="bottom", color=ALARM,
                fontsize=9, fontweight="bold",
            )  # fmt: skip
            continue
        unstable = row["status"] == "unstable"
        axes.bar(
            x, median, bar * 0.88, color=_colour(row, series), alpha=0.45 if unstable else 1.0,
            hatch="///" if unstable else None, edgecolor="white", linewidth=0,
        )  # fmt: skip
        below, above = median - row["images_per_s_low"], row["images_per_s_high"] - median
        axes.errorbar(
            x, median, yerr=[[max(0.0, below)], [max(0.0, above)]], color=INK, linewidth=1, capsize=min(4.0, 14 * bar)
        )
        if len(rows) <= MAX_LABELS:
            axes.text(
                x, row["images_per_s_high"] + top * 0.015, number(median), ha="center", va="bottom", fontsize=9,
                rotation=90 if bar < 0.2 else 0,
            )  # fmt: skip
    axes.set_xlim(_x_limits(batches))
    axes.set_ylim(0, top * (1.2 if bar < 0.2 and len(rows) <= MAX_LABELS else 1.1))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}" if top >= 10 else f"{value:g}")


def _draw_latency(axes: Any, rows: list[Json], batches: list[int], series: list[Series]) -> None:
    """A dot at p50 (hollow: unstable), a tick at p95, a line up to p99 (where there were calls enough to tell)."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_title("ms per batch  (dot p50, tick p95, end p99)", loc="left", fontsize=10)
    axes.set_yscale("log")
    step = min(0.2, 0.7 / len(series))
    for row in rows:
        p50, p95, p99 = (row[f"latency_{name}_ms"] for name in ("p50", "p95", "p99"))
        if p50 is None:
            continue
        x = batches.index(row["batch"]) + (series.index(_series(row)) - (len(series) - 1) / 2) * step
        colour = _colour(row, series)
        highest = p99 or p95 or p50
        axes.plot([x, x], [p50, highest], color=colour, linewidth=1.4, solid_capstyle="butt")
        if p95 is not None:
            axes.plot(x, p95, marker="_", color=colour, markersize=9, markeredgewidth=1.6)
        filled = "white" if row["status"] == "unstable" else colour
        axes.plot(x, p50, marker="o", color=colour, markerfacecolor=filled, markersize=6)
        if len(series) == 1:
            axes.annotate(number(p50), (x, p50), (8, 0), textcoords="offset points", va="center", fontsize=9)
    shown = [row[f"latency_{name}_ms"] for row in rows for name in ("p50", "p95", "p99")]
    low, high = _latency_limits([value for value in shown if value])
    axes.set_ylim(low, high)
    axes.set_xlim(_x_limits(batches))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low <= 1000 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")


def _latency_limits(values: list[float]) -> tuple[float, float]:
    """Ticks (1, 2, 5 × 10ⁿ) around `values`, a decade apart at least: a narrow range is not blown up to a mountain."""
    if not values:
        return 1.0, 10.0
    ticks = [step * 10.0**power for power in range(-6, 9) for step in (1, 2, 5)]
    low = max((tick for tick in ticks if tick <= min(values) / 1.05), default=ticks[0])
    high = min((tick for tick in ticks if tick >= max(values) * 1.05), default=ticks[-1])
    return low, max(high, 10 * low)


def _x_limits(batches: list[int]) -> tuple[float, float]:
    """Room for at least three groups, so that a single bar does not fill the picture."""
    spare = max(0.0, (3 - len(batches)) / 2)
    return -0.6 - spare, len(batches) - 0.4 + spare


def _legend(figure: Any, rows: list[Json], series: list[Series]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            color=COLOURS[index % len(COLOURS)],
            label=f"{provider}, {threads_label(threads)} thread{'' if threads == 1 else 's'}",
        )
        for index, (provider, threads) in enumerate(series)
    ]
    if any(row["status"] == "unstable" for row in rows):
        handles.append(Patch(facecolor="#BBBBBB", hatch="///", edgecolor="white", label="unstable: windows disagree"))
    figure.legend(handles=handles, loc="outside lower right", ncols=min(4, len(handles)), frameon=False, fontsize=9)


def _explanation(record: Json) -> str:
    """On what, how and when the picture was made."""
    environment, settings = record["environment"], record["settings"]
    parts = [
        machine_line(record),
        f"{settings['window_s']:g} s windows" + (" (quick)" if settings["quick"] else ""),
        environment["date"][:10],
        f"ganport {environment['versions']['ganport']}",
    ]
    busy = environment["cpu_busy_fraction"]
    if busy is not None and busy > BUSY:
        parts.append(f"machine {busy:.0%} busy otherwise")
    return "  ·  ".join(parts)


def _series(row: Json) -> Series:
    return label(row), row["threads"]


def _colour(row: Json, series: list[Series]) -> str:
    return COLOURS[series.index(_series(row)) % len(COLOURS)]
