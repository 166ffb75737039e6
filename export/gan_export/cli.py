"""The command `gan-export`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_export import options
from gan_export.answers import Answers
from gan_export.checkpoint_input import check_checkpoint
from gan_export.opsets import DEFAULT_OPSET, MAX_OPSET, MIN_OPSET, check_opset
from gan_export.outputs import check_outputs, resolve_out
from gan_serve import console
from gan_serve.cores import rest_idle_threads
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
      gan-export inspect --ckpt netG_epoch_24.pth
      gan-export torchscript --ckpt runs/digits/g.pt --out digits.ts
      gan-export verify --model digits.onnx --ckpt runs/digits/g.pt
    """
)

Ckpt = Annotated[Path, typer.Option("--ckpt", metavar="FILE", help="The checkpoint: a run's g.pt, or anybody's.")]
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
    key: options.Key = None,
    raw: options.Raw = False,
    trust_pickle: options.TrustPickle = False,
    spec: options.SpecFile = None,
    image: options.Image = None,
    latent: options.Latent = None,
    output_activation: options.Output = None,
    value_range: options.ValueRange = None,
    accept: options.Accept = False,
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
    answers = _answers(key, raw, trust_pickle, spec, image, latent, output_activation, value_range, accept)
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
    from gan_export.export import export_onnx

    _finish(export_onnx(source, target, opset=opset), target, report, as_json)


@app.command("torchscript")
def torchscript_command(
    ckpt: Ckpt,
    out: Annotated[Path | None, typer.Option(metavar="FILE.ts", help="[default: the checkpoint's name, .ts]")] = None,
    key: options.Key = None,
    raw: options.Raw = False,
    trust_pickle: options.TrustPickle = False,
    spec: options.SpecFile = None,
    image: options.Image = None,
    latent: options.Latent = None,
    output_activation: options.Output = None,
    value_range: options.ValueRange = None,
    accept: options.Accept = False,
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
    answers = _answers(key, raw, trust_pickle, spec, image, latent, output_activation, value_range, accept)
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
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
    from gan_export.proof import prove

    source = None if ckpt is None else _source_for(model, ckpt)
    _finish(prove(model, source), None, report, as_json)


@app.command()
def inspect(
    ckpt: Ckpt,
    key: options.Key = None,
    raw: options.Raw = False,
    trust_pickle: options.TrustPickle = False,
    spec: options.SpecFile = None,
    image: options.Image = None,
    latent: options.Latent = None,
    output_activation: options.Output = None,
    value_range: options.ValueRange = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.spec.json", help="Write the draft as a spec, to edit and pass back with --spec."),
    ] = None,
) -> None:
    """Say what a checkpoint is, on what evidence, and what to do next.

    Nothing in the file is run. Names and shapes prove most of a generator; activations, eps and the latent law are
    read from what its BatchNorms remember (docs/forensics.md).

    \b
    Examples:
      gan-export inspect --ckpt netG_epoch_24.pth
      gan-export inspect --ckpt latest.ckpt --key generator --json
      gan-export inspect --ckpt stranger.pth --out stranger.spec.json
    """
    answers = _answers(key, raw, trust_pickle, spec, image, latent, output_activation, value_range)
    check_outputs({"--ckpt": ckpt}, {"--out": out})
    _require_packages("inspecting a checkpoint")
    from gan_export import inspection
    from gan_export.identify import identify
    from gan_serve.atomic import write_text

    identified = identify(check_checkpoint(ckpt), answers)
    command = inspection.next_command(identified, answers)
    if as_json:
        print(json.dumps(inspection.to_json(identified, command), ensure_ascii=False))
    else:
        print(inspection.render(identified, command))
    if out is not None:
        write_text(out, inspection.spec_of(identified).dumps())
        console.note(f"the spec is in {out}")


def _answers(
    key: str | None,
    raw: bool,
    trust_pickle: bool,
    spec: Path | None,
    image: str | None,
    latent: str | None,
    output: str | None,
    value_range: str | None,
    accept: bool = False,
) -> Answers:
    """The options that say what a checkpoint is, checked."""
    return Answers(
        key=key,
        raw=raw,
        trust_pickle=trust_pickle,
        spec=spec,
        image=options.parse_image(image),
        latent=options.parse_latent(latent),
        output=options.parse_output(output),
        value_range=options.parse_value_range(value_range),
        accept=accept,
    )


def _prepare(ckpt: Path, outputs: dict[str, Path | None], answers: Answers) -> Source:
    """Everything that can be wrong before the work, then the checkpoint."""
    check_outputs({"--ckpt": ckpt, "--spec": answers.spec}, outputs)
    _require_packages("exporting")
    from gan_export.asking import ask
    from gan_export.identify import identify, source_of

    identified = identify(check_checkpoint(ckpt), answers)
    if identified.unanswered and not answers.accept:
        assert identified.draft is not None
        raise ask(identified.draft, ckpt, outputs["--out"] or ckpt)
    source = source_of(identified)
    _say(ckpt, source)
    return source


def _source_for(model: Path, ckpt: Path) -> Source:
    """The generator in `ckpt` as `model` understands it: its contract says what the checkpoint itself may not."""
    from gan_export.verifying import source_for

    source = source_for(model, check_checkpoint(ckpt))
    _say(ckpt, source)
    return source


def _say(ckpt: Path, source: Source) -> None:
    classes = f", {source.n_classes} classes" if source.n_classes else ""
    c, h, w = source.image
    console.note(f"{ckpt}: {source.name}, {source.weights} weights, z {source.z_dim} → {w}x{h}x{c}{classes}")
    for assumption in source.assumptions:
        console.note(f"assumed: {assumption}")


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
    rest_idle_threads()
    console.run(app, NAME)
