"""`gan-export triton`, `hub` and `web`: an exported file as other people's servers, hubs and browsers take it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from gan_core.errors import GanportError
from gan_core.files import check_outputs
from gan_core.files.model_file import check_model_file
from gan_core.printable import shell_line
from gan_export.command import of_output
from gan_serve.terminal import console

Model = Annotated[Path | None, typer.Argument(metavar="MODEL", help="An exported .onnx file.", show_default=False)]
ModelOption = Annotated[Path | None, typer.Option("--model", metavar="FILE", help="The same as MODEL.")]
AsJson = Annotated[bool, of_output("--json", help="Print JSON instead of text: the list of files, or the error.")]


def triton_command(
    file: Model = None,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The model repository; other models in it stay.")] = Path(
        "model_repository"
    ),
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call the model. [default: the file's name]")
    ] = None,
    version: Annotated[int, typer.Option("--model-version", metavar="N", help="Its version.")] = 1,
    max_batch: Annotated[int, typer.Option(metavar="N", help="Images of one run, of several requests.")] = 64,
    delay_ms: Annotated[float, typer.Option(metavar="MS", help="How long a request waits for others.")] = 2.0,
    instances: Annotated[int, typer.Option(metavar="N", help="Copies of the model on each device.")] = 1,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|gpu", help="Where they run. auto: on GPUs, if there are any.")
    ] = "auto",
    accelerator: Annotated[
        str,
        typer.Option(
            metavar="none|tensorrt|openvino",
            help="What runs the graph in the place of onnxruntime's own kernels. Pixels may differ from the proof's.",
        ),
    ] = "none",
    as_json: AsJson = False,
) -> None:
    """Write a model repository for NVIDIA Triton Inference Server.

    The folder gets NAME/config.pbtxt, with dynamic batching, and NAME/VERSION/model.onnx. Its path is printed on
    stdout.

    \b
    Examples:
      gan-export triton g.onnx
      gan-export triton g.onnx --out repository/ --name faces --max-batch 32
      gan-export triton g.fp16.onnx --device gpu --accelerator tensorrt
    """
    path = _model(file, model, "triton")
    from gan_export.publish.triton import Accelerator, Device, TritonOptions, write_repository

    options = TritonOptions(
        name, version, max_batch, delay_ms, instances, cast("Device", device), cast("Accelerator", accelerator)
    )
    _finish(out, write_repository(path, out, options), ["tritonserver", "--model-repository", str(out)], as_json)


def hub_command(
    file: Model = None,
    model: ModelOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder to write. [default: the file's name, -hub]")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="[default: the file's name]")] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="ID", help="The hub's identifier of a licence: mit, cc-by-4.0. [default: to fill in]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model repository for the Hugging Face hub.

    The folder gets a card (README.md) with its metadata, config.json, 25 samples and onnx/model.onnx. Read the card
    before you upload it: what the model was trained on, and what for, only you know. Its path is printed on stdout.

    \b
    Examples:
      gan-export hub g.onnx
      gan-export hub g.onnx --out faces/ --license cc-by-4.0
    """
    path = _model(file, model, "hub")
    from gan_export.publish.hub import HubOptions, write_folder

    target = path.with_name(f"{path.stem}-hub") if out is None else out
    files = write_folder(path, target, HubOptions(title, licence))
    if licence is None:
        console.note(f"note: the licence in {target / 'README.md'} is to be filled in, or give --license")
    _finish(target, files, ["hf", "upload", f"OWNER/{target.name}", str(target)], as_json)


def web_command(
    file: Model = None,
    model: ModelOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|FILE.html",
            help="The folder to write, or the file. [default: the model's name, -web; with --single-file .html]",
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write one HTML file, which also opens from a disk.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Has onnxruntime-web. [default: node_modules, here or in a folder above]"),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="[default: the model's name]")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page that generates the images in the browser, without a server.

    The folder is for any static host: index.html, the model, and the files of the npm package onnxruntime-web, which
    runs it. Seeds are the images of gan-gen. The path is printed on stdout.

    \b
    Examples:
      npm install onnxruntime-web@1.30
      gan-export web g.onnx
      gan-export web g.onnx --out site/ --title "Faces, 64x64"
      gan-export web g.onnx --single-file --out faces.html
      gan-export web g.onnx --runtime ~/node_modules
    """
    path = _model(file, model, "web")
    from gan_export.publish import web

    target = out or path.with_name(f"{path.stem}.html" if single_file else f"{path.stem}-web")
    is_page = target.suffix.lower() in (".html", ".htm")
    if single_file and not is_page:
        raise GanportError(f"a page's name ends in .html, got {target}", hint=f"--out {target.with_suffix('.html')}")
    if is_page and not single_file and not target.is_dir():
        raise GanportError(f"{target} is a file by its name, expected a folder", hint="--single-file writes one file")
    check_outputs({"MODEL": path}, {"--out": target if single_file else None})
    found = web.find_runtime(runtime)
    version = web.runtime_version(found)
    if not f"{version}.".startswith(f"{web.VERSION}."):
        console.warn(
            f"onnxruntime-web is {version or 'of an unknown version'}; {web.VERSION} is the one that was tested"
        )
    write = web.write_page if single_file else web.write_site
    files = write(path, target, found, title)
    show = ["-m", "webbrowser", str(target)] if single_file else ["-m", "http.server", "--directory", str(target)]
    _finish(target, files, ["python", *show], as_json)


def _model(file: Path | None, model: Path | None, verb: str) -> Path:
    path = console.named_once(file, model, "--model")
    if path is None:
        raise GanportError("expected an exported file, got none", hint=f"gan-export {verb} MODEL")
    if path.suffix.lower() != ".onnx" and path.is_file():
        raise GanportError(f"{path} is no .onnx file by its name", hint=f"export it first: gan-export {path}")
    return check_model_file(path)


def _finish(folder: Path, files: Sequence[Path], following: Sequence[str], as_json: bool) -> None:
    console.note(f"next: {shell_line(following)}")
    if as_json:
        console.show_json({"path": str(folder), "files": [str(path) for path in files]})
    else:
        console.show_path(folder)
