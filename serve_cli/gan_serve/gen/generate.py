"""What gan-gen does once its options are understood: load, draw, write, and say where."""

from __future__ import annotations

from typing import Any

from gan_core import __version__
from gan_core.classes import class_label
from gan_core.printable import shorten
from gan_serve.gen.plan import Plan, draw
from gan_serve.gen.request import Request
from gan_serve.gen.targets import Kind, Target
from gan_serve.runtime import runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.terminal import console


def run_request(request: Request, provider: str, threads: int | None, tf32: bool = False) -> None:
    """Carries a request out; data to stdout, notes to stderr. Raises `GanportError`."""
    request.check()
    target = None if request.info or request.selftest else request.target()
    if request.model is None:
        console.note(f"no --model: {request.model_file.stem}, which comes with ganport")
    if request.info and provider == "auto" and not tf32:
        _info(request, None)
        return
    generator = runtimes.load(
        request.model_file,
        provider,
        threads,
        many=request.several,
        tf32=tf32,
        trust_script=request.trust_script,
    )
    if request.info:
        _info(request, generator)
    elif request.selftest:
        _selftest(request, generator)
    elif target is not None:
        plan = request.plan(generator.contract)
        _write(request, generator, plan, target)
        chosen = " (auto)" if provider == "auto" else ""
        if request.by_class and target.kind in (Kind.PICTURE, Kind.STDOUT):
            rows = ", ".join(class_label(plan.contract, int(label)) for label in plan.classes)
            console.note(f"rows: {shorten(rows)}")
        console.note(f"{plan.n} {_what(plan, target)} on {generator.provider}{chosen}")
        if request.json:
            console.show_json(_record(request, generator, plan, target))
        elif target.kind is not Kind.STDOUT:
            console.show_path(target.path)


def _write(request: Request, generator: Generator, plan: Plan, target: Target) -> None:
    """Each way out is imported when it is taken: a cold start pays for one."""
    batches = draw(generator, plan, request.batch_size)
    text = {"Software": f"ganport {__version__}", "gan.model_sha256": generator.sha256}
    if target.kind is Kind.FOLDER:
        from gan_serve.gen.folder import write_folder

        write_folder(target.path, plan, batches, text)
    elif target.kind is Kind.ANIMATION:
        from gan_serve.gen.animation import write_animation

        write_animation(target.path, plan, batches)
    else:
        from gan_serve.gen import writers

        if target.kind is Kind.ARRAY:
            writers.write_array(target.path, plan, batches)
        elif target.kind is Kind.STDOUT:
            writers.write_stdout(plan, batches, request.cols, text | plan.describe())
        else:
            writers.write_picture(target.path, plan, batches, request.cols, text | plan.describe())


def _info(request: Request, generator: Generator | None) -> None:
    from gan_serve.gen.info import describe, info_json, info_text

    about = describe(request.model_file) if generator is None else generator
    if request.json:
        console.show_json(info_json(about, request.model_file))
    else:
        console.show(info_text(about, request.model_file))


def _selftest(request: Request, generator: Generator) -> None:
    from gan_serve.gen.selftest import run_selftest

    table, record, error = run_selftest(generator, str(request.model_file))
    if request.json:
        console.show_json(record)
    else:
        console.show(table)
    if error is not None:
        raise error
    console.note(f"all {len(record['images'])} golden images as expected ({record['allowed']}) on {generator.provider}")


def _record(request: Request, generator: Generator, plan: Plan, target: Target) -> dict[str, Any]:
    c, h, w = plan.contract.image
    record: dict[str, Any] = {
        "out": str(target.path),
        "kind": target.kind.value,
        "n": plan.n,
        "image": {"channels": c, "height": h, "width": w},
        "model": str(request.model_file),
        "sha256": generator.sha256,
        "provider": generator.provider,
    }
    return record | {key.removeprefix("gan."): value for key, value in plan.describe().items()}


def _what(plan: Plan, target: Target) -> str:
    _, h, w = plan.contract.image
    noun = "frame" if target.kind is Kind.ANIMATION else "image"
    described = plan.describe()
    seeds, each = described.get("gan.seeds"), " in each class" if "gan.rows" in described else ""
    return f"{noun}{'' if plan.n == 1 else 's'} of {w}x{h}{f', seeds {seeds}{each},' if seeds else ''}"
