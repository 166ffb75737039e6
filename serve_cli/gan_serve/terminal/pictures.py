"""Pictures in a terminal that shows them: kitty's protocol, and iTerm2's, which WezTerm has too.

Which terminal it is, environment variables say; nothing is asked of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

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
