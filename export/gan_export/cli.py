"""The command `gan-export`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_core.errors import GanportError
from gan_core.files.outputs import check_outputs
from gan_core.process import rest_idle_threads
from gan_export import options
from gan_export.answers import Answers
from gan_export.command import AsJson, ReportFile, finish, named_after, require_packages, resolve_out, say
from gan_export.onnx_options import DEFAULT_OPSET, OnnxOptions
from gan_export.options import Opset, Optimize, Precision, Store
from gan_serve.terminal import console, onnx_options

if TYPE_CHECKING:
    from gan_export.source import Source

NAME = "gan-export"

app = console.new_app(
    """Turn a generator checkpoint into one self-describing file, proved to draw what PyTorch draws.

    Every export is written to a temporary file, proved, and only then renamed into place: a failed proof exits with 1
    and leaves nothing.

    \b
    Examples:
      gan-export onnx --ckpt runs/digits/g.pt
      gan-export inspect netG_epoch_24.pth
      gan-export torchscript --ckpt runs/digits/g.pt --out digits.ts
      gan-export verify --model digits.onnx --ckpt runs/digits/g.pt
      gan-export adopt theirs.onnx
    """
)

MaybeCkpt = Annotated[
    Path | None, typer.Option("--ckpt", metavar="FILE", help="The checkpoint: a run's g.pt, or anybody's.")
]


@app.command("onnx")
@options.answered_by(options.export_answers)
def onnx_command(
    ckpt: MaybeCkpt = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="[default: the checkpoint's name; .fp16.onnx, .int8.onnx, .w16.onnx by --precision and --store]",
        ),
    ] = None,
    opset: Opset = DEFAULT_OPSET,
    optimize: Optimize = "auto",
    precision: Precision = "fp32",
    store: Store = "fp32",
    answers: Answers = Answers(),
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
      gan-export onnx --ckpt g.pt --precision int8
      gan-export onnx --ckpt g.pt --precision fp16 --out gpu.onnx
      gan-export onnx --ckpt g.pt --store fp16 --optimize tune
      gan-export onnx --ckpt g.pth --module networks.py:Generator --args '{"nz": 100}'
    """
    wanted = OnnxOptions(opset, optimize, precision, store)
    target = resolve_out(named_after(ckpt, answers), out, ".onnx", wanted.tag)
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
    from gan_export.export import export_onnx

    with redirect_stdout(sys.stderr):  # a live module may print
        proved = export_onnx(source, target, wanted)
    finish(proved, target, report, as_json)


