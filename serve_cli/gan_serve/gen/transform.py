"""Images in, images out: the pictures that `--image` names, through a generator that takes images, one by one.

A PNG is written as its rows are computed, so that a large image in tiles needs no memory for its result. A picture of a
folder that cannot be used is named and passed over; the others are written, and the command then fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_core import __version__
from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path, explain_os_errors
from gan_core.files.model_file import check_file
from gan_core.images import write_png
from gan_core.pictures.folder import scan
from gan_serve.gen.jobs import metered
from gan_serve.gen.outputs import PICTURES, alone_in, check_format, refuse_stdout, save_picture
from gan_serve.gen.request import Request
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.transform import Transform, taken_by, width_x_height
from gan_serve.terminal import console
from gan_serve.terminal.shell import explain_stdout


@dataclass(frozen=True)
class Work:
    """A picture, where its result goes (None: stdout), and, if it was found in a folder, the folder of the results."""

    source: Path
    target: Path | None
    root: Path | None


def transform(request: Request, generator: Generator) -> None:
    """Transforms every picture; prints the paths, or the folder's. Raises `GanportError`."""
    if generator.contract.interface.input is None:
        raise GanportError(
            f"the generator makes images of seeds, not of {request.images[0]}", hint="gan-gen FILE 25 makes 25 images"
        )
    taken_by(generator, request.tile, request.halo, request.resize)
    works = plan(request)
    if works[0].target is None:
        refuse_stdout()
    failed = 0
    written: list[tuple[Work, tuple[int, int]]] = []
    with contextlib.ExitStack() as shown:
        for root in {work.root for work in works if work.root}:
            with explain_os_errors(root):
                root.mkdir(parents=True, exist_ok=True)
            shown.enter_context(alone_in(root, parts=request.job.part(os.environ)[1] > 1))
        works = _to_do(request, works, generator.sha256)
        progress = shown.enter_context(metered(len(works), "transforming")) if len(works) > 1 else None
        for work in works:
            try:
                done = Transform(generator, work.source, tile=request.tile, halo=request.halo, resize=request.resize)
                for note in done.notes:
                    console.note(f"{work.source}: {note}")
                _write(work, done, _text(request, work, generator.sha256), alone=progress is None)
            except GanportError as error:
                if not work.root:
                    raise
                console.warn(f"{work.source}: {error}" if str(work.source) not in str(error) else str(error))
                failed += 1
            else:
                written.append((work, done.size))
            if progress is not None:
                progress(1)
    _say(request, generator, written)
    if failed:
        raise GanportError(f"{failed} of {len(works)} images were not transformed", hint="the warnings say why")


def plan(request: Request) -> list[Work]:
    """What is read and written. Raises `GanportError` for paths that are missing, no images, or in each other's way."""
    model, out = request.model_file.stem, request.out
    if out is not None and "://" in out:
        raise GanportError(f"transformed images go into a folder, got {out}", hint="--out large/")
    works: list[Work] = []
    folders = [name for name in request.images if Path(name).is_dir()]
    several = len(request.images) > 1 or bool(folders)
    if several and out is not None and (out == "-" or Path(out).suffix.lower() in PICTURES):
        raise GanportError(f"several images go into a folder, got --out {out}", hint="--out large/")
    if not several and out == "-":
        return [Work(check_file(request.images[0], "image", _in_folder), None, None)]
    into_folder = out is not None and (several or out.endswith("/") or Path(out).is_dir() or not Path(out).suffix)
    for name in request.images:
        path = Path(name)
        if not path.is_dir():
            source = check_file(path, "image", _in_folder)
            target = Path(f"{path.stem}-{model}.png") if out is None else Path(out)
            works.append(Work(source, target / _named(path.name) if into_folder else target, None))
            continue
        base = Path(f"{path.resolve().name}-{model}" if out is None else out)
        works += [Work(path / each.relative, base / _named(each.relative), base) for each in scan(path).files]
    if not works:
        raise GanportError(f"{folders[0]} holds no images", hint="name an image, or a folder of them")
    _check(works)
    return works


