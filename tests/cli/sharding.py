"""What the tests of gan-gen's jobs in shards share: a small job, and what is in its folder."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Gen

FORMATS = ("tar", "parquet", "npy", "folder")
N, SIZE = 50, 20


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def make(gen: Gen, model: Path, kind: str = "tar", out: str = "s", *more: object) -> tuple[int, str, str]:
    return gen(model, "--n", N, "--out", f"{out}/", "--format", kind, "--shard-size", SIZE, *more)