@app.command("torchscript")
@options.answered_by(options.export_answers)
def torchscript_command(
    ckpt: MaybeCkpt = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.ts", help="[default: the checkpoint's name, .ts]")] = None,
    answers: Answers = Answers(),
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
      gan-export torchscript --ckpt g.pth --module networks.py:Generator
    """
    target = resolve_out(named_after(ckpt, answers), out, ".ts")
    source = _prepare(ckpt, {"--out": target, "--report": report}, answers)
    from gan_export.export import export_torchscript

    with redirect_stdout(sys.stderr):
        proved = export_torchscript(source, target)
    finish(proved, target, report, as_json)


@app.command()
def verify(
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="An exported .onnx or .ts file.")],
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", metavar="FILE", help="Compare with this checkpoint, in PyTorch, too.")
    ] = None,
    module: Annotated[
        str | None,
        typer.Option("--module", metavar="CODE:NAME", help="The code, RUN, of a file that was exported with --module."),
    ] = None,
    report: ReportFile = None,
    as_json: AsJson = False,
    trust_script: Annotated[
        bool, typer.Option("--trust-script", help="Run a .ts file whatever the program in it does, with your rights.")
    ] = False,
) -> None:
    """Prove an exported file again.

    Checks structure, meaning and the golden images; with --ckpt also parity with PyTorch. How a live module was called
    is in the file; only its code has to be named again. Exits with 1 when a check fails.

    \b
    Examples:
      gan-export verify --model digits.onnx
      gan-export verify --model digits.onnx --ckpt runs/digits/g.pt
      gan-export verify --model digits.ts --report report.json
      gan-export verify --model faces.onnx --ckpt g.pth --module networks.py:Generator
    """
    from gan_core.files.model_file import check_model_file

    check_model_file(model)
    check_outputs({"--model": model, "--ckpt": ckpt}, {"--report": report})
    require_packages("gan-export verify")
    from gan_export.again import source_again
    from gan_export.proof import prove

    source = None
    if ckpt is not None or module is not None:
        source = source_again(model, ckpt, module)
        say(ckpt, source)
    with redirect_stdout(sys.stderr):
        proved = prove(model, source, trust_script=trust_script)
    finish(proved, None, report, as_json)


@app.command()
def adopt(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="An ONNX generator of another exporter.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="[default: the file's name, .adopted.onnx]")
    ] = None,
    value_range: onnx_options.ValueRange = None,
    image: onnx_options.Image = None,
    latent: onnx_options.Latent = None,
    z_dim: onnx_options.ZDim = None,
    n_classes: onnx_options.Classes = None,
    inputs: onnx_options.Inputs = None,
    constant: onnx_options.Constants = None,
    output_key: onnx_options.OutputKey = None,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a file of ours of somebody else's ONNX generator.

    The copy says what it is, takes any batch, has a golden set and the passes of an export, and is proved to draw what
    the original draws. The options say what the file does not show (docs/foreign-onnx.md). Prints the proof and, on
    the last line, the copy's path.

    \b
    Examples:
      gan-export adopt theirs.onnx
      gan-export adopt theirs.onnx --value-range 0,1 --out models/digits.onnx
      gan-export adopt theirs.onnx --inputs noise=z,y=label --classes 10
    """
    target = resolve_out(file, out, ".onnx", ".adopted")
    check_outputs({"FILE": file}, {"--out": target, "--report": report})
    require_packages("adopting")
    from gan_export.adopt import adopt, original_of
    from gan_serve.runtime.onnx_answers import parse_answers

    answers = parse_answers(
        value_range=value_range,
        image=image,
        latent=latent,
        z_dim=z_dim,
        n_classes=n_classes,
        inputs=inputs,
        constant=constant,
        output_key=output_key,
    )
    source = original_of(file, answers)
    say(file, source)
    finish(adopt(file, source, target), target, report, as_json)


@app.command()
@options.answered_by(options.checkpoint_answers)
def inspect(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|FOLDER", help="A checkpoint; or several, or a folder: a table."),
    ] = None,
    ckpt: MaybeCkpt = None,
    answers: Answers = Answers(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.spec.json", help="Write the draft as a spec, to edit and pass back with --spec."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE.html", help="Write the sheet of candidates as a page.")
    ] = None,
) -> None:
    """Say what a checkpoint is, on what evidence, and what to do next.

    Nothing in the file is run. Names and shapes prove most of a generator; activations, eps and the latent law are
    read from what its BatchNorms remember (docs/forensics.md). Of a folder or of several files, a table says what each
    is by its shapes alone, generators with their discriminators.

    \b
    Examples:
      gan-export inspect netG_epoch_24.pth
      gan-export inspect downloads/
      gan-export inspect --ckpt latest.ckpt --key generator --json
      gan-export inspect --ckpt stranger.pth --out stranger.spec.json
      gan-export inspect --ckpt stranger.pth --html sheet.html
    """
    named = list(dict.fromkeys(files or ()))
    if bool(named) == (ckpt is not None):
        raise GanportError(
            f"expected a checkpoint, got {'FILE and --ckpt, which name two' if named else 'none'}",
            hint="gan-export inspect FILE, or FOLDER to see what is in it",
        )
    if len(named) > 1 or (named and named[0].is_dir()):
        _survey(named, [*options.given_of(answers), *["out"] * bool(out), *["html"] * bool(html)], as_json)
        return
    ckpt = ckpt or named[0]
    check_outputs({"--ckpt": ckpt}, {"--out": out, "--html": html})
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise GanportError(f"a page's name ends in .html, got {html}", hint=f"--html {html.with_suffix('.html')}")
    require_packages("inspecting a checkpoint")
    from gan_core.files.atomic import write_text
    from gan_export import inspection
    from gan_export.asking import candidates_of, sheet_of
    from gan_export.identify import NotUnderstoodError, identify
    from gan_export.inspection import advise
    from gan_export.page import page_of

    try:
        identified = identify(ckpt, answers)
    except NotUnderstoodError as error:
        reading = error.reading
        if as_json:
            console.show_json(inspection.reading_json(reading))
        else:
            console.show(inspection.render_unknown(reading))
        raise
    advice = advise(identified)
    if as_json:
        console.show_json(inspection.to_json(identified, advice))
    else:
        console.show(inspection.render(identified, advice))
    if html is not None or (not as_json and console.shows_pictures()):
        candidates = candidates_of(identified)
        if not as_json:
            console.show_picture(sheet_of(candidates))
        if html is not None:
            write_text(html, page_of(identified, advice, candidates))
            console.note(f"the page is in {html}")
    if out is not None:
        write_text(out, inspection.spec_of(identified).dumps())
        console.note(f"the spec is in {out}")


def _survey(named: list[Path], given: list[str], as_json: bool) -> None:
    """The table of what is in a folder, or of several files."""
    for name in given:
        raise GanportError(f"`{name}` has no place with several files", hint=f"leave out `{name}`, or name one file")
    require_packages("inspecting checkpoints")
    from gan_export import inspection
    from gan_export.survey import files_of, look, paired

    files, left_out = files_of(named)
    looked = console.with_progress(([look(path)] for path in files), len(files), "reading")
    entries = paired([entry for part in looked for entry in part])
    if as_json:
        console.show_json(inspection.survey_json(entries, left_out))
    else:
        console.show(inspection.render_survey(entries, left_out, named[0] if len(named) == 1 else None))


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

    identified = identify(ckpt, answers)
    check_possible(identified)
    if (identified.unanswered or identified.doubts) and not answers.accept:
        raise ask(identified, target)
    return source_of(identified)


def main() -> None:
    """The entry point."""
    rest_idle_threads()
    console.run(app, NAME)
