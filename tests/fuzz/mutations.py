"""Small changes to bytes, JSON and zip archives, for targets to make mutations of."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

WRONG: tuple[Any, ...] = (
    None, True, "", "x", 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, -1e300, 1e400, float("nan"), 0.5, [], [[]], {},
    {"a": 1}, "\x1b[2J", "\ud800", "\u202e", "9" * 5000, [0] * 3000,
)  # fmt: skip
"""Values that a field does not expect."""


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """A bit flipped, some bytes cut out, doubled, replaced, or the end cut off."""
    if not data:
        return draw.randbytes(4)
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice((1, 1, 2, 4, 8, 64)))
    return draw.choice((
        lambda: data[:start] + bytes([data[start] ^ 1 << draw.randrange(8)]) + data[start + 1 :],
        lambda: data[:start] + data[end:],
        lambda: data[:end] + data[start:],
        lambda: data[:start] + draw.randbytes(end - start) + data[end:],
        lambda: data[:start] + draw.choice((b"\xff", b"\0", b"\x80")) * (end - start) + data[end:],
        lambda: data[:start],
    ))()  # fmt: skip


def of_text(text: str, draw: random.Random) -> str:
    """As `of_bytes`; what is no UTF-8 any more is left out."""
    return of_bytes(text.encode("utf-8", "surrogatepass"), draw).decode("utf-8", "ignore")


def of_json(text: str, draw: random.Random) -> str:
    """One value somewhere in it replaced, dropped, nested or doubled; sometimes its text is broken."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return of_text(text, draw)
    if draw.random() < 0.15:
        return of_text(text, draw)
    if draw.random() < 0.05:
        return "[" * 100_000
    return json.dumps(_changed(value, draw), ensure_ascii=draw.random() < 0.5)


def of_zip(data: bytes, draw: random.Random, change: Callable[[str, bytes, random.Random], bytes]) -> bytes:
    """One entry changed by `change(name, content, draw)`, left out, doubled, renamed or compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry.filename, archive.read(entry), zipfile.ZIP_STORED) for entry in archive.infolist()]
    except Exception:
        return of_bytes(data, draw)
    if not entries or draw.random() < 0.1:
        return of_bytes(data, draw)
    at = draw.randrange(len(entries))
    name, content, _ = entries[at]
    change_one: Callable[[], list[tuple[str, bytes, int]]] = draw.choice((
        *[lambda: [(name, change(name, content, draw), zipfile.ZIP_STORED)]] * 8,
        lambda: [],
        lambda: [entries[at], (name, change(name, content, draw), zipfile.ZIP_STORED)],
        lambda: [(of_text(name, draw), content, zipfile.ZIP_STORED)],
        lambda: [(name, content + bytes(1 << 20), zipfile.ZIP_DEFLATED)],
    ))  # fmt: skip
    made = change_one()
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of two entries of one name
        for entry, bytes_, method in [*entries[:at], *made, *entries[at + 1 :]]:
            info = zipfile.ZipInfo(entry or "empty")
            info.compress_type = method
            archive.writestr(info, bytes_)
    return buffer.getvalue()


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, (dict, list)) and value and draw.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = draw.choice(list(keys))
        made: Any = dict(value) if isinstance(value, dict) else list(value)
        if draw.random() < 0.15:
            del made[key]
        else:
            made[key] = _changed(value[key], draw)
        return made
    if draw.random() < 0.1:
        return [value]
    if isinstance(value, str) and draw.random() < 0.4:
        return of_text(value, draw)
    if isinstance(value, int) and draw.random() < 0.5:
        return value + draw.choice((-1, 1, 2**31, -(2**63), 2**64))
    return draw.choice(WRONG)
