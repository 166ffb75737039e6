"""What the commands of gan-export share: what they say of a source, how they end, where they write."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_core.errors import GanportError, MissingPackageError
from gan_export.answers import Answers
from gan_serve.terminal import console
from gan_serve.terminal.console import Column

if TYPE_CHECKING:
    from gan_export.proof import Report
    from gan_export.source import Source

ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write every check as JSON, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]

CHECKS = (
    Column(""),
    Column("check"),
    Column("", state=True),
    Column("measured", fit="cut", least=16),
    Column("limit", drop=1),
    Column("where", fit="cut", drop=2),
)
"""The columns of a proof: those of `Report.rows`."""

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
    written = str(target) if target is not None and report.ok else None
    if report_file is not None:
        report.write(report_file)
    for check in report.warnings:
        console.warn(check.detail)
    if as_json:
        console.show_json({"path": written} | report.to_json())
    else:
        console.show(f"{console.table(CHECKS, report.rows())}\n{report.verdict()}")
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


def named_after(ckpt: Path | None, answers: Answers) -> Path:
    """The file that an export is named after: the checkpoint, or without one the code, in the current folder.

    Raises `GanportError` when there is neither.
    """
    if ckpt is not None:
        return ckpt
    if answers.live is None:
        raise GanportError("expected a checkpoint, --ckpt FILE", hint="gan-export --help shows examples")
    for option, given in (
        ("--key", answers.key is not None),
        ("--raw", answers.raw),
        ("--trust-pickle", answers.trust_pickle),
    ):
        if given:
            raise GanportError(f"{option} has no place without --ckpt", hint="give the checkpoint: --ckpt FILE")
    code = answers.live.module.rpartition(":")[0]
    return Path(Path(code).stem if code.endswith(".py") else code.rpartition(".")[2] or "generator")


def resolve_out(ckpt: Path, out: Path | None, suffix: str, tag: str = "") -> Path:
    """The file to write: `out`, or the checkpoint's name with `tag` and `suffix`, beside it.

    Raises `GanportError` for a name that does not end in `suffix`, and for a checkpoint whose name does.
    """
    if out is None:
        named = ckpt if ckpt.name else ckpt / "g"  # "." and "/": folders, refused where the checkpoint is read
        if named.suffix.lower() == suffix and not tag:
            adopt = f"; to take in another exporter's: gan-export adopt {ckpt}" if suffix == ".onnx" else ""
            raise GanportError(
                f"{ckpt} is a model already by its name, expected a checkpoint",
                hint=f"to prove it: gan-export verify --model {ckpt}{adopt}",
            )
        return named.with_suffix(tag + suffix)
    if out.is_dir():
        raise GanportError(f"{out} is a folder, expected a file name", hint=f"--out {out / ckpt.stem}{suffix}")
    if out.suffix.lower() != suffix:
        raise GanportError(
            f"--out must end in {suffix}, got {out.name or repr(str(out))}",
            hint=f"--out {out.with_suffix(suffix)}" if out.name else f"--out NAME{suffix}",
        )
    return out
