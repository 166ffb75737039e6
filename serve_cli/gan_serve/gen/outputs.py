"""Where the images go, read from `--out` (the name says the kind), and how they get there.

One file of many images is a grid (PNG, JPEG, WebP, or PNG on stdout), an array (.npy, .npz) or an animation: it is
opened before the first image is drawn, so that a folder that cannot be written shows at once, and left whole or not at
all. A folder gets one PNG per image: threads encode and write while the next batches are drawn, and at most a few
batches wait. A run that is stopped leaves the files that it finished, and running it again writes the others: a file
says in its text which model and seed it is.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.files.atomic import WholeFiles, atomic_path, descriptor_of, explain_os_errors, follow, is_stream
from gan_core.images import ANIMATIONS, SIGNATURE, SIZES_END, encode_batch, encode_png, text_chunks, to_pil
from gan_core.printable import bytes_text
from gan_core.process import usable_cores
from gan_serve.runtime import in_order
from gan_serve.runtime.plan import Plan
from gan_serve.terminal.shell import explain_stdout, refuse_closed_stdout

_STDOUT = 1
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
ARRAYS = (".npy", ".npz")
MAX_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}
"""The longest side, in pixels, that the format can say."""
NO_OPACITY = (".jpg", ".jpeg", ".mp4")
FORMATS = {"tar": ".tar", "parquet": ".parquet", "npy": ".npy", "folder": ""}
"""Of shards, and how their names end."""
LEAST_PNG_BYTES = 67
"""Of one pixel, without text."""
_FILES_PER_TASK = 16


class BusyError(GanportError):
    """Another process writes where this one was to write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another gan-gen writes these images into {folder}",
            hint="wait until it ends, or write to another folder",
            code="busy",
        )


class Kind(enum.StrEnum):
    PICTURE = "picture"
    FOLDER = "folder"
    ARRAY = "array"
    SHARDS = "shards"
    STDOUT = "stdout"
    ANIMATION = "animation"


@dataclass(frozen=True)
class Target:
    """`path` is what was asked for, as it was written (without a final slash); "-" for stdout."""

    kind: Kind
    path: Path


def parse_target(out: str | None, model: Path, *, walk: bool = False) -> Target:
    """What `--out` means. None: the model's name with .png (.webp for a walk), in the current folder.

    A folder is an existing one, a name that ends in a slash, or a name without a suffix; a pipe or a device without a
    suffix takes a PNG. Raises `GanportError` for a
    suffix that nothing here writes.
    """
    if out is None:
        out = model.stem + (".webp" if walk else ".png")
    path = Path(out)
    with explain_os_errors(path):
        stream = is_stream(path)
        if out == "-" or (stream and descriptor_of(path) == _STDOUT):
            if walk:
                raise GanportError("a walk cannot go to stdout, which takes one PNG", hint="--out walk.webp")
            return Target(Kind.STDOUT, Path("-"))
        follow(path)  # a circle of links, a name that is too long
    suffix = path.suffix.lower()
    if stream and not suffix and not walk:
        return Target(Kind.PICTURE, path)
    if out.endswith(("/", os.sep)) or path.is_dir() or not suffix:
        if walk:
            raise GanportError(f"a walk is one file, got the folder {out}", hint=f"its name ends in {_any(ANIMATIONS)}")
        return Target(Kind.FOLDER, path)
    if walk:
        if suffix not in ANIMATIONS:
            raise GanportError(
                f"a walk is written as {_any(ANIMATIONS)}, got {path.name}", hint=f"--out {path.with_suffix('.webp')}"
            )
        return Target(Kind.ANIMATION, path)
    if suffix in PICTURES:
        return Target(Kind.PICTURE, path)
    if suffix in ARRAYS:
        return Target(Kind.ARRAY, path)
    if suffix in ANIMATIONS:
        raise GanportError(f"{path.name} is an animation, which needs --walk", hint="--walk 8 goes through 8 seeds")
    raise GanportError(
        f"{path.name}: images are written as {_any(PICTURES + ARRAYS)}",
        hint="end the name of a folder with a slash",
    )


def require_room(where: Path, size_bytes: int, what: str) -> None:
    """Raises `GanportError` when the disk that holds `where` has less than `size_bytes` free."""
    folder = where.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise GanportError(
            f"{what} take about {bytes_text(size_bytes)}, {folder} has {bytes_text(free)} free",
            hint="generate fewer, or write elsewhere",
        )


