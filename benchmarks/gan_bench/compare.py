"""Two records compared, or a record's rows with one of them: what is faster or slower beyond noise.

A row's windows scatter; their middle half (the quartiles) says how much. A row has changed when the middle halves of
old and new do not overlap, and the medians differ by more than 5 %: from process to process the same code differs by
some per cent, for where its memory came to lie. Rows that are unstable in either record are compared by their whole
range.
"""

from __future__ import annotations

import statistics
from typing import Any

from gan_bench.report import (
    NONE,
    baseline_rows,
    batch_name,
    by_batch,
    cpu_words,
    grouped,
    label,
    number,
    place,
    reference_of,
    row_name,
)
from gan_bench.rows import OURS
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_serve.terminal.console import Column

CHANGED = 0.05
COLUMNS = (
    Column("", fit="middle", least=19), Column("runs on", drop=1), Column("old images/s", right=True),
    Column("new images/s", right=True), Column("change", right=True), Column("", state=True),
)  # fmt: skip


def key_of(row: Json) -> tuple[Any, ...]:
    """What makes two rows the same row in two records. The file's name does only where the record tells rows by it."""
    keys = ("task", "runtime", "precision", "tf32", "threads", "batch")
    return (row["provider"] or row["provider_requested"], row.get("name"), *(row[key] for key in keys))


def check_alike(old: Json, new: Json, across: bool) -> None:
    """Raises `GanportError` when the records are of different machines or generators, unless `across`."""
    for what, (before, after) in _differences(old, new).items():
        if not across:
            raise GanportError(
                f"the records are of different {what}: {before}, and now {after}",
                hint="to compare them all the same, and say so: `across=True`",
            )


def render_comparison(old: Json, new: Json, as_markdown: bool = False) -> str:
    """The comparison as text: what is different about the two, a line a row, and how many are as before."""
    lines = [
        f"different {what}: {before} → {after}: not the code's doing alone"
        for what, (before, after) in _differences(old, new).items()
    ]
    before, after = ({key_of(row): row for row in record["rows"]} for record in (old, new))
    same = sum(key in before and not _verdict(before[key], row)[1] for key, row in after.items())
    rows: list[list[str] | str] = []
    for group in by_batch([*new["rows"], *old["rows"]]):
        of_group = [(key, row) for key, row in (before | after).items() if (row["task"], row["batch"]) == group]
        rows.append(batch_name(of_group[0][1]))
        for key, row in of_group:
            verdict = ("", "only before") if key not in after else ("", "only now")
            if key in before and key in after:
                verdict = _verdict(before[key], row)
            rows.append([label(row), place(row), _speed(before.get(key)), _speed(after.get(key)), *verdict])
    when = f"{old['environment']['date'][:10]}, {_commit(old)}"
    both = len(before.keys() & after.keys())
    kept = len(COLUMNS) - (not any(row[-1] for row in rows if not isinstance(row, str)))  # no column of nothing
    text = grouped(COLUMNS[:kept], [row if isinstance(row, str) else row[:kept] for row in rows], as_markdown)
    return ("\n\n" if as_markdown else "\n").join(
        [*lines, text, f"{same} of {both} rows as before within noise (since {when})"]
    )


def slower_rows(old: Json, new: Json, limit: float) -> list[str]:
    """The rows of both records that are slower now, beyond noise and by more than `limit` (0.1: 10 %), or that were
    measured then and are not now. Raises `JobError` where the records have no row in common.
    """
    before = {key_of(row): row for row in old["rows"]}
    pairs = [(before[key_of(row)], row) for row in new["rows"] if key_of(row) in before]
    return _slower(pairs, limit, "the record it is compared with")


def rows_slower_than_baseline(record: Json, limit: float) -> list[str]:
    """The rows of ganport's that are slower than those of their batch that `with_ratios` compared them with, as
    `slower_rows` has it. Raises `JobError` where there is none to compare.
    """
    named = baseline_rows(record, record["baseline"])
    ours = [row for row in record["rows"] if row["runtime"] == OURS and row not in named]
    pairs = [(other, row) for row in ours if (other := reference_of(row, named)) is not None]
    return _slower(pairs, limit, f"the baseline {record['baseline']}")


def _slower(pairs: list[tuple[Json, Json]], limit: float, against: str) -> list[str]:
    measured = [(old, new) for old, new in pairs if old["images_per_s"] is not None]
    if not measured:
        raise JobError(
            f"`fail_if_slower`: no row can be compared with {against}",
            hint="measure the same batches, threads and providers as there",
        )
    found = []
    for old, new in measured:
        change, word = _verdict(old, new)
        if new["images_per_s"] is None:
            found.append(f"{row_name(new)} {new['status']}")
        elif word == "slower" and new["images_per_s"] < (1 - limit) * old["images_per_s"]:
            found.append(f"{row_name(new)} {change}")
    return found


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
    hardware = [record["environment"]["hardware"] for record in (old, new)]
    if not all("vectors" in one for one in hardware):  # a record of before they were recorded
        hardware = [{**one, "vectors": []} for one in hardware]
    machines = [", ".join([cpu_words(one), *one["gpus"]]) for one in hardware]
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


def _speed(row: Json | None) -> str:
    if row is None:
        return NONE
    return number(row["images_per_s"]) if row["images_per_s"] is not None else row["status"].upper()


def _commit(record: Json) -> str:
    commit = record["environment"]["commit"]
    return f"commit {commit[:8]}" if commit else f"ganport {record['environment']['versions']['ganport']}"
