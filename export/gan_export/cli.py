"""The command `gan-export`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_core.errors import GanportError
from gan_core.files import check_outputs
from gan_core.process import rest_idle_threads
from gan_export.answers import DEFAULT_OPSET, MAX_OPSET, MIN_OPSET, Answers, OnnxOptions
from gan_export.cli_inspect import inspect_command
from gan_export.cli_publish import hub_command, triton_command, web_command
from gan_export.command import (
    AsJson,
    Ckpt,
    ReportFile,
    Verbose,
    finish,
    named_after,
    resolve_out,
    say,
)
from gan_export.front import require_packages
from gan_export.options import export_answers, of_made
from gan_serve.terminal import commands, console
from gan_serve.terminal.commands import answered_by

if TYPE_CHECKING:
    from gan_export.source import Source

NAME = "gan-export"

app = console.new_app(
    """Turn a generator checkpoint into one self-describing file, proved to generate the same images as PyTorch.

    Every export is written to a temporary file, proved, and only then renamed into place: a failed proof exits with 1
    and leaves nothing.

    \b
    Examples:
      gan-export runs/digits/g.pt                    the same as gan-export onnx
      gan-export inspect netG_epoch_24.pth
      gan-export torchscript runs/digits/g.pt --out digits.ts
      gan-export verify digits.onnx runs/digits/g.pt
      gan-export adopt theirs.onnx
      gan-export triton digits.onnx --out repository/
      gan-export web digits.onnx --single-file
    """,
    default="onnx",
)

File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="The checkpoint: g.pt of a run, or any other.", show_default=False)
]


@app.command("onnx")
@answered_by(export_answers)
def onnx_command(
    file: File = None,
    ckpt: Ckpt = None,
    out: Annotated[
        Path | None,
        of_made(
            metavar="FILE.onnx",
            help="The file to write. [default: the checkpoint's name; .fp16.onnx, .int8.onnx, .w16.onnx by "
            "--precision and --store]",
        ),
    ] = None,
    opset: Annotated[
        int,
        of_made(metavar="N", help=f"ONNX opset, {MIN_OPSET} to {MAX_OPSET}; onnxruntime 1.20 reads up to 21."),
    ] = DEFAULT_OPSET,
    optimize: Annotated[
        str,
        of_made(
            metavar="MODE", help="auto; tune measures the forms of each layer on this machine; none: torch's own graph."
        ),
    ] = "auto",
    precision: Annotated[
        str,
        of_made(
            metavar="NAME", help="Precision of the computation: fp32; fp16 (for GPUs); int8 (for CPUs), calibrated."
        ),
    ] = "fp32",
    store: Annotated[
        str,
        of_made(metavar="NAME", help="How weights are saved: fp32, or fp16, half the file; computes as before."),
    ] = "fp32",
    answers: Answers = Answers(),
    report: ReportFile = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Export to ONNX, which needs no torch.

    One file, for gan-gen, onnxruntime, servers and browsers. Its path is printed on stdout.

    \b
    Examples:
      gan-export onnx runs/digits/g.pt
      gan-export onnx g.pt --out models/faces.onnx --report faces.json
      gan-export onnx g.pt --opset 21 --json
      gan-export onnx g.pt --precision int8
      gan-export onnx g.pt --precision fp16 --out gpu.onnx
      gan-export onnx g.pt --store fp16 --optimize tune
      gan-export onnx g.pth --module nets.py:Generator --args '{"nz": 100}'
    """
    console.set_verbose(verbose)
    ckpt = console.named_once(file, ckpt, "--ckpt")
    wanted = OnnxOptions(opset, optimize, precision, store)
    target = resolve_out(named_after(ckpt, answers), out, ".onnx", wanted.tag)
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
    from gan_export.exporting import export_onnx

    with redirect_stdout(sys.stderr), console.steps("gan_export"):  # a live module may print
        proved = export_onnx(source, target, wanted)
    finish(proved, target, report, as_json, of_images=source.interface.input is not None)


