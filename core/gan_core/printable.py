"""Text that came out of a file, made safe to look at.

Class names, keys, file names and metadata are anybody's. Printed as they are, they could move the cursor, rename the
window, turn a line around or start a new one. Whatever a person reads goes through `printable`, whatever a machine
reads through `json_text`; `gan_serve.terminal.console` and `gan_core.errors` see to it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable
from typing import Any

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef]")
"""Control characters (C0, DEL, C1), Unicode's bidi controls and line breaks, halves of surrogate pairs, which are what
a file name that is not UTF-8 is made of and no stream can encode, and the codes that are for a program's own use."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str, keep: str = "") -> str:
    r"""`text` on one line, each unsafe character in it written out: `\n`, `\x1b`, `\u202e`. `keep` lists exceptions.

    Twice is the same as once. From U+007F on the form is the one that JSON has, so that JSON stays the same JSON.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _written_out(match[0]), text)


def shorten(text: str, most: int = 200) -> str:
    """Text that fits on a line or two."""
    return text if len(text) <= most else text[: most - 1] + "…"


def bytes_text(size_bytes: float) -> str:
    """ "4.1 TB": decimal units, as disks are sold."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(max(int(size_bytes), 1))) - 1) // 3, len(units) - 1)
    return f"{size_bytes / 1000**power:.3g} {units[power]}"


def json_text(value: Any, *, indent: int | None = None, utf8: bool = False) -> str:
    """`value` as JSON: other alphabets as they are, unsafe characters written out. Infinity and NaN pass through.

    Half a surrogate pair is read back as such, so that a path in the JSON opens its file; with `utf8`, for readers that
    take only Unicode, as the text that `printable` makes of it.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if utf8:
        text = _SURROGATE.sub(lambda match: "\\" + _written_out(match[0]), text)
    return printable(text, keep="\n")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is UTF-8: onnx and onnxruntime take no other, only the file's bytes."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shell_line(words: Iterable[str]) -> str:
    r"""The words as a command line to copy; those with unsafe characters are quoted as bash and zsh do, `$'\x1b'`."""
    return " ".join(shlex.quote(word) if printable(word) == word else _ansi_c(word) for word in words)


def _ansi_c(word: str) -> str:
    plain = word.replace("\\", "\\\\").replace("'", "\\'").encode("utf-8", "surrogateescape")
    return f"$'{''.join(chr(b) if 0x20 <= b < 0x7F else f'{chr(92)}x{b:02x}' for b in plain)}'"


def _written_out(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}")
