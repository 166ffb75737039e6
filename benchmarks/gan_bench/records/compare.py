"""Two records beside each other: what changed beyond noise.

A row's windows scatter; their middle half (the quartiles) says how much. A row has changed when the middle halves of
old and new do not overlap, and the medians differ by more than 5 %: from process to process the same code differs by
some per cent, for where its memory came to lie. Rows that are unstable in either record are compared by their whole
range.
"""

from __future__ import annotations

import statistics
from typing import Any

from gan_bench.records.report import number, row_name
from gan_core.errors import GanportError
from gan_serve.terminal.console import table

Json = dict[str, Any]

FLOOR = 0.05
HEADER = ("row", "old images/s", "new images/s", "change", "")


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
                hint="to compare them all the same, and say so: --across",
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
        lines.append(table(HEADER, rows, right=(1, 2, 3)))
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
    if abs(change) <= FLOOR or (new_low <= old_high and old_low <= new_high):
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
