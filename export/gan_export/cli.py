"""The command `gan-export`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_export.opsets import DEFAULT_OPSET, MAX_OPSET, MIN_OPSET, check_opset
from gan_export.outputs import check_outputs, resolve_out
from gan_serve import console
from gan_serve.errors import MissingPackageError

if TYPE_CHECKING:
    from gan_export.proof import Report
    from gan_export.source import Source

NAME = "gan-export"
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")

app = console.new_app(
    """Turn a generator checkpoint into one self-describing file, proved to draw what PyTorch draws.

    Every export is written to a temporary file, proved, and only then renamed into place: a failed proof exits with 1
    and leaves nothing.

    \b
    Examples:
      gan-export onnx --ckpt runs/digits/g.pt
      gan-export torchscript --ckpt runs/digits/g.pt --out digits.ts
      gan-export verify --model digits.onnx --ckpt runs/digits/g.pt
    """
)

Ckpt = Annotated[Path, typer.Option("--ckpt", metavar="FILE", help="The checkpoint; g.pt of a gan-train run.")]
ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write every check as JSON, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]


@app.command("onnx")
def onnx_command(
    ckpt: Ckpt,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="[default: the checkpoint's name, .onnx]")
    ] = None,
    opset: Annotated[
        int, typer.Option(metavar="N", help=f"ONNX opset, {MIN_OPSET} to {MAX_OPSET}; onnxruntime 1.20 reads up to 21.")
    ] = DEFAULT_OPSET,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Export to ONNX, which needs no torch.

    One file, for gan-gen, onnxruntime, servers and browsers. Prints the proof and, on the last line, the file's path.

    \b
    Examples:
      gan-export onnx --ckpt runs/digits/g.pt
      gan-export onnx --ckpt g.pt --out models/faces.onnx --report faces.json
      gan-export onnx --ckpt g.pt --opset 21 --json
    """
    target = resolve_out(ckpt, out, ".onnx")
    check_opset(opset)
    source = _prepare(ckpt, {"--out": target, "--report": report})
    from gan_export.export import export_onnx

    _finish(export_onnx(source, target, opset=opset), target, report, as_json)


@app.command("torchscript")
def torchscript_command(
    ckpt: Ckpt,
    out: Annotated[Path | None, typer.Option(metavar="FILE.ts", help="[default: the checkpoint's name, .ts]")] = None,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Export to TorchScript, for torch and libtorch.

    Prints the proof and, on the last line, the file's path.

    \b
    Examples:
      gan-export torchscript --ckpt runs/digits/g.pt
      gan-export torchscript --ckpt g.pt --out models/faces.ts
      gan-export torchscript --ckpt g.pt --report faces.json --json
    """
    target = resolve_out(ckpt, out, ".ts")
    source = _prepare(ckpt, {"--out": target, "--report": report})
    from gan_export.export import export_torchscript

    _finish(export_torchscript(source, target), target, report, as_json)


@app.command()
def verify(
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="An exported .onnx or .ts file.")],
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", metavar="FILE", help="Compare with this checkpoint, in PyTorch, too.")
    ] = None,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove an exported file again.

    Checks structure, meaning and the golden images; with --ckpt also parity with PyTorch. Exits with 1
    when a check fails.

    \b
    Examples:
      gan-export verify --model digits.onnx
      gan-export verify --model digits.onnx --ckpt runs/digits/g.pt
      gan-export verify --model digits.ts --report report.json
    """
    from gan_serve.model_file import check_model_file

    check_model_file(model)
    check_outputs({"--model": model, "--ckpt": ckpt}, {"--report": report})
    _require_packages("gan-export verify")
    source = None if ckpt is None else _read(ckpt)
    from gan_export.proof import prove

    _finish(prove(model, source), None, report, as_json)


def _prepare(ckpt: Path, outputs: dict[str, Path | None]) -> Source:
    """Everything that can be wrong before the work, then the checkpoint."""
    check_outputs({"--ckpt": ckpt}, outputs)
    _require_packages("exporting")
    return _read(ckpt)


def _read(ckpt: Path) -> Source:
    from gan_export.checkpoint_input import read_checkpoint

    source = read_checkpoint(ckpt)
    classes = f", {source.n_classes} classes" if source.n_classes else ""
    c, h, w = source.image
    console.note(f"{ckpt}: {source.name}, {source.weights} weights, z {source.z_dim} → {w}x{h}x{c}{classes}")
    return source


def _finish(report: Report, target: Path | None, report_file: Path | None, as_json: bool) -> None:
    """Prints and writes the report; the path last, when there is one. Raises `ProofError` for a failed proof."""
    written = str(target) if target is not None and report.ok else None
    if report_file is not None:
        report.write(report_file)
    for check in report.warnings:
        console.warn(check.detail)
    if as_json:
        print(json.dumps({"path": written} | report.to_json(), ensure_ascii=False))
    else:
        print(report.table())
    if not report.ok:
        raise report.error("nothing was written" if target is not None else "")
    if written and not as_json:
        print(written)


def _require_packages(purpose: str) -> None:
    """Raises `MissingPackageError` naming the first package of the extra `export` that is not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, "export", purpose)


def main() -> None:
    """The entry point."""
    console.run(app, NAME)
