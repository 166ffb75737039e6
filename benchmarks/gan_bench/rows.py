"""What is measured: one row is a provider, a number of threads and a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from gan_serve.errors import GanportError

MAX_BATCH = 65_536
MAX_THREADS = 1_024
MAX_ROWS = 64
"""All rows' processes live at once (their windows are interleaved), so their number is bounded."""


@dataclass(frozen=True)
class Row:
    """One line of the benchmark. `provider` as asked for ("auto" included); `threads` None: the runtime chooses."""

    provider: str
    threads: int | None
    batch: int

    def __str__(self) -> str:
        return f"{self.provider}, threads {threads_label(self.threads)}, batch {self.batch}"


def make_rows(providers: Sequence[str], threads: Sequence[int | None], batches: Sequence[int]) -> tuple[Row, ...]:
    """Every combination, once each, batches varying fastest. Raises `GanportError` for more than `MAX_ROWS`."""
    choices = product(dict.fromkeys(providers), dict.fromkeys(threads), dict.fromkeys(batches))
    rows = tuple(Row(provider, count, batch) for provider, count, batch in choices)
    if len(rows) > MAX_ROWS:
        raise GanportError(
            f"{len(rows)} rows asked for, each in a process of its own; the most is {MAX_ROWS}",
            hint="run gan-bench twice, with fewer batches or threads each",
        )
    return rows


def parse_batches(text: str) -> tuple[int, ...]:
    """ "1,8,25" as (1, 8, 25). Raises `GanportError` for anything but whole numbers from 1, separated by commas."""
    return tuple(
        _whole(item, "--batch", MAX_BATCH, "batch sizes separated by commas, such as --batch 1,8,25,64")
        for item in text.split(",")
    )


def parse_threads(text: str) -> tuple[int | None, ...]:
    """ "auto,1,2" as (None, 1, 2). Raises `GanportError` for anything but `auto` and whole numbers from 1."""
    hint = "thread counts separated by commas, or auto (the runtime's own choice), such as --threads 1,2"
    return tuple(
        None if item.strip() == "auto" else _whole(item, "--threads", MAX_THREADS, hint) for item in text.split(",")
    )


def threads_label(threads: int | None) -> str:
    """How a number of threads is written in tables: the number, or "auto"."""
    return "auto" if threads is None else str(threads)


def _whole(item: str, option: str, most: int, hint: str) -> int:
    item = item.strip()
    if not (item.isascii() and item.isdigit() and 1 <= int(item[:12]) <= most):
        raise GanportError(f"{option} takes whole numbers from 1 to {most}, got {item!r}", hint=hint)
    return int(item)
