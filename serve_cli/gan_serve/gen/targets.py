"""Where the images go, read from `--out`: the name says the kind."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.atomic import descriptor_of, explain_os_errors, follow, is_stream

_STDOUT = 1
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
ARRAYS = (".npy", ".npz")
ANIMATIONS = (".webp", ".gif", ".mp4")


class Kind(enum.StrEnum):
    PICTURE = "picture"
    FOLDER = "folder"
    ARRAY = "array"
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
            f"{what} take about {size_text(size_bytes)}, {folder} has {size_text(free)} free",
            hint="draw fewer, or write elsewhere",
        )


def size_text(size_bytes: int) -> str:
    """ "4.1 TB": decimal units, as disks are sold."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(max(size_bytes, 1))) - 1) // 3, len(units) - 1)
    return f"{size_bytes / 1000**power:.3g} {units[power]}"


def _any(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
