"""What the commands of `gan-export` say, before the work and after it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.errors import MissingPackageError
from gan_serve.terminal import console

if TYPE_CHECKING:
    from gan_export.proof import Report
    from gan_export.source import Source

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


def say(ckpt: Path | None, source: Source) -> None:
    classes = f", {source.interface.n_classes} classes" if source.interface.n_classes else ""
    c, h, w = source.interface.image
    where = "" if ckpt is None else f"{ckpt}: "
    console.note(f"{where}{source.name}, {source.weights} weights, z {source.interface.z_dim} → {w}x{h}x{c}{classes}")
    for assumption in source.assumptions:
        console.note(f"assumed: {assumption}")


def finish(report: Report, target: Path | None, report_file: Path | None, as_json: bool) -> None:
    """Prints and writes the report; the path last, when there is one. Raises `ProofError` for a failed proof."""
    from gan_export.proof.report import HEADER  # with torch, which --help must not need

    written = str(target) if target is not None and report.ok else None
    if report_file is not None:
        report.write(report_file)
    for check in report.warnings:
        console.warn(check.detail)
    if as_json:
        console.show_json({"path": written} | report.to_json())
    else:
        console.show(f"{console.table(HEADER, report.rows())}\n{report.verdict()}")
    if not report.ok:
        raise report.error("nothing was written" if target is not None else "")
    if written and not as_json:
        console.show_path(written)
    for doubt in report.doubts:
        console.warn(f"the images are likely wrong: {doubt}")


def require_packages(purpose: str) -> None:
    """Raises `MissingPackageError` naming the first package of the extra `export` that is not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, "export", purpose)
