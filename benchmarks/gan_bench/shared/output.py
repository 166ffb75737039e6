"""How records leave: as JSON, to stdout or to their file."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Any

from gan_core.files.atomic import write_text
from gan_core.printable import printable
from gan_serve.terminal import console

Json = dict[str, Any]


def dumps(values: Json) -> str:
    """Readable JSON text with a final newline; never NaN or Infinity, which are not JSON."""
    return printable(_json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False), keep="\n") + "\n"


def hand_over(made: Json, shown: str, json: str | None, target: Path | None) -> None:
    """The table, or the record, to stdout; the record to its file."""
    console.show(dumps(made).removesuffix("\n") if json == "-" else shown)
    if target is not None:
        write_text(target, dumps(made))
