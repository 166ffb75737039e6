"""What gan-gen does: load the model, draw what was asked for, write it, and say where."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_core import __version__
from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.grids import Canvas, auto_scale, enlarged
from gan_core.interface import class_label
from gan_core.printable import shell_line, shorten
from gan_serve.gen import outputs
from gan_serve.gen.outputs import Kind, Target
from gan_serve.gen.request import Request
from gan_serve.runtime import runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.plan import Plan, WalkPlan, pictures
from gan_serve.runtime.styles import Noise
from gan_serve.terminal import console

if TYPE_CHECKING:
    from gan_serve.gen.jobs import Job
    from gan_serve.gen.stores import Folder


def run_request(request: Request, provider: str, threads: int | None, tf32: bool = False) -> None:
    """Carries a request out; data to stdout, notes to stderr. Raises `GanportError`."""
    request.check()
    if request.checks:
        record = _check_shards(request)
        console.show_json(record) if request.json else console.show_path(f"{record['out']}/{record['manifest']}")
        return
    target = None if request.info or request.selftest or request.images else request.target()
    provider = choose_device(provider, os.environ)
    if request.model is None:
        console.note(f"no --model: {request.model_file.stem}, which comes with ganport")
    if request.info and provider == "auto" and not tf32:
        _info(request, None)
        return
    opener = partial(
        _loaded,
        psi=request.psi,
        noise=request.amount_of_noise,
        provider=provider,
        many=request.several,
        tf32=tf32,
        trust_script=request.trust_script,
        answers=request.answers,
    )
    generator = opener(request.model_file, threads=threads)
    if request.info:
        _info(request, generator)
    elif request.selftest:
        _selftest(request, generator)
    elif request.images:
        from gan_serve.gen.transform import transform

        transform(request, generator)
    elif target is not None:
        plan = request.plan(generator)
        if target.kind is Kind.SHARDS:
            record = _make_shards(request, generator, plan, opener, tf32)
            console.show_json(record) if request.json else console.show_path(record["out"])
            return
        scale = _write(request, generator, plan, target)
        chosen = " (auto)" if provider == "auto" else ""
        if request.by_class and target.kind in (Kind.PICTURE, Kind.STDOUT):
            rows = ", ".join(class_label(plan.contract.interface, int(label)) for label in plan.classes)
            console.note(f"rows: {shorten(rows)}")
        if isinstance(plan, WalkPlan) and plan.walk.changes_class and not generator.mixes_classes:
            console.note("the model takes a class as a number, so classes do not mix: they change half-way")
        console.note(f"{_what(plan, scale)} on {generator.provider}{chosen}")
        if request.json:
            console.show_json(_record(request, generator, plan, target, scale))
        elif target.kind is not Kind.STDOUT:
            console.show_path(target.path)


def _loaded(path: Path, *, psi: float | None, noise: Noise, **settings: Any) -> Generator:
    return runtimes.load(path, **settings).with_options(psi=psi, noise=noise)


def choose_device(provider: str, environ: MutableMapping[str, str]) -> str:
    """The provider of "cuda:1" or "tensorrt:1"; CUDA_VISIBLE_DEVICES then leaves this process that one GPU.

    Raises `GanportError` for what is no number of a visible GPU.
    """
    name, colon, number = provider.partition(":")
    if not colon or name not in ("cuda", "tensorrt"):
        return provider
    visible = [gpu for gpu in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if not (number.isdecimal() and len(number) < 4) or (visible and int(number) >= len(visible)):
        raise GanportError(
            f"`provider` {provider} names no GPU{f' among the {len(visible)} visible' if visible else ''}",
            hint="GPUs are numbered from 0: cuda:0",
        )
    environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if visible else str(int(number))
    return name


def _write(request: Request, generator: Generator, plan: Plan, target: Target) -> int:
    """Draws and writes; returns how many times as large the images are."""
    if target.kind is Kind.STDOUT:
        outputs.refuse_stdout()
    scale, canvas = request.factor or 1, None
    if target.kind not in (Kind.FOLDER, Kind.ARRAY):
        canvas = _canvas(request, plan, target)
        scale = canvas.scale
    text = {"Software": f"ganport {__version__}", "gan.model_sha256": generator.sha256} | request.styling
    if scale > 1:
        text["gan.scale"] = str(scale)
    if target.kind is Kind.FOLDER:
        _write_folder(request, generator, plan, target, text)
        return scale
    drawn = generator.draw(plan.n, request.batch_size, plan.latents, plan.fed_labels)
    with contextlib.closing(console.with_progress(drawn, plan.n, "generating")) as batches:
        if canvas is not None:
            grids = pictures(plan, canvas, batches, captioned=request.labels)
            if target.kind is Kind.ANIMATION:
                from gan_serve.runtime.animation import write_animation

                write_animation(target.path, (grid.copy() for grid in grids), plan.n // plan.tiles, scale=1)
            elif target.kind is Kind.STDOUT:
                outputs.write_stdout(grids, text | plan.describe())
            else:
                outputs.write_picture(target.path, grids, text | plan.describe())
        else:
            outputs.write_array(target.path, plan, (enlarged(batch, scale) for batch in batches), scale)
    return scale


def _write_folder(request: Request, generator: Generator, plan: Plan, target: Target, text: dict[str, str]) -> None:
    """One PNG per image, those that are not there yet."""
    from gan_serve.gen.shards import ShardPlan

    scale = request.factor or 1

    def draw(start: int, stop: int) -> Iterator[U8]:
        part = ShardPlan(plan, start, stop)
        drawn = generator.draw(part.n, request.batch_size, part.latents, part.fed_labels)
        with contextlib.closing(console.with_progress(drawn, part.n, "generating")) as batches:
            yield from (enlarged(batch, scale) for batch in batches)

    written = outputs.write_folder(target.path, plan, draw, text, overwrite=request.job.overwrite)
    if written < plan.n:
        console.note(f"{plan.n - written} of {plan.n} images were there already")


def _make_shards(
    request: Request, generator: Generator, plan: Plan, opener: Callable[..., Generator], tf32: bool
) -> dict[str, Any]:
    """Makes what is missing of a job, or of a part of it; returns the command's record.

    opener  opens a path with `threads`, in another process too
    """
    from gan_serve.gen.jobs import Job, Maker, metered
    from gan_serve.gen.shards import import_pyarrow
    from gan_serve.gen.stores import open_store

    if request.job.format == "parquet":
        import_pyarrow()
    store, job = open_store(str(request.out)), Job.of(plan, generator, request, tf32)
    part, parts, said_by = request.job.part(os.environ)
    shards = job.part(part, parts)
    if parts > 1:
        console.note(f"part {part} of {parts}{said_by}: {len(shards)} of {job.shards} shards")
    maker = Maker(job, plan, store, request.batch_size)
    store.begin()
    with contextlib.ExitStack() as held:
        if shards:
            held.enter_context(store.held(shards.start, len(shards)))
        if request.job.overwrite:
            job.clear(store, shards)
        missing = job.missing(store, shards)
        if missing:
            maker.require_room(generator, missing)
        job.begin(store, request.job.overwrite)
        images, began = job.images_of(missing), time.monotonic()
        if len(missing) < len(shards):
            console.note(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
        if missing:
            with metered(images, "generating") as progress:
                if request.job.engine == "ray":
                    from gan_serve.gen import ray_engine

                    # actors may be in another folder
                    again, sent = partial(opener, request.model_file.absolute()), replace(maker, store=store.absolute())
                    ray_engine.run(sent, missing, again, request.job.workers, request.job.ray_address, progress)
                else:
                    maker.run(generator, missing, progress)
        seconds = time.monotonic() - began
        manifest = job.finish(store) if parts == 1 else None
    rate = f", {images / seconds:,.0f} a second" if missing else ""
    console.note(f"{images:,} images in {_shards(len(missing))} on {generator.provider}{rate}")
    if parts > 1:
        console.note(f"next: {shell_line(['gan-gen', '--finish', '--out', str(store)])} when all parts are done")
    return _of_shards(job, store) | {
        "part": [part, parts],
        "made": len(missing),
        "images": images,
        "seconds": round(seconds, 3),
        "manifest": manifest,
        "model": str(request.model_file),
        "sha256": generator.sha256,
        "provider": generator.provider,
    }


def _check_shards(request: Request) -> dict[str, Any]:
    """--finish and --verify, in this order; returns the command's record."""
    from gan_serve.gen.jobs import MANIFEST, Job, metered
    from gan_serve.gen.stores import open_store

    store = open_store(str(request.out))
    job = Job.read(store)
    if request.job.finish:
        job.finish(store)
        console.note(f"{job.n:,} images in {_shards(job.shards)}")
    if request.job.verify:
        with metered(job.n, "verifying") as progress:
            job.verify(store, progress)
        console.note(f"{job.n:,} images in {_shards(job.shards)}, all as the manifest says")
    return _of_shards(job, store) | {"manifest": MANIFEST, "verified": request.job.verify}


