"""`gan-train report`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError
from gan_serve.terminal import console

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run: runs/NAME.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.html", help="[default: RUN/report.html]", show_default=False)
]


def report_command(run: Folder, out: Out = None) -> int:
    """Write one HTML page about a run.

    It shows samples, curves, configuration, and the numbers that gan-train eval kept. The page
    holds its pictures and opens from disk, without a network. Its path is printed.

    \b
    Examples:
      gan-train report runs/photos
      gan-train report runs/photos --out photos.html
    """
    from gan_core.files.atomic import write_text
    from gan_trainer.report import gather, render
    from gan_trainer.rundir import RunDir

    target = out or RunDir(run).report
    if target.suffix.lower() not in (".html", ".htm"):
        raise GanportError(f"a report's name ends in .html, got {target.name}", hint="--out NAME.html")
    page = render(gather(run))
    write_text(target, page)
    console.show_path(target)
    return 0