@app.command("torchscript")
@answered_by(export_answers)
def torchscript_command(
    file: File = None,
    ckpt: Ckpt = None,
    out: Annotated[
        Path | None,
        of_made(metavar="FILE.ts", help="The file to write. [default: the checkpoint's name, .ts]"),
    ] = None,
    answers: Answers = Answers(),
    report: ReportFile = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Export to TorchScript, for torch and libtorch.

    The file's path is printed on stdout.

    \b
    Examples:
      gan-export torchscript runs/digits/g.pt
      gan-export torchscript g.pt --out models/faces.ts
      gan-export torchscript g.pt --report faces.json --json
      gan-export torchscript g.pth --module networks.py:Generator
    """
    console.set_verbose(verbose)
    ckpt = console.named_once(file, ckpt, "--ckpt")
    target = resolve_out(named_after(ckpt, answers), out, ".ts")
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
    from gan_export.exporting import export_torchscript

    with redirect_stdout(sys.stderr), console.steps("gan_export"):
        proved = export_torchscript(source, target)
    finish(proved, target, report, as_json, of_images=source.interface.input is not None)


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="An exported .onnx or .ts file.", show_default=False)
    ] = None,
    against: Annotated[
        Path | None,
        typer.Argument(metavar="CKPT", help="Compare with this checkpoint, in PyTorch, too.", show_default=False),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", metavar="FILE", help="The same as MODEL.")] = None,
    ckpt: Annotated[Path | None, typer.Option("--ckpt", metavar="FILE", help="The same as CKPT.")] = None,
    module: Annotated[
        str | None,
        typer.Option("--module", metavar="CODE[:NAME]", help="The code, RUN, that the file was exported with."),
    ] = None,
    report: ReportFile = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    trust_script: Annotated[
        bool, typer.Option("--trust-script", help="Run a .ts file without checking its program, with your rights.")
    ] = False,
) -> None:
    """Prove an exported file again.

    Checks structure, meaning and the golden images; with CKPT also parity with PyTorch. The file records how a live
    module was called; you only have to name its code again. Exits with 1 when a check fails.

    \b
    Examples:
      gan-export verify digits.onnx
      gan-export verify digits.onnx runs/digits/g.pt
      gan-export verify digits.ts --report report.json
      gan-export verify faces.onnx g.pth --module networks.py:Generator
    """
    from gan_core.files.model_file import check_model_file

    console.set_verbose(verbose)
    model = console.named_once(file, model, "--model")
    ckpt = console.named_once(against, ckpt, "--ckpt")
    if model is None:
        raise GanportError("expected an exported file, got none", hint="gan-export verify MODEL")
    check_model_file(model)
    check_outputs({"--model": model, "--ckpt": ckpt}, {"--report": report})
    require_packages("gan-export verify")
    from gan_export.again import source_again
    from gan_export.proof.prove import prove

    source = None
    if ckpt is not None or module is not None:
        source = source_again(model, ckpt, module)
        say(ckpt, source)
    with redirect_stdout(sys.stderr):
        proved = prove(model, source, trust_script=trust_script)
    finish(proved, None, report, as_json)


@app.command()
@answered_by(commands.unsaid)
def adopt(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="An ONNX generator of another exporter.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.onnx", help="The file to write. [default: the file's name, .adopted.onnx]"),
    ] = None,
    answers: Any = None,
    report: ReportFile = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make another exporter's ONNX file one of ganport's.

    The copy has a contract, takes any batch size, has a golden set and the passes of an export, and is proved to
    generate the same images as the original. The options say what the file does not show (docs/foreign-onnx.md). The
    copy's path is printed on stdout.

    \b
    Examples:
      gan-export adopt theirs.onnx
      gan-export adopt theirs.onnx --value-range 0,1 --out models/digits.onnx
      gan-export adopt theirs.onnx --inputs noise=z,y=label --classes 10
    """
    console.set_verbose(verbose)
    target = resolve_out(file, out, ".onnx", ".adopted")
    check_outputs({"FILE": file}, {"--out": target, "--report": report})
    require_packages("adopting")
    from gan_core.said import parse_answers
    from gan_export.adopt import adopt, original_of

    source = original_of(file, parse_answers(**answers))
    say(file, source)
    finish(adopt(file, source, target), target, report, as_json)


app.command("inspect")(inspect_command)
app.command("triton")(triton_command)
app.command("hub")(hub_command)
app.command("web")(web_command)


def _prepare(ckpt: Path | None, outputs: dict[str, Path | None], answers: Answers) -> Source:
    """Everything that can be wrong before the work, then the checkpoint."""
    code = None if answers.live is None else Path(answers.live.module.rpartition(":")[0])
    check_outputs({"--ckpt": ckpt, "--spec": answers.spec, "--module": code}, outputs)
    require_packages("exporting")
    if answers.live is not None:
        from gan_export.live.source import live_source

        source = live_source(ckpt, answers)
    else:
        assert ckpt is not None
        source = _identified(ckpt, outputs["--out"] or ckpt, answers)
    say(ckpt, source)
    return source


def _identified(ckpt: Path, target: Path, answers: Answers) -> Source:
    """The generator in `ckpt`, by reading and forensics. Raises `GanportError` when it rests on assumptions."""
    from gan_export.asking import ask
    from gan_export.identify import check_possible, identify, source_of

    with console.steps("gan_export"):
        identified = identify(ckpt, answers)
    check_possible(identified)
    if (identified.unanswered or identified.doubts) and not answers.accept:
        raise ask(identified, target)
    return source_of(identified)


def main() -> None:
    """The entry point."""
    rest_idle_threads()
    console.run(app, NAME)
