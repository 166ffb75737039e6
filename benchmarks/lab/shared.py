"""What the laboratory's commands share: options, checks of numbers, the environment of a record, and how it leaves."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Annotated

import typer

from gan_bench.environment import busy_note, describe
from gan_bench.options import whole_number
from gan_bench.record import dumps
from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_core.files.atomic import write_text
from gan_serve.terminal import console

Exported = Annotated[Path, typer.Option(metavar="FILE", help="The exported generator.")]
Checkpoint = Annotated[
    Path, typer.Option(metavar="FILE", help="The checkpoint it was exported from (gan-train's g.pt).")
]
Runs = Annotated[int, typer.Option(metavar="N", help="Measured runs of each, taken in turn.")]
RecordFile = Annotated[str | None, typer.Option(metavar="FILE", help="Write the record here; - for stdout.")]

LEAVE_OUT = "leave it out for the usual number"
MAX_RUNS = 1000
MAX_WINDOW_S = 3600


def new_record(tool: str, *, schema: int = 1, packages: Iterable[str] = ()) -> Json:
    """What the record of `python -m lab.TOOL` begins with: schema, tool, environment."""
    return {"schema": schema, "tool": f"lab.{tool}", "environment": look_around(tool, packages=packages)}


def look_around(tool: str, *, packages: Iterable[str] = (), warns: bool = True) -> Json:
    """The environment of a record, as gan-bench's, the folders of this machine cut from its command; takes half a
    second. `packages` are those whose versions belong to it, too. Warns when the machine has other work to do."""
    environment = describe(shlex.join(["python", "-m", f"lab.{tool}", *map(without_folder, sys.argv[1:])]))
    environment["versions"] |= {name: version_of(name) for name in packages}
    if warns and (busy := busy_note(environment)):
        console.warn(busy)
    return environment


def record_target(json: str | None, inputs: Mapping[str, Path | None] | None = None) -> Path | None:
    """The file of --json, or None. Raises `GanportError` when it cannot be written, or is one of `inputs`."""
    target = None if json in (None, "-") else Path(str(json))
    check_outputs(inputs or {}, {"--json": target})
    return target


def hand_over(made: Json, shown: str, json: str | None, target: Path | None) -> None:
    """What --json asks for: the table, or with "-" the record, to stdout; the record to its file."""
    console.show(dumps(made).removesuffix("\n") if json == "-" else shown)
    if target is not None:
        write_text(target, dumps(made))


def without_folder(word: str) -> str:
    """A word of a command line, an absolute path in it cut to its last part: `folder:/a/b@64` → `folder:b@64`."""
    found = re.fullmatch(r"([\w-]*[=:])?(/.*)", word, re.DOTALL)
    return f"{found[1] or ''}{PurePath(found[2]).name}" if found else word


def without_folders(text: str) -> str:
    """A sentence, the absolute paths in it cut to their last parts."""
    return re.sub(r"(?<![\w.~/-])/(?:[^/\s'\"]+/)+", "", text)


def check_numbers(numbers: Mapping[str, tuple[int, int, int]]) -> None:
    """`numbers` are options with their value, the least and the most it may be. Raises `GanportError`."""
    for option, (value, least, most) in numbers.items():
        if not least <= value <= most:
            raise GanportError(f"{option} takes {least} to {most}, got {value}", hint=LEAVE_OUT)


def check_window(seconds: float) -> None:
    """Raises `GanportError` for a --window that is none."""
    if not 0 < seconds <= MAX_WINDOW_S:
        raise GanportError(
            f"--window takes seconds up to {MAX_WINDOW_S}, got {seconds:g}", hint="leave it out for the usual window"
        )


def whole_numbers(text: str, option: str, most: int, hint: str) -> list[int]:
    """ "1,8" as [1, 8]. Raises `GanportError` for anything but whole numbers from 1 to `most`."""
    return [whole_number(item, option, most, hint) for item in text.split(",")]


def ascending(text: str, option: str, what: str) -> list[float]:
    """ "30,60" → [30.0, 60.0]. Raises `GanportError` unless they are ascending numbers above 0."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if any(not 0 < number < 1e6 for number in found) or sorted(set(found)) != found:
        raise GanportError(
            f"{option} takes ascending {what} above 0, got {text!r}", hint=f"for example {option} 30,60,120"
        )
    return found


def version_of(package: str) -> str | None:
    """The version of what pip calls so, without importing it; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def require(purpose: str, packages: Iterable[str] = ("torch", "torchvision"), extra: str = "train") -> None:
    """Raises `MissingPackageError` for the first of `packages` that is not installed."""
    for package in packages:
        if version_of(package) is None:
            raise MissingPackageError(package, extra, purpose)
