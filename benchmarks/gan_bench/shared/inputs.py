"""Files that several benchmarks are given, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

from gan_core.errors import GanportError


def check_checkpoint(ckpt: Path) -> None:
    """Raises `GanportError` for a path that leads to no file. What is in it, torch says later."""
    if not ckpt.is_file():
        what = "is a folder, expected a checkpoint file" if ckpt.is_dir() else "does not exist"
        raise GanportError(f"{ckpt} {what}", hint="gan-train writes one, g.pt; --model is its export")
