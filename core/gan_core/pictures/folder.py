"""A folder of pictures, any depth, with or without class folders.

Nothing is decoded to know whether a folder has changed: names, sizes, times and modes of its files say so.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from gan_core.arrays import I64
from gan_core.errors import GanportError
from gan_core.pictures import (
    GREY_MODES,
    BrokenImageError,
    Pictures,
    looks_like_image,
    quiet_pillow,
    read_image,
    read_mode,
)

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif",
)  # fmt: skip
"""A file whose name ends so is a picture, or a damaged one. Any other is a picture when it begins like one."""

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names of folders that are parts of a data set, and not classes of its pictures."""

FOLDER_SIZE = 64
NAMED = 4
"""Suffixes that a line about other files holds."""


@dataclass(frozen=True)
class ImageFile:
    """A picture file: its path below the folder (with /), and what tells whether it was touched."""

    relative: str
    size_bytes: int
    mtime_ns: int
    mode: int


@dataclass
class Scan:
    """What lies in a folder. `unreadable` are (path, reason); `others` counts what is no picture, by suffix."""

    files: list[ImageFile] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def scan(folder: Path) -> Scan:
    """Lists the pictures below `folder`, sorted by the bytes of their path. Names that start with a dot are ignored.

    Links are followed, each real folder is read once (links after everything else), so a loop ends.
    Raises `GanportError` when `folder` itself cannot be read.
    """
    result = Scan()
    seen: set[tuple[int, int]] = set()
    folders, links = deque([(folder, "")]), deque[tuple[Path, str]]()
    while folders or links:
        path, prefix = (folders or links).popleft()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if not prefix:
                raise GanportError(
                    f"cannot read the folder {folder}: {error.strerror}",
                    hint="check that the folder exists and that you may read it",
                ) from error
            result.unreadable.append((prefix, error.strerror or type(error).__name__))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append((Path(entry.path), f"{prefix}{entry.name}/"))
                    continue
                _add_file(result, entry, prefix + entry.name)
            except OSError as error:  # a link that leads to itself
                result.unreadable.append((prefix + entry.name, error.strerror or type(error).__name__))
    result.files.sort(key=lambda file: os.fsencode(file.relative))
    result.unreadable.sort()
    return result


def _add_file(result: Scan, entry: os.DirEntry[str], relative: str) -> None:
    suffix = PurePosixPath(entry.name).suffix.lower()
    known = suffix in SUFFIXES
    if entry.is_file() and (known or looks_like_image(entry.path)):  # not a pipe, which would never open
        status = entry.stat()
        result.files.append(ImageFile(relative, status.st_size, status.st_mtime_ns, status.st_mode))
    elif known and entry.is_symlink():
        result.unreadable.append((relative, "a link that leads nowhere"))
    else:
        result.others[suffix or entry.name] += 1


class FolderPictures(Pictures):
    """The pictures below `folder`. Raises `GanportError` when there is none.

    Each folder directly below is a class when every picture lies in one and there are at least two. Where all folders
    directly below are `SPLITS`, the classes are the folders in them. The identity changes when a picture is added,
    removed, renamed, edited, or made (un)readable.
    """

    def __init__(self, folder: Path, *, name: str = "", classes: bool = True) -> None:
        self.folder = folder.resolve()
        found = scan(self.folder)
        if not found.files:
            suffixes = [suffix[1:] for suffix in SUFFIXES]
            raise GanportError(
                f"no images in {folder}, expected {', '.join(suffixes[:-1])} or {suffixes[-1]}",
                hint=_hint_for_none(folder, found),
            )
        place = str(self.folder) if classes else f"{self.folder} without classes"
        super().__init__(name or self.folder.name or "images", place, _identity(found), FOLDER_SIZE)
        self.files = found.files
        self.unreadable = tuple(found.unreadable)
        self._labels, self._class_names, about = _classes(self.files) if classes else (None, (), ())
        self.notes = (*_left_out(found), *about)

    def __len__(self) -> int:
        return len(self.files)

    def natural_channels(self) -> int:
        """1 when every readable picture is grey, else 3. Stops at the first with colour; reads headers only."""
        grey = 0
        with quiet_pillow():
            for file in self.files:
                try:
                    if read_mode(self.folder / file.relative) not in GREY_MODES:
                        return 3
                    grey += 1
                except BrokenImageError:
                    continue
        return 1 if grey else 3

    def load(self) -> tuple[I64 | None, tuple[str, ...]]:
        """The class of each picture and the names of the classes, in the order of their bytes."""
        return self._labels, self._class_names

    def image(self, index: int) -> Image.Image:
        return read_image(self.folder / self.files[index].relative)

    def item_name(self, index: int) -> str:
        return as_unicode(self.files[index].relative)


def _classes(files: list[ImageFile]) -> tuple[I64 | None, tuple[str, ...], tuple[str, ...]]:
    """The class of each picture, the classes' names, and lines for people about where they come from."""
    notes: list[str] = []
    parts = [file.relative.split("/") for file in files]
    top = {path[0] for path in parts if len(path) > 1}
    split = bool(top) and all(name.casefold() in SPLITS for name in top)
    if split:
        notes.append(f"taken for parts of the data, not for classes: {', '.join(sorted(top))}")
    depth = 1 if split else 0
    loose = [file for file, path in zip(files, parts, strict=True) if len(path) < depth + 2]
    names = sorted({path[depth] for path in parts if len(path) >= depth + 2}, key=os.fsencode)
    if loose and len(names) >= 2:
        more = f" and {len(loose) - 1:,} more" if len(loose) > 1 else ""
        notes.append(f"no classes, for want of a folder of its class: {as_unicode(loose[0].relative)}{more}")
    if loose or len(names) < 2:
        return None, (), tuple(notes)
    index = {name: number for number, name in enumerate(names)}
    labels = np.array([index[path[depth]] for path in parts], np.int64)
    return labels, tuple(as_unicode(name) for name in names), tuple(notes)


def _left_out(found: Scan) -> tuple[str, ...]:
    """A line about the files that are no pictures, or none."""
    total = sum(found.others.values())
    if not total:
        return ()
    files = f"{total:,} file{'s' if total > 1 else ''}"
    return (f"left out {files} that ganport cannot read as pictures ({_common(found)})",)


def _common(found: Scan) -> str:
    """The commonest suffixes of the files that are no pictures, and how many there are of each."""
    most = found.others.most_common(NAMED)
    text = ", ".join(f"{as_unicode(suffix)} {count:,}" for suffix, count in most)
    return text + (", …" if len(found.others) > NAMED else "")


def _identity(found: Scan) -> str:
    digest = hashlib.sha256()
    for file in found.files:
        digest.update(f"{file.size_bytes} {file.mtime_ns} {file.mode} ".encode() + os.fsencode(file.relative) + b"\0")
    for relative, _ in found.unreadable:
        digest.update(b"unreadable " + os.fsencode(relative) + b"\0")
    return digest.hexdigest()


def as_unicode(name: str) -> str:
    """A file name as valid Unicode: the bytes that are none become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def _hint_for_none(folder: Path, found: Scan) -> str:
    if found.unreadable:
        relative, reason = found.unreadable[0]
        return f"{as_unicode(relative)} cannot be read: {reason}"
    archives = [suffix for suffix in found.others if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2")]
    if archives:
        return f"unpack the {archives[0]} file in {folder} first"
    if found.others:
        return f"it holds {sum(found.others.values()):,} other files ({_common(found)}): convert them to one of these"
    return "name a folder of images, of idx files, or a data set that is known by name"
