"""The options that several benchmarks have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Exported = Annotated[Path, typer.Option(metavar="FILE", help="The exported generator.")]
Checkpoint = Annotated[
    Path, typer.Option(metavar="FILE", help="The checkpoint it was exported from (gan-train's g.pt).")
]
Runs = Annotated[int, typer.Option(metavar="N", help="Measured runs of each, taken in turn.")]
RecordFile = Annotated[str | None, typer.Option(metavar="FILE", help="Write the record here; - for stdout.")]
