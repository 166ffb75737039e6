"""gan-serve: a generator's images over HTTP. Its help names every option."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_core.errors import GanportError, MissingPackageError
from gan_core.process import usable_cores
from gan_serve.server import workers as processes
from gan_serve.terminal import commands, console
from gan_serve.terminal.commands import answered_by, in_panel

NAME = "gan-serve"
_log = logging.getLogger(__name__)
app = console.new_app()

of_network, of_batches, of_limits = map(in_panel, ("Network", "Batches", "Limits"))
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@app.command()
@answered_by(commands.unsaid)
def serve(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The generator: .onnx, or .ts with torch. [default: the one that comes with ganport]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME=FILE", help="A generator under a name of its own. Repeats."),
    ] = None,
    host: Annotated[
        str, of_network(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, of_network(metavar="N", min=0, max=65535, help="0 takes any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        of_network(
            "--allow-host",
            metavar="NAME",
            help="Answer to this Host, too, such as a proxy's. On loopback the default is localhost alone; elsewhere "
            "any, unless one is named. Repeats.",
        ),
    ] = None,
    log_format: Annotated[str, of_network(metavar="text|json", help="A line on stderr for each request.")] = "text",
    grace: Annotated[
        float,
        of_network(metavar="SECONDS", min=0, help="On SIGTERM, how long requests under way may take to finish."),
    ] = 20.0,
    provider: Annotated[
        str,
        of_batches(metavar="NAME", help="auto, cpu, cuda, tensorrt, openvino, webgpu, coreml or directml."),
    ] = "auto",
    threads: Annotated[
        int | None,
        of_batches(metavar="N", help="Threads of a worker. [default: every core, divided among the workers]"),
    ] = None,
    workers: Annotated[
        int,
        of_batches(
            metavar="N",
            min=1,
            max=64,
            help="Processes, each with its own copy of the model, its own batches and limits: for small models, where "
            "HTTP takes longer than the images.",
        ),
    ] = 1,
    tf32: Annotated[
        bool, of_batches("--tf32", help="Let an NVIDIA GPU round fp32 products to TF32: faster, less exact.")
    ] = False,
    batch_size: Annotated[
        int | None,
        of_batches(metavar="N", min=1, max=4096, help="Images of all clients per run. [default: by their size]"),
    ] = None,
    delay: Annotated[
        float,
        of_batches(metavar="MS", min=0, max=1000, help="How long a batch that is not full waits for more images."),
    ] = 2.0,
    max_images: Annotated[int, of_limits(metavar="N", min=1, max=100_000, help="Images in one answer.")] = 512,
    max_pixels: Annotated[int, of_limits(metavar="N", min=1, max=178_000_000, help="Pixels in one answer.")] = 1 << 24,
    max_body: Annotated[int, of_limits(metavar="BYTES", min=1024, max=1 << 30, help="Size of one request's body.")] = 8
    << 20,
    queue: Annotated[
        int, of_limits(metavar="N", min=1, help="Images of a model that wait or are under way; more get 429.")
    ] = 4096,
    trust_script: Annotated[
        bool, typer.Option("--trust-script", help="Run .ts files without checking their programs, with your rights.")
    ] = False,
    answers: Any = None,
) -> None:
    """Serve a generator's images over HTTP.

    A page for people at /, pictures by seed below /v1, the Open Inference Protocol (KServe, Triton) below /v2, metrics
    for Prometheus at /metrics; /docs lists it all. What clients ask for at the same time is generated in one batch.
    The address is printed on stdout.

    \b
    Examples:
      gan-serve                                the model that comes with ganport
      gan-serve g.onnx --port 8080
      gan-serve --model faces=f.onnx --model digits=d.onnx
      gan-serve g.onnx --host 0.0.0.0 --allow-host images.example.org
      curl -O localhost:8000/v1/images/7.png
    """
    from gan_core.said import parse_answers
    from gan_serve.runtime import runtimes

    if log_format not in ("text", "json"):
        raise GanportError(f"--log-format must be text or json, got {log_format[:40]!r}", hint="leave it out for text")
    if queue < max_images:
        raise GanportError(
            f"--queue {queue} is less than --max-images {max_images}", hint="the queue has to hold one whole request"
        )
    processes.check(workers)
    hosts = {name.lower() for name in allow_host or ()}
    if hosts or host in LOOPBACK:
        hosts |= {"localhost", host}
    cores = max(1, usable_cores() // workers)
    threads = cores if threads is None and workers > 1 else threads
    divided = workers > 1 and sys.platform == "linux"
    with processes.counting(workers):
        try:
            from gan_serve.server import serving
            from gan_serve.server.app import Server
            from gan_serve.server.exchange import Limits
            from gan_serve.server.metrics import Metrics
            from gan_serve.server.served import Batching, Served
        except ModuleNotFoundError as error:
            raise MissingPackageError((error.name or "a package").partition(".")[0], "serve", NAME) from error
        limits, batching = Limits(max_images, max_pixels, max_body, queue), Batching(batch_size, delay / 1000)

        def work(first: bool = True, ready: Callable[[], None] | None = None) -> int:
            metrics, served = Metrics(), list[Served]()
            logging.disable(logging.NOTSET if first else logging.WARNING)  # what the first has said of the models
            for name, path in _named(file, model or [], runtimes.default_model):
                generator = runtimes.load(
                    path, provider, threads, many=True, tf32=tf32, trust_script=trust_script,
                    answers=parse_answers(**answers),
                )  # fmt: skip
                served.append(Served(name, generator, limits, batching, metrics))
            logging.disable(logging.NOTSET)
            server = Server(served, limits, metrics, frozenset(hosts) or None, cores)
            own = serving.bind(host, bound.getsockname()[1], shared=True) if divided else bound
            if first:
                own.listen(1024)  # who has seen the address is not refused
                shown = f"[{host}]" if ":" in host else host
                console.show(f"http://{shown}:{bound.getsockname()[1]}")
                sys.stdout.flush()  # for a pipe or a log, which would get it at the end
                for each in served:
                    _log.info("%s: %s on %s", each.name, each.interface.picture, each.generator.provider)
            serving.serve(server, own, grace, ready)
            return 0

        with (
            serving.log_lines(as_json=log_format == "json", quiet=console.is_quiet()),
            serving.bind(host, port) as bound,
        ):
            code = 0
            if workers == 1:
                work()
            else:
                code = processes.supervise(
                    workers, grace, lambda *told: console.exit_code(lambda: work(*told), name=NAME)
                )
            if code:
                raise typer.Exit(code)
            _log.info("stopped")


def _named(file: Path | None, models: list[str], default: Any) -> list[tuple[str, Path]]:
    """(name, path) of each model; a name that is not given is the file's, without its suffix."""
    found = [] if file is None else [(_plain(file), file)]
    for text in models:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = _plain(Path(text)), text
        if not path:
            raise GanportError(f"--model must be NAME=FILE, got {text[:60]!r}", hint="such as --model faces=faces.onnx")
        found.append((name, Path(path)))
    return found or [(_plain(default()), default())]


def _plain(path: Path) -> str:
    """A name of letters that addresses take, from a file's."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in path.stem
    )
    return plain.lstrip(".-") or "model"


def main() -> NoReturn:
    """The command `gan-serve`."""
    try:
        console.run(app, NAME, takes_signals=False)
    except SystemExit as done:
        console.leave(done)