def _any(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def check_format(path: Path, channels: int, sides: tuple[int, int] = (0, 0), hint: str = "write a .png") -> None:
    """Raises `GanportError` for a picture that the format of `path`'s suffix cannot hold; sides are (width, height)."""
    suffix = path.suffix.lower()
    if channels == 4 and suffix in NO_OPACITY:
        raise GanportError(
            f"the images have an opacity channel, which {suffix} cannot hold", hint="write a .png or .webp"
        )
    most = MAX_SIDE.get(suffix)
    if most is not None and max(sides) > most:
        size = "x".join(map(str, sides))
        raise GanportError(f"a picture of {size} pixels, {suffix} holds at most {most} a side", hint=hint)


def write_picture(path: Path, grids: Iterator[U8], text: dict[str, str]) -> None:
    """The one grid as `path`'s suffix says: PNG with `text`, else as `save_picture` does it."""
    with atomic_path(path) as temporary:
        suffix, picture_HWC = path.suffix.lower(), next(grids)
        if suffix in MAX_SIDE:
            save_picture(picture_HWC, temporary, suffix)
        else:  # a pipe or a device may have any name
            temporary.write_bytes(encode_png(picture_HWC, text))


def save_picture(pixels_HWC: U8, target: Path, suffix: str, said: bytes = b"") -> None:
    """JPEG at quality 95 without chroma subsampling, or WebP lossless, with `said` as its comment or XMP."""
    if suffix == ".webp":
        to_pil(pixels_HWC).save(target, "WEBP", lossless=True, xmp=said)
    else:
        to_pil(pixels_HWC).save(target, "JPEG", quality=95, subsampling=0, comment=said)


def refuse_stdout() -> None:
    """Raises `GanportError` when stdout is closed or a terminal."""
    refuse_closed_stdout()
    if sys.stdout.isatty():
        raise GanportError("a PNG on a terminal is unreadable", hint="pipe it, as in: gan-gen … --out - | display")


def write_stdout(grids: Iterator[U8], text: dict[str, str]) -> None:
    """The one grid as PNG on stdout, and nothing else."""
    picture_HWC = next(grids)
    with explain_stdout():
        sys.stdout.buffer.write(encode_png(picture_HWC, text))
        sys.stdout.buffer.flush()


def write_array(path: Path, plan: Plan, batches: Iterable[U8], scale: int = 1) -> None:
    """All images, which in `batches` are `scale` times as large, as uint8 (n, H, W, C).

    Alone in a .npy; in a .npz as `pixels`, with the plan's `seeds` (int64) and `labels` (int64) beside it where there
    are any. Not compressed.

    The images stream into the file: memory stays flat. Raises `GanportError` when the disk is too small for them.
    """
    c, h, w = plan.contract.interface.image
    shape = (plan.n, h * scale, w * scale, c)
    require_room(path, math.prod(shape), f"{plan.n} images")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                stream_npy(file, shape, batches)
            return
        import zipfile

        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("pixels.npy", "w", force_zip64=True) as file:
                stream_npy(file, shape, batches)
            seeds = None if plan.seeds is None else plan.seeds.array(0, plan.n)
            columns = {"labels": plan.labels(0, plan.n), "seeds": seeds}
            for name, column in columns.items():
                if column is not None:
                    with archive.open(f"{name}.npy", "w") as file:
                        np.lib.format.write_array(file, column, allow_pickle=False)


def stream_npy(file: IO[bytes], shape: tuple[int, ...], batches: Iterable[U8]) -> None:
    """The images of `batches` as a .npy file of `shape`, uint8."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    for pixels_NHWC in batches:
        file.write(np.ascontiguousarray(pixels_NHWC).data)


def write_folder(
    folder: Path, plan: Plan, draw: Callable[[int, int], Iterator[U8]], text: dict[str, str], *, overwrite: bool = False
) -> int:
    """Writes `plan.stem(i)`.png for every image that is not there; each carries `text` and what the plan says of it.

    draw       generates images start up to stop, in batches
    overwrite  every image is written, whatever is there
    Returns how many were written. Raises `GanportError` when the folder cannot be made or written, has another image
    under the name of one, another gan-gen writes into it, the disk is full, or, as the first images show, would be long
    before the end.
    """
    with explain_os_errors(folder):
        made = not folder.exists()
        there = 0 if made or overwrite else sum(1 for _ in folder.iterdir())
        if there:  # before a look at each name
            require_room(folder, (plan.n - there) * LEAST_PNG_BYTES, f"{plan.n} images")
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        return _write_missing(folder, plan, draw, text, there=bool(there), made=made)


def _write_missing(
    folder: Path, plan: Plan, draw: Callable[[int, int], Iterator[U8]], text: dict[str, str], *, there: bool, made: bool
) -> int:
    """`write_folder`, where the folder was `made` by it, or has files `there` that may be images of the plan."""
    files = WholeFiles(folder)
    common = text_chunks(text)

    def chunks(index: int) -> bytes:
        return common + text_chunks(plan.text(index))

    missing = _missing(folder, plan, chunks) if there else [range(plan.n)]
    count = sum(map(len, missing))

    def write(part: tuple[int, U8]) -> None:
        start, pixels_NHWC = part
        encoded = encode_batch(pixels_NHWC, [chunks(start + offset) for offset in range(len(pixels_NHWC))])
        for index, data in enumerate(encoded, start):
            files.write(f"{plan.stem(index)}.png", data)

    def parts() -> Iterator[tuple[int, U8]]:
        for each in missing:
            for offset, pixels_NHWC in numbered(draw(each.start, each.stop)):
                start = each.start + offset
                if start == missing[0].start:  # before any file is written
                    tried = encode_batch(pixels_NHWC[:4], [chunks(start)] * min(4, len(pixels_NHWC)))
                    require_room(folder, count * sum(map(len, tried)) // len(tried), f"{count} images")
                yield start, pixels_NHWC

    try:
        with contextlib.closing(in_order(write, parts(), usable_cores())) as written:
            for _ in written:
                pass
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()
    return count


@contextlib.contextmanager
def alone_in(folder: Path, *, parts: bool = False) -> Iterator[None]:
    """Within, no other gan-gen writes images into `folder`; where it makes `parts` of a job, only their like do.

    The lock is on the folder itself and leaves no file; Windows, and some file systems, have none. Raises
    `GanportError` where another one writes.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    with explain_os_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if parts else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(folder) from error
        yield
    finally:
        os.close(handle)


def _missing(folder: Path, plan: Plan, chunks: Callable[[int], bytes]) -> list[range]:
    """The images of a plan that `folder` does not have, or not whole. Raises `GanportError` where it has another one.

    A file is the image if it ends as a PNG does, and what stands before the pixels is the same.
    """
    missing: list[range] = []
    for index in range(plan.n):
        path = os.path.join(folder, f"{plan.stem(index)}.png")  # noqa: PTH118 (a Path costs as much as the look)
        wanted = chunks(index)
        head, tail = _ends_of(path, SIZES_END + len(wanted))
        if tail.endswith(b"IEND\xaeB`\x82") and head.startswith(SIGNATURE):
            if head[SIZES_END:] == wanted:
                continue
            raise GanportError(
                f"{path} is another image: of another model, seed, class, scale or ganport, or without ganport's text",
                hint="choose another folder, or add --overwrite",
                code="other_image",
            )
        if missing and missing[-1].stop == index:
            missing[-1] = range(missing[-1].start, index + 1)
        else:
            missing.append(range(index, index + 1))
    return missing


def _ends_of(path: str, head_bytes: int) -> tuple[bytes, bytes]:
    """The first bytes of a file, and its last 12; none of what is missing, or no regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return b"", b""
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            head = file.read(head_bytes)
            file.seek(-min(12, len(head)), os.SEEK_END)
            return head, file.read()
    except FileNotFoundError:
        return b"", b""


def numbered(batches: Iterable[U8]) -> Iterator[tuple[int, U8]]:
    """Parts of at most `_FILES_PER_TASK` images, each with the number of its first."""
    start = 0
    for pixels_NHWC in batches:
        for offset in range(0, len(pixels_NHWC), _FILES_PER_TASK):
            part = pixels_NHWC[offset : offset + _FILES_PER_TASK]
            yield start, part
            start += len(part)
