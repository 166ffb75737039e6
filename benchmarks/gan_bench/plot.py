"""The benchmark as a picture: a panel for each batch size, a bar for each row in it, ganport's in blue; a line for what
the machine's own matrix product allows. Numbers stand in a column of their own, where no bar or line comes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gan_bench.environment import BUSY
from gan_bench.report import batch_name, best_of, by_batch, label, machine_line, model_line, number, place
from gan_bench.rows import OURS
from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import Json
from gan_core.files.atomic import atomic_path

SUFFIXES = (".png", ".svg", ".pdf")
OURS_COLOURS = {"fp32": "#2B5C8A", "fp16": "#6B93BA", "int8": "#A3BFDA"}
"""One blue in three steps, which colour-blind readers and printers tell apart by how dark they are."""
OTHERS_COLOUR = "#CFD3D8"
INK, FAINT, ALARM = "#222222", "#777777", "#B00020"
CHARACTER = 0.042
"""The width of a character of the numbers beside a panel, in widths of the panel."""
FAR = 1.6
"""A limit beyond this many times the longest bar is told, not drawn."""
COLUMNS = 4
"""Groups beside each other; more begin a new line."""


def check_plot(target: Path) -> None:
    """Raises `GanportError` for a suffix that is not a picture's, `MissingPackageError` without matplotlib."""
    if target.suffix.lower() not in SUFFIXES:
        raise GanportError(
            f"`plot` takes a file name ending in {', '.join(SUFFIXES)}, got {target.name}", hint=f"{target}.png"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("matplotlib", "plot", "`plot`") from error


def draw(record: Json, target: Path) -> None:
    """Draws `record` (see docs/benchmarks.md) to `target`, whole or not at all. Raises as `check_plot`."""
    check_plot(target)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows: list[Json] = record["rows"]
    groups = [group for _, group in sorted(by_batch(rows).items())]
    lines = math.ceil(len(groups) / COLUMNS)
    columns = min(COLUMNS, len(groups))
    one_place = len({place(row) for row in rows}) == 1
    bars = [len(group) for group in groups]
    tallest = [max(bars[start : start + columns]) for start in range(0, len(groups), columns)]
    heights = [0.3 * most for most in tallest]
    width = max(10.5, 2.4 + 2.55 * columns)
    said = _explanation(record, characters=int(15 * width))
    head = 0.58 + 0.16 * said.count("\n")
    height = 0.6 + head + sum(heights) + 0.45 * lines
    with rc_context({"font.size": 10, "axes.edgecolor": FAINT, "text.color": INK, "hatch.linewidth": 0.8}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        top = 1 - (head + 0.14) / height
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.005, 0.005, 0.985, top), w_pad=0.06, h_pad=0.1))
        figure.text(0.012, 1 - 0.12 / height, f"{model_line(record)}: images per second", va="top", fontsize=13,
                    fontweight="bold")  # fmt: skip
        figure.text(0.012, 1 - 0.42 / height, said, va="top", fontsize=8.5, color=FAINT)
        cells = figure.subplots(lines, columns, squeeze=False, height_ratios=heights)
        for index, axes in enumerate(cells.flat):
            if index >= len(groups):
                axes.set_axis_off()
                continue
            # Where all groups hold the same rows, those on the left name them for all.
            same = [[label(row) if one_place else f"{label(row)}, {place(row)}" for row in group] for group in groups]
            named = index % columns == 0 or same[index] != same[index - 1]
            _draw_group(axes, groups[index], same[index] if named else None)
            axes.set_ylim(tallest[index // columns] - 0.5, -0.5)
        with atomic_path(target) as temporary:
            figure.savefig(temporary, dpi=160, facecolor="white", format=target.suffix[1:].lower())


def _draw_group(axes: Any, rows: list[Json], names: list[str] | None) -> None:
    """Bars at the median of the windows, with whiskers from the lowest to the highest, and the limit as a line."""
    axes.set_title(batch_name(rows[0]), loc="left", fontsize=10.5)
    limits = [row["limit_images_per_s"] for row in rows if row["limit_images_per_s"] and row["runtime"] == OURS]
    measured = [row["images_per_s_high"] for row in rows if row["images_per_s"] is not None]
    top = max(measured, default=1.0) or 1.0
    if limits:  # a line far out would leave the bars no room
        is_far = limits[0] > FAR * top
        axes.set_title(f"limit {number(limits[0])}{' →' if is_far else ''}", loc="right", fontsize=8.5, color=FAINT)
        limits = [] if is_far else limits[:1]
        top = max([top, *limits])
    best = best_of(rows)
    numbers = [row["status"].upper() if row["images_per_s"] is None else number(row["images_per_s"]) for row in rows]
    for y, row in enumerate(rows):
        median = row["images_per_s"]
        unstable = row["status"] == "unstable"
        colour = ALARM if median is None else FAINT if unstable else INK
        axes.text(
            1.04 + CHARACTER * max(map(len, numbers)), y, numbers[y], ha="right", va="center",
            transform=axes.get_yaxis_transform(), color=colour, fontsize=9,
            fontweight="bold" if row is best or median is None else "normal",
        )  # fmt: skip
        if median is None:
            continue
        axes.barh(
            y, median, 0.7, color=_colour(row), alpha=0.5 if unstable else 1.0, hatch="///" if unstable else None,
            edgecolor="white", linewidth=0,
        )  # fmt: skip
        below, above = median - row["images_per_s_low"], row["images_per_s_high"] - median
        axes.errorbar(
            median, y, xerr=[[max(0.0, below)], [max(0.0, above)]], color=INK, linewidth=0.8, capsize=2, alpha=0.6
        )
    for limit in limits:
        axes.plot([limit] * 2, [-0.5, len(rows) - 0.5], color=FAINT, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    axes.set_xlim(0, top * 1.01)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.plot([0, 0], [-0.5, len(rows) - 0.5], color=FAINT, linewidth=1.5)
    axes.tick_params(length=0, colors=INK)
    axes.set_yticks(range(len(rows)), names if names is not None else [""] * len(rows))
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if row["runtime"] == OURS else "normal")


def _explanation(record: Json, characters: int) -> str:
    """On what, how and when the picture was made, in lines of at most so many characters where that can be."""
    environment, settings = record["environment"], record["settings"]
    parts = [
        machine_line(record),
        f"median of {settings['window_s']:g} s windows, lowest to highest" + (" (quick)" if settings["quick"] else ""),
        environment["date"][:10],
        f"ganport {environment['versions']['ganport']}",
    ]
    if any(row["limit_images_per_s"] for row in record["rows"]):
        parts.insert(2, "dashed, limit: what the machine's matrix product allows")
    if any(row["status"] == "unstable" for row in record["rows"]):
        parts.insert(2, "hatched: unstable")
    busy = environment["cpu_busy_fraction"]
    if busy is not None and busy > BUSY:
        parts.append(f"machine {busy:.0%} busy otherwise")
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 5 > characters:
            lines.append(part)
        else:
            lines[-1] += f"  ·  {part}"
    return "\n".join(lines)


def _colour(row: Json) -> str:
    return OURS_COLOURS.get(row["precision"], OURS_COLOURS["fp32"]) if row["runtime"] == OURS else OTHERS_COLOUR
