"""The record of `lab.recipes` as Markdown. No torch here.

A table for each data set, budget and way of measuring; a line for each recipe, all its seeds in it, the best median
first, what failed last.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gan_bench.environment import busy_note
from gan_bench.windows import Spread, spread
from gan_core.fields import Json

BASELINE = "default"


@dataclass(frozen=True)
class Group:
    """What may stand in one table: distances to the same images, by the same features of as many."""

    data: str
    budget_steps: int
    features: str
    n: int
    fingerprint: str


def tables(record: Json) -> str:
    """All tables of a record (schema 2), an empty line between them; the empty string for one without rows."""
    groups: dict[Group, list[Json]] = {}
    for row in record["rows"]:
        if row["status"] == "ok":
            groups.setdefault(_group(row), []).append(row)
    for row in record["rows"]:
        if row["status"] != "ok":
            place = next((group for group in groups if _fits(group, row)), _group(row))
            groups.setdefault(place, []).append(row)
    return "\n".join(_table(record, group, rows) for group, rows in groups.items())


def _group(row: Json) -> Group:
    """A failed row tells neither features nor images."""
    if row["status"] != "ok":
        return Group(row["data"], row["budget_steps"], "none", 0, "")
    evaluation = row["evaluation"]
    fingerprint = evaluation["data"]["fingerprint"]
    return Group(row["data"], row["budget_steps"], row["features"], evaluation["n"], fingerprint)


def _fits(group: Group, row: Json) -> bool:
    return (group.data, group.budget_steps) == (row["data"], row["budget_steps"])


def _table(record: Json, group: Group, rows: list[Json]) -> str:
    speeds = [speed for speed in record["speeds"] if speed["data"] == group.data]
    variants: dict[str, list[Json]] = {}
    for row in rows:
        variants.setdefault(row["variant"], []).append(row)
    header = ["recipe", "distance", "seeds"]
    patterned = [row for row in rows if "checkerboard" in row]
    if patterned:
        header.append("checkerboard")
    for speed in speeds:
        header.append(f"images/s, {_place(speed)}" if len(speeds) > 1 else "images/s")
        if _windows(speed, BASELINE):
            header.append(f"× {BASELINE}")
    header.append("noticed")
    lines = [
        f"### {group.data}, {group.budget_steps:,} updates of G", "", *_notes(record, group, rows, speeds), "",
        _line(header), _line(["---", *["---:"] * (len(header) - 2), "---"]),
    ]  # fmt: skip
    for variant, members in sorted(variants.items(), key=lambda item: _median(item[1])):
        cells = [f"`{variant}`", *_distance(members)]
        if patterned:
            found = [row["checkerboard"] for row in members if "checkerboard" in row]
            cells.append(_number(spread(found), 2) if found else "")
        lines.append(_line([*cells, *_speed(speeds, variant), _noticed(members)]))
    return "\n".join(lines) + "\n"


def _notes(record: Json, group: Group, rows: list[Json], speeds: Sequence[Json]) -> list[str]:
    """What the numbers are of, a sentence a line."""
    good = [row for row in rows if row["status"] == "ok"]
    notes = []
    if good:
        seeds = sorted({row["seed"] for row in rows})
        of_seeds = "seed " + str(seeds[0]) if len(seeds) == 1 else "seeds " + ", ".join(map(str, seeds))
        notes.append(
            f"Distance on {group.features}, of {group.n:,} images, {of_seeds} (median, and range); "
            f"real images are at {_number(spread([row['floor'] for row in good]), 4)}."
        )
    patterns = [row["checkerboard_real"] for row in good if "checkerboard_real" in row]
    if patterns:
        real = _number(spread(patterns), 2)
        notes.append(f"The checkerboard is its amplitude in flat areas, of 255 levels; real images have {real}.")
    for speed in speeds:
        around = record["environments"][speed["environment"]]
        busy = busy_note(around)
        notes.append(
            f"images/s are those generated in updates of G, {_count(speed['windows'], 'window')} of "
            f"{speed['window_s']:g} s in turn (median, and range), on {_place(speed)}, {around['hardware']['cpu']}, "
            f"{around['date'][:10]}" + (f"; not to be quoted: {busy}." if busy else ".")
        )
    if good and not speeds:
        notes.append("The speeds are not measured yet: --speed.")
    return notes


def _place(speed: Json) -> str:
    if speed["device"] != "cpu":
        return str(speed["device"])
    return f"cpu with {_count(speed['threads'], 'thread')}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _median(rows: list[Json]) -> float:
    """Of the distances; of none, behind all others."""
    good = [row["distance"] for row in rows if row["status"] == "ok"]
    return statistics.median(good) if good else float("inf")


def _distance(rows: list[Json]) -> list[str]:
    """The cells distance and seeds: "3.62 (3.5–3.8)", "3", or "2 of 3" where trainings failed."""
    good = [row["distance"] for row in rows if row["status"] == "ok"]
    count = str(len(good)) if len(good) == len(rows) else f"{len(good)} of {len(rows)}"
    return [_number(spread(good), 4) if good else "failed", count]


def _speed(speeds: Sequence[Json], variant: str) -> list[str]:
    """Two cells for each pass, one where it has no baseline; empty ones for a recipe that it lacks."""
    cells = []
    for speed in speeds:
        mine, base = _windows(speed, variant), _windows(speed, BASELINE)
        cells.append(_number(spread(mine), 3) if mine else "")
        if base:
            ratios = [one / other for one, other in zip(mine, base, strict=True)] if mine else []
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
    return cells


def _windows(speed: Json, variant: str) -> list[float]:
    return next((row["images_per_s_windows"] for row in speed["rows"] if row["variant"] == variant), [])


def _noticed(rows: list[Json]) -> str:
    seen = sorted({name for row in rows if row["status"] == "ok" for name in row["noticed"]})
    errors = sorted({row["error"].replace("|", "\\|") for row in rows if row["status"] != "ok"})
    return ", ".join([*seen, *errors])


def _number(values: Spread, digits: int) -> str:
    """The median, and the range where there is one."""
    median, low, high = (f"{_rounded(value, digits):,g}" for value in (values.median, values.low, values.high))
    return median if low == high else f"{median} ({low}–{high})"


def _rounded(value: float, digits: int) -> float:
    """To so many significant digits, whole numbers kept whole."""
    return float(f"{value:.{digits}g}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |" if not cells[0].startswith("---") else f"|{'|'.join(cells)}|"
