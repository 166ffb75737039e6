"""What lies in a folder: each file that may be a checkpoint, by reading it and by the shapes in it; no statistics.

files_in(folder)   → the files to look at, and what is left out
look(path)         → one `Entry`, whatever is in the file
paired(entries)    → generators with the discriminators beside them
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.archive import is_archive, read_contract
from gan_core.files.metadata import read_onnx_text
from gan_core.interface import Interface
from gan_core.printable import printable
from gan_export.identify import drafts_of
from gan_export.reading import read_checkpoint
from gan_export.reading.beside import SUFFIXES, discriminator_of, file_beside
from gan_export.reading.kinds import WHAT
from gan_export.reading.roles import role_of_name
from gan_export.source import JOIN_PARTS, check_checkpoint

MODELS = (".onnx", ".ts")
KERAS = (".h5", ".keras")
"""Listed for what they are; nothing reads them."""
MOST_FILES = 500
MOST_ENTRIES = 50_000
DEPTH = 4
"""Folders below the one that is named."""
MAX_BYTES = 2 << 30
"""Larger files are not read for a table."""


@dataclass(frozen=True)
class Entry:
    """What one file is.

    kind           "generator", a kind of `kinds.WHAT`, "model" (exported already), "network" (read, and no chain that
                   is known), "no checkpoint"
    said           what it is, or why it is not read, in a line
    interface      of a generator or a model of ours; the likeliest, where shapes allow several
    family         of a generator: a known one, "chain", "ganport"
    parameters     numbers in a generator's weights
    discriminator  the file beside it, or the key in it, where its discriminator is
    others         further sizes (C, H, W) that the images may have by the shapes
    """

    path: Path
    kind: str
    said: str
    interface: Interface | None = None
    family: str = ""
    parameters: int = 0
    discriminator: Path | str | None = None
    others: tuple[tuple[int, int, int], ...] = ()


def files_of(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """(the files among `paths` and those in the folders among them, what was left out in sentences).

    Raises `GanportError` as `files_in`.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for path in paths:
        inside, left = files_in(path) if path.is_dir() else ([path], [])
        files += inside
        left_out += left
    return list(dict.fromkeys(files)), left_out


def files_in(folder: Path) -> tuple[list[Path], list[str]]:
    """(the files below `folder` that have a checkpoint's or a model's suffix, what was left out in sentences).

    Links to folders, hidden folders and those further down than `DEPTH` are not entered. Raises `GanportError` when
    the folder cannot be read, or holds no such file.
    """
    found: list[Path] = []
    left_out: list[str] = []
    deep, links, seen = 0, 0, 0
    pending = [(folder, 0)]
    while pending and seen < MOST_ENTRIES and len(found) <= MOST_FILES:
        here, depth = pending.pop()
        try:
            inside = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            if here == folder:
                raise GanportError(f"{folder} cannot be read: {error.strerror}", hint="check its rights") from error
            left_out.append(f"not entered: {here}: {error.strerror}")
            continue
        seen += len(inside)
        below = []
        for entry in inside:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                hidden = entry.name.startswith(".") or entry.name == "__pycache__"
                below += [] if hidden else [(path, depth + 1)]
            elif entry.is_symlink() and path.is_dir():
                links += 1
            elif _may_be(path):
                found.append(path)
        deep += len(below) if depth == DEPTH else 0
        pending += reversed(below if depth < DEPTH else [])
    if not found:
        raise GanportError(
            f"{folder} holds no file that may be a checkpoint ({', '.join((*SUFFIXES, *MODELS))})",
            hint=JOIN_PARTS if any(folder.glob("*.distcp")) else "name the files themselves, whatever they are called",
        )
    if len(found) > MOST_FILES or pending:
        left_out.append(f"only the first {min(len(found), MOST_FILES)} files: name a folder further down for others")
    if deep:
        left_out.append(f"{deep} folder{'s' * (deep > 1)} more than {DEPTH} levels down: name them for what they hold")
    if links:
        left_out.append(f"{links} link{'s' * (links > 1)} to folders not followed")
    return found[:MOST_FILES], left_out


