"""Text as wide as the terminal, and coloured where it is one: wrapped lines, the one table of all commands, pictures.

`width` is the terminal's, or what the variable COLUMNS says; in a pipe without it nothing is shortened. Colours are put
into text as marks, which `painted` turns into the terminal's codes or takes out, by the stream that the text goes to.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from gan_core.printable import printable

WIDEST = 100
"""Columns that text is wrapped to where the terminal is wider, or there is none."""
GAP = 2
"""Columns between those of a table."""

_END = "\ufdd0"
_CODES = {_END: "\x1b[0m", "\ufdd1": "\x1b[38;5;28m", "\ufdd2": "\x1b[38;5;166m", "\ufdd3": "\x1b[1;38;5;196m",
          "\ufdd4": "\x1b[1m"}  # fmt: skip
"""Mark → code: green, orange and red that can be read on light and on dark. The marks are characters that Unicode keeps
for a program's own use; `printable` writes them out where a file has them."""
MARKS = "".join(_CODES)
_GOOD, _FAIR, _BAD, _BOLD = "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4"
_STATES = {
    **dict.fromkeys(("ok", "proved", "strong", "faster", "best"), _GOOD),
    **dict.fromkeys(("warn", "warning", "weak", "unstable"), _FAIR),
    **dict.fromkeys(("fail", "failed", "wrong", "slower", "error", "none"), _BAD),
    **dict.fromkeys(("hint", "next"), _BOLD),
}
_uncoloured = [False]
"""Whether the running command was asked for no colours (`--no-color`)."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    name   its head
    right  flushed right
    fit    what becomes of a text that has no room: "keep" it (numbers: the column never narrows), "cut" its end,
           cut its "middle", "wrap" it, or give it a "line" of its own above its row (paths)
    least  characters that are left to it, except with "keep"
    drop   in want of room the column with the largest goes first, and those with 0 never
    state  its words, such as ok and FAIL, are coloured
    """

    name: str
    right: bool = False
    fit: Literal["keep", "cut", "middle", "wrap", "line"] = "keep"
    least: int = 12
    drop: int = 0
    state: bool = False


def table(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[str] | str],
    *,
    right: Iterable[int] = (),
    limit: int | None = None,
) -> str:
    """A table, as wide as its content, or as the terminal has room for.

    `columns` are heads or `Column`s, those in `right` flushed right; a row that is a single text goes across. Cells
    are one line each, whatever is in them. `limit` is the width, by default the terminal's (`width`). What goes beyond
    it is cut, wrapped or left out, as the columns say, and a last line names what was left out. No trailing spaces, no
    final newline.
    """
    flush_right = set(right)
    every = [Column(each, i in flush_right) if isinstance(each, str) else each for i, each in enumerate(columns)]
    lines = [printable(row) if isinstance(row, str) else [printable(cell) for cell in row] for row in rows]
    limit = width() if limit is None else limit
    natural = [
        max([_cells(column.name), *(_cells(row[i]) for row in lines if not isinstance(row, str))])
        for i, column in enumerate(every)
    ]
    shown, widths = _fitted(every, natural, limit)
    for at in shown:
        if every[at].fit == "line":
            texts = [_cells(row[at]) for row in lines if not isinstance(row, str)]
            widths[at] = max([_cells(every[at].name), *(n for n in texts if n <= widths[at])])
    out = [
        *_row([column.name for column in every], every, shown, widths, head=True),
        (" " * GAP).join("─" * widths[at] for at in shown),
    ]
    for row in lines:
        out += [row.rstrip()] if isinstance(row, str) else _row(row, every, shown, widths)
    hidden = [column.name for at, column in enumerate(every) if at not in shown and column.name]
    return "\n".join(out + [wrap(f"not shown at this width: {', '.join(hidden)}")] * bool(hidden))


def _fitted(columns: Sequence[Column], natural: Sequence[int], limit: int | None) -> tuple[list[int], list[int]]:
    """(the columns to show, the width of each column): text gives way, then columns, while that helps."""
    shown = list(range(len(columns)))
    while True:
        widths = list(natural)
        least = [
            width if column.fit == "keep" else min(width, max(column.least, _cells(column.name)))
            for column, width in zip(columns, widths, strict=True)
        ]
        room = None if limit is None else limit - GAP * (len(shown) - 1)
        if room is None or sum(widths[at] for at in shown) <= room:
            return shown, widths
        while sum(widths[at] for at in shown) > room:
            widest = max(shown, key=lambda at: (widths[at] > least[at], widths[at]))
            if widths[widest] <= least[widest]:
                break
            widths[widest] -= 1
        else:
            return shown, widths
        first = max(shown, key=lambda at: columns[at].drop)
        if not columns[first].drop:
            return shown, widths
        shown.remove(first)