def _to_do(request: Request, works: list[Work], sha256: str) -> list[Work]:
    """Of folders' images those of this part of the job that are not there yet; all of others.

    Raises `GanportError` where one is there that another model made.
    """
    if not any(work.root for work in works):
        return works
    part, parts, said_by = request.job.part(os.environ)
    works = works[len(works) * part // parts : len(works) * (part + 1) // parts]
    if parts > 1:
        console.note(f"part {part} of {parts}{said_by}: {len(works)} images")
    if request.job.overwrite:
        return works
    missing = [work for work in works if not (work.root and _is_there(work, _text(request, work, sha256)))]
    if len(missing) < len(works):
        console.note(f"{len(works) - len(missing)} of {len(works)} images are there already")
    return missing


def _text(request: Request, work: Work, sha256: str) -> dict[str, str]:
    """What the file of a result says of itself."""
    text = {"Software": f"ganport {__version__}", "gan.model_sha256": sha256, "gan.image": work.source.name}
    text |= request.styling | ({"gan.resized": "yes"} if request.resize else {})
    return text | ({} if request.halo is None else {"gan.halo": str(request.halo)})


def _is_there(work: Work, text: dict[str, str]) -> bool:
    """Whether the result was made, by this model and in this way, and the image has not changed since. Another version
    of ganport does not count."""
    assert work.target is not None
    try:
        with Image.open(work.target) as image:
            said: dict[str, Any] = {str(key): value for key, value in image.info.items()}
        said |= json.loads(said.get("comment") or said.get("xmp") or "{}")
        newer = work.target.stat().st_mtime_ns >= work.source.stat().st_mtime_ns
    except (OSError, ValueError, TypeError):  # none, or none of ours
        return False
    if said.get("gan.model_sha256") not in (None, text["gan.model_sha256"]):
        raise GanportError(
            f"{work.target} was made by another model",
            hint="choose another folder, or add --overwrite",
            code="other_image",
        )
    made, wanted = ({key: each[key] for key in each if key.startswith("gan.")} for each in (said, text))
    return newer and made == wanted


def _in_folder(folder: Path) -> str:
    return f"name an image in it: {folder}/photo.jpg"


def _named(name: str) -> str:
    """A picture's name for its result: as it is, in a format that is written."""
    return name if Path(name).suffix.lower() in PICTURES else f"{name.removesuffix(Path(name).suffix)}.png"


def _check(works: list[Work]) -> None:
    sources, targets = {work.source.resolve() for work in works}, set()
    for work in works:
        assert work.target is not None
        target = work.target.resolve()
        if target in sources:
            raise GanportError(f"{work.target} is an image that is read", hint="write elsewhere: --out large/")
        if target in targets:
            raise GanportError(f"two images would be written to {work.target}", hint="transform them one by one")
        if target.suffix.lower() not in PICTURES:
            raise GanportError(
                f"{work.target.name}: images are written as {', '.join(PICTURES)}", hint="end a folder with a slash"
            )
        targets.add(target)


def _write(work: Work, done: Transform, text: dict[str, str], *, alone: bool) -> None:
    with contextlib.ExitStack() as shown:
        count = None
        if alone and done.parts > 1:
            bar = shown.enter_context(console.progress(done.parts, "transforming"))
            count = lambda: bar.update(1)  # noqa: E731
        bands = done.bands(count)
        if work.target is None:
            with explain_stdout():
                write_png(sys.stdout.buffer, done.size, done.channels, bands, text)
                sys.stdout.buffer.flush()
            return
        suffix = work.target.suffix.lower()
        check_format(work.target, done.channels, done.size)
        with explain_os_errors(work.target):
            work.target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(work.target) as temporary:
            if suffix == ".png":
                with temporary.open("wb") as file:
                    write_png(file, done.size, done.channels, bands, text)
            else:
                save_picture(np.concatenate(list(bands)), temporary, suffix, json.dumps(text).encode())


def _say(request: Request, generator: Generator, written: list[tuple[Work, tuple[int, int]]]) -> None:
    sizes = {size for _, size in written}
    of_size = f" of {width_x_height(*next(iter(sizes)))}" if len(sizes) == 1 else ""
    console.note(f"{len(written)} image{'' if len(written) == 1 else 's'}{of_size} on {generator.provider}")
    files = [str(work.target) for work, _ in written if work.target is not None]
    if request.json:
        record = {"model": str(request.model_file), "sha256": generator.sha256, "provider": generator.provider}
        images = [
            {"image": str(work.source), "file": str(work.target), "width": size[0], "height": size[1]}
            for work, size in written
        ]
        console.show_json(record | {"files": files, "images": images})
        return
    for file in files:
        console.show_path(file)
