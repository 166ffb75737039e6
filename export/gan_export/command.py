"""What the commands of gan-export share: what they say of a source, how they end, where they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gan_core.errors import GanportError
from gan_core.printable import shell_line
from gan_export.answers import Answers
from gan_export.options import of_file
from gan_serve.terminal import console, layout
from gan_serve.terminal.commands import in_panel
from gan_serve.terminal.console import Column

if TYPE_CHECKING:
    from gan_export.proof import Report
    from gan_export.source import Source

of_output = in_panel("Output")
Ckpt = Annotated[
    Path | None,
    of_file("--ckpt", metavar="FILE", help="The same as FILE."),
]
ReportFile = Annotated[
    Path | None,
    of_output("--report", metavar="FILE", help="Write every check as JSON, too."),
]
AsJson = Annotated[bool, of_output("--json", help="Print JSON instead of text: every check, or the error.")]
Verbose = Annotated[
    bool,
    of_output("--verbose", "-v", help="Print every check, assumption and step of the reading."),
]

CHECKS = (
    Column(""),
    Column("check"),
    Column("", state=True),
    Column("measured", fit="cut", least=16),
    Column("limit", drop=1),
    Column("where", fit="cut", drop=2),
)
"""The columns of a proof: those of `Report.rows`."""


def say(ckpt: Path | None, source: Source) -> None:
    """One line on what was understood; with `--verbose` the assumptions, too, each with its reason."""
    classes = f", {source.interface.n_classes} classes" if source.interface.n_classes else ""
    c, h, w = source.interface.image
    where = "" if ckpt is None else f"{ckpt}: "
    makes = f"z {source.interface.z_dim} → {w}x{h}x{c}{classes}"
    if source.interface.input is not None:
        makes = f"{source.interface.taken} → {source.interface.picture}"
    console.note(f"{where}{source.name}, {source.weights} weights, {makes}")
    if console.is_verbose():
        for assumption in source.assumptions:
            console.note(f"assumed: {assumption}")


def finish(
    report: Report, target: Path | None, report_file: Path | None, as_json: bool, *, of_images: bool = False
) -> None:
    """Prints and writes the report; the path last, when there is one. Raises `ProofError` for a failed proof.

    of_images  whether it was a generator that takes images

    Of an export, stdout has the path alone; of a file that was proved again, the verdict. With `--verbose` the table
    of all checks stands before it, and of those that fail where some do.
    """
    written = [] if target is None or not report.ok else [str(target)]
    if report_file is not None:
        report.write(report_file)
    failed = None if report.ok else report.error("nothing was written" if target is not None else "")
    for check in report.warnings:
        console.warn(check.detail)
    if as_json:
        files = [*written, *([] if report_file is None else [str(report_file)])]
        path = written[0] if written else None
        console.show_json({"path": path, "files": files} | report.to_json(), failed)
    else:
        if console.is_verbose() or failed is not None:
            console.show(console.table(CHECKS, report.rows(only_failed=not console.is_verbose())))
        if console.is_verbose() or not written:
            console.show(layout.filled(report.verdict(), layout.width()))
        else:
            console.note(report.verdict())
    if failed is not None:
        raise failed
    for doubt in report.doubts:
        console.warn(f"the images are likely wrong: {doubt}")
    if written:
        console.note(f"next: {shell_line(['gan-gen', *written, *(['photo.jpg'] if of_images else [])])}")
        if not as_json:
            console.show_path(written[0])


def named_after(ckpt: Path | None, answers: Answers) -> Path:
    """The file that an export is named after: the checkpoint, or without one the code, in the current folder.

    Raises `GanportError` when there is neither.
    """
    if ckpt is not None:
        return ckpt
    if answers.live is None:
        raise GanportError("expected a checkpoint, got none", hint="gan-export FILE; gan-export --help shows examples")
    for option, given in (
        ("--key", answers.key is not None),
        ("--raw", answers.raw),
        ("--trust-pickle", answers.trust_pickle),
    ):
        if given:
            raise GanportError(f"{option} has no place without --ckpt", hint="give the checkpoint, too")
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
                hint=f"to prove it: gan-export verify {ckpt}{adopt}",
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