def _may_be(path: Path) -> bool:
    """Whether a file's name says that it may be a checkpoint or a model; most files called .ts are programs."""
    suffix = path.suffix.lower()
    return suffix in (*SUFFIXES, *KERAS, ".onnx") or (suffix == ".ts" and path.is_file() and is_archive(path))


def look(path: Path) -> Entry:
    """What the file at `path` is. Raises nothing: what cannot be read is told in the entry."""
    try:
        return _model(path) or _checkpoint(path)
    except GanportError as error:
        said = str(error).removeprefix(printable(" ".join(str(path).split())))
        said = said.removeprefix(":").lstrip().removeprefix("it ")
        if error.code in WHAT:
            judges = error.code == "classifier" and role_of_name(path.stem) == "discriminator"
            kind = "discriminator" if judges else error.code
            return Entry(path, kind, said.rpartition(": it ")[2])
        return Entry(path, "no checkpoint", said if path.exists() else "there is no such file")
    except Exception as error:  # one file never ends the table
        return Entry(path, "no checkpoint", f"cannot be read: {type(error).__name__}: {error}")


def _model(path: Path) -> Entry | None:
    """The entry of a file that is exported already, of ours or another exporter's; None for others."""
    if path.suffix.lower() not in MODELS or not path.is_file():
        return None
    if path.suffix.lower() == ".onnx":
        contract = Contract.from_metadata(read_onnx_text(path).metadata, where=str(path))
        if contract is None:
            return Entry(path, "model", "ONNX of another exporter")
    else:
        try:
            contract = read_contract(path)
        except GanportError:
            return None  # a stranger's, which is read as a checkpoint
    return Entry(path, "model", "exported", contract.interface)


def _checkpoint(path: Path) -> Entry:
    check_checkpoint(path)
    if path.stat().st_size > MAX_BYTES:
        return Entry(path, "no checkpoint", f"not read for a table, it has {path.stat().st_size:,} bytes")
    reading = read_checkpoint(path)
    parameters = sum(tensor.numel() for tensor in reading.tensors.values())
    if reading.ours is not None:
        return Entry(path, "generator", "ganport's own", reading.ours.spec.interface, "ganport", parameters)
    beside = discriminator_of(reading)
    inside = beside.where.partition(", at ")[2] if beside is not None else ""
    try:
        draft, *rivals = drafts_of(reading, beside)
    except GanportError as error:
        if error.code:
            raise
        return Entry(path, "network", str(error), parameters=parameters, discriminator=inside or None)
    named = draft.family if draft.family != "chain" else f"at {reading.chosen}" if reading.chosen else ""
    face = draft.spec.interface
    sizes = dict.fromkeys(one.spec.interface.image for one in rivals if one.spec.interface.image != face.image)
    return Entry(path, "generator", named, face, draft.family, parameters, inside or None, tuple(sizes))


def paired(entries: Sequence[Entry]) -> list[Entry]:
    """`entries`, each generator with the discriminator beside it, which comes right behind its generator."""
    at = {entry.path: entry for entry in entries}
    owners: dict[Path, list[Entry]] = {}
    found = []
    for entry in entries:
        if entry.kind in ("generator", "network") and entry.discriminator is None:
            beside = file_beside(entry.path) if entry.path.is_file() else None
            if beside in at and at[beside].kind not in ("generator", "no checkpoint"):
                entry = replace(entry, discriminator=beside)
                owners.setdefault(beside, []).append(entry)
        found.append(entry)
    return list(_in_order(found, owners))


def _in_order(entries: Sequence[Entry], owners: dict[Path, list[Entry]]) -> Iterator[Entry]:
    behind = {owned[0].path: path for path, owned in owners.items()}
    at = {entry.path: entry for entry in entries}
    for entry in entries:
        if entry.path not in owners:
            yield entry
            if entry.path in behind:
                yield at[behind[entry.path]]