def _row(
    cells: Sequence[str], columns: Sequence[Column], shown: Sequence[int], widths: Sequence[int], head: bool = False
) -> list[str]:
    """The lines of a row: those of its long paths, then the row, and under it what is wrapped."""
    above, texts = [], []
    for at in shown:
        fit, text, width = columns[at].fit, cells[at], widths[at]
        parts = [text]
        if _cells(text) > width and fit == "line":
            above.append(text)
            parts = [""]
        elif _cells(text) > width and fit == "wrap":
            parts = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]
        elif _cells(text) > width and fit != "keep":
            parts = [_cut(text, width, fit == "middle")]
        texts.append(parts)
    lines = []
    for number in range(max(map(len, texts))):
        padded = []
        for at, parts in zip(shown, texts, strict=True):
            text = parts[number] if number < len(parts) else ""
            space = " " * (widths[at] - _cells(text))
            text = state(text) if columns[at].state and not head else text
            padded.append(space + text if columns[at].right else text + space)
        lines.append((" " * GAP).join(padded).rstrip())
    return above + [line for line in lines if line or not above]


def _cut(text: str, width: int, middle: bool) -> str:
    if not middle:
        return _first(text, width - 1) + "…"
    tail = _first(text[::-1], (width - 1) // 2)[::-1]
    return f"{_first(text, width - 1 - _cells(tail))}…{tail}"


def _first(text: str, width: int) -> str:
    while _cells(text) > width:
        text = text[: max(len(text) - max((_cells(text) - width) // 2, 1), 0)]
    return text


def _cells(text: str) -> int:
    """Columns of the terminal that a text takes: an East Asian character two, an accent none."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def wrap(text: str, *, first: str = "", rest: str = "") -> str:
    """`text` in lines as wide as the terminal, at most `WIDEST`: the first begins with `first`, the others with `rest`.

    Words are kept whole: a path, a key or a hash can be copied.
    """
    return filled(printable(text), min(WIDEST, width() or WIDEST), first, rest)


def filled(text: str, limit: int | None, first: str = "", rest: str = "") -> str:
    """`text` in lines of at most `limit` characters, where words allow it; as it is without a limit."""
    if limit is None:
        return first + text
    return textwrap.fill(
        text, limit, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def width(stream: TextIO | None = None) -> int | None:
    """Columns of stdout or `stream`: what COLUMNS says, else the terminal's; None where it is no terminal."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    stream = stream or sys.stdout
    try:
        return (os.get_terminal_size(stream.fileno()).columns or 80) if stream.isatty() else None
    except (OSError, ValueError):
        return None


def state(word: str) -> str:
    """`word` with the colour of what it says: ok, proved and strong are good; weak is not, FAIL is bad."""
    mark = _STATES.get(word.strip().lower(), "")
    return f"{mark}{word}{_END}" if mark else word


def painted(text: str, stream: TextIO) -> str:
    """`text` with its marks as colours, or without them where `stream` takes none."""
    if not any(mark in text for mark in MARKS):
        return text
    coloured = colours(stream)
    return text.translate({ord(mark): code if coloured else None for mark, code in _CODES.items()})


@contextlib.contextmanager
def uncoloured(asked: bool) -> Iterator[None]:
    """Within, nothing gets colours if `asked`."""
    before, _uncoloured[0] = _uncoloured[0], asked
    try:
        yield
    finally:
        _uncoloured[0] = before


def colours(stream: TextIO) -> bool:
    """Whether `stream` gets colours: a terminal does, by NO_COLOR, FORCE_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM."""
    said = os.environ
    if _uncoloured[0] or said.get("NO_COLOR"):
        return False
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if said.get(name):
            return said[name] not in ("0", "false")
    return said.get("CLICOLOR") != "0" and said.get("TERM") != "dumb" and stream.isatty()


CHUNK = 4096
"""Bytes of base64 in one of kitty's commands, by its protocol."""


def protocol_of(environ: Mapping[str, str]) -> Literal["kitty", "iterm", ""]:
    """The protocol of the terminal; "" where it is another one, or tmux or screen stand between."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("TMUX") or environ.get("STY") or term.startswith(("screen", "tmux")):
        return ""
    if environ.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm" if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2" else ""


def sequence(png: bytes, protocol: Literal["kitty", "iterm"]) -> str:
    """The control sequence that shows a PNG where the cursor is.

    https://sw.kovidgoyal.net/kitty/graphics-protocol and https://iterm2.com/documentation-images.html
    """
    data = base64.b64encode(png).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)};preserveAspectRatio=1:{data}\x07"
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    keys = ["a=T,f=100,q=2,", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{key}m={m};{chunk}\x1b\\" for key, m, chunk in zip(keys, more, chunks, strict=True))