def _shards(count: int) -> str:
    return f"{count} shard{'' if count == 1 else 's'}"


def _of_shards(job: Job, store: Folder) -> dict[str, Any]:
    about = {"out": str(store), "kind": Kind.SHARDS.value, "format": job.format}
    return about | {"n": job.n, "shards": job.shards, "shard_size": job.about["shard_size"]}


def _canvas(request: Request, plan: Plan, target: Target) -> Canvas:
    """What a grid is drawn on. One image alone is left as it is, where no scale is asked for; but not a film of it."""
    image, scale = plan.contract.interface.image, request.factor
    cols = request.shape[0] if request.shape else request.cols or plan.cols
    if scale is None and plan.tiles == 1 and not request.labels:
        scale = 1
        if target.kind is Kind.ANIMATION:
            from gan_serve.runtime.animation import SEEN_ALONE

            scale = auto_scale(1, image, side=SEEN_ALONE)
    canvas = Canvas(plan.tiles, image, cols, scale=scale, captioned=request.labels)
    height, width, channels = canvas.picture_HWC.shape
    squarer = "write a .png, or choose `cols` so that the grid is squarer"
    outputs.check_format(target.path, channels, (width, height), squarer)
    return canvas


def _info(request: Request, generator: Generator | None) -> None:
    from gan_serve.gen.about import describe, info_json, info_text

    about = describe(request.model_file, request.answers) if generator is None else generator
    if request.json:
        console.show_json(info_json(about, request.model_file))
    else:
        console.show(info_text(about, request.model_file))


def _selftest(request: Request, generator: Generator) -> None:
    from gan_serve.gen.about import run_selftest

    table, record, error = run_selftest(generator, str(request.model_file))
    if request.json:
        console.show_json(record, error)
    else:
        console.show(table)
    if error is not None:
        raise error
    console.note(f"all {len(record['images'])} golden images as expected ({record['allowed']}) on {generator.provider}")


def _record(request: Request, generator: Generator, plan: Plan, target: Target, scale: int) -> dict[str, Any]:
    """What was drawn: `seeds` and `labels` have one number for each image, `classes` those that occur."""
    c, h, w = plan.contract.interface.image
    record: dict[str, Any] = {
        "out": str(target.path),
        "files": _files(plan, target),
        "kind": target.kind.value,
        "n": plan.n,
        "image": {"channels": c, "height": h, "width": w},
        "scale": scale,
        "model": str(request.model_file),
        "sha256": generator.sha256,
        "provider": generator.provider,
    }
    described: dict[str, Any] = {key.removeprefix("gan."): value for key, value in plan.describe().items()}
    if plan.seeds is not None:
        described["seeds"] = plan.seeds.array(0, len(plan.seeds)).tolist()
    described |= {name.removeprefix("gan."): value for name, value in request.styling.items()}
    if request.psi is not None:
        described["psi"] = request.psi
    if "truncation" in described:
        described["truncation"] = request.truncation
    if isinstance(plan, WalkPlan):
        record |= {"frames": plan.walk.frames, "tiles": plan.tiles}
        classes = plan.classes.tolist()
    elif (labels := plan.labels(0, plan.n)) is not None:
        described["labels"] = labels.tolist()
        classes = sorted({*described["labels"]})
    else:
        classes = []
    names = plan.contract.interface.class_names
    described["classes"] = [{"index": index, "name": names[index] if names else None} for index in classes]
    return record | described


def _files(plan: Plan, target: Target) -> list[str]:
    """What was written; nothing for stdout."""
    if target.kind is Kind.FOLDER:
        return [str(target.path / f"{plan.stem(index)}.png") for index in range(plan.n)]
    return [] if target.kind is Kind.STDOUT else [str(target.path)]


def _what(plan: Plan, scale: int) -> str:
    """ "25 images of 32x32, 4 times as large, seeds 0-24,"."""
    _, h, w = plan.contract.interface.image
    n, noun = plan.n, "image"
    if isinstance(plan, WalkPlan):
        n, noun = plan.walk.frames, f"frame of {plan.tiles} images" if plan.tiles > 1 else "frame"
    described = plan.describe()
    seeds, each = described.get("gan.seeds"), " in each class" if "gan.rows" in described else ""
    larger = f", {scale} times as large" if scale > 1 else ""
    listed = f", {'seed' if str(seeds).isdigit() else 'seeds'} {seeds}{each}" if seeds else ""
    several = noun if n == 1 else re.sub("^[a-z]+", r"\g<0>s", noun)
    return f"{n} {several} of {w}x{h}{larger}{listed}{',' if larger or listed else ''}"
