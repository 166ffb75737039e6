"""What lies in the cache folder: decoded data sets, downloads and the classifiers of `gan-train eval`; and its limit.

Nothing but these is ever listed or deleted, whatever else the folder holds. All of it can be made again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.atomic import write_text
from gan_core.printable import bytes_text

KINDS = {"images": "decoded images", "downloads": "download", "evaluators": "classifier"}
"""Folders of the cache, and what lies in them."""
DEFAULT_LIMIT = 50 * 10**9
LIMIT_FILE = "limit.txt"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """One thing in the cache: its files, their `size` in bytes, and when it was last `used`, in seconds since 1970."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int
    used: float

    def delete(self) -> None:
        """Deletes its files, the one that vouches for the others first. Raises `GanportError` where one stays."""
        try:
            for path in self.paths:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # somebody else was faster
            return
        except OSError as error:
            raise GanportError(
                f"cannot delete {path}: {error.strerror or error}", hint="check the permissions of its folder"
            ) from error


def kept_in(folder: Path) -> list[Kept]:
    """All that lies in a cache folder, what was used longest ago first."""
    found = []
    for kind in KINDS:
        groups: dict[str, list[Path]] = {}
        for path in _children(folder / kind):
            if not path.name.startswith("."):
                groups.setdefault(path.name if kind == "downloads" else path.stem, []).append(path)
        for name, paths in groups.items():
            sizes = [_size_and_time(path) for path in paths]
            ordered = tuple(sorted(paths, key=lambda path: path.suffix != ".json"))
            found.append(Kept(kind, name, ordered, sum(size for size, _ in sizes), max(used for _, used in sizes)))
    return sorted(found, key=lambda kept: kept.used)


def touch(path: Path) -> None:
    """Notes that the thing at `path` was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def keep_within(folder: Path, *, but: Path) -> None:
    """Deletes what was used longest ago until the cache keeps its limit; never the thing that `but` belongs to."""
    limit = read_limit(folder)
    kept = kept_in(folder)
    total = sum(each.size for each in kept)
    for each in kept:
        if total <= limit:
            return
        if not any(path.with_suffix("") == but.with_suffix("") for path in each.paths):
            with contextlib.suppress(GanportError):
                each.delete()
                total -= each.size
                log.info(f"the cache keeps its limit of {limit_text(limit)}: {each.name} of {each.kind} was deleted")


def read_limit(folder: Path) -> float:
    """The most bytes that the cache may take: as `write_limit` left it, or `DEFAULT_LIMIT`."""
    try:
        kept = (folder / LIMIT_FILE).read_text("utf-8").strip()
        return parse_size(kept if kept == "none" else f"{kept} bytes")
    except (OSError, UnicodeError, GanportError):
        return DEFAULT_LIMIT


def write_limit(folder: Path, limit: float) -> None:
    """Sets the limit. Raises `GanportError` where the folder cannot be written."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / LIMIT_FILE, "none\n" if math.isinf(limit) else f"{limit:.0f}\n")


def parse_size(text: str) -> float:
    """Bytes of "20 GB", "500M" or "none" (no limit). Raises `GanportError` for anything else."""
    if text.strip().lower() == "none":
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])b?|bytes)", text.strip().lower())
    if match is None:
        raise GanportError(f"a size is a number with kB, MB, GB or TB, got {text!r}", hint="such as 20GB, or none")
    return float(match[1]) * UNITS[match[2] or ""]


def limit_text(limit: float) -> str:
    return "none" if math.isinf(limit) else bytes_text(limit)


def age_text(used: float) -> str:
    """How long ago that was, in words."""
    hours = max(0.0, time.time() - used) / 3600
    return "now" if hours < 1 else f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def _children(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes, and the latest time, of a file or of a folder with all in it."""
    size, used = 0, 0.0
    for file in (path, *_below(path)):
        with contextlib.suppress(OSError):
            status = file.lstat()
            size += status.st_size if not file.is_dir() or file.is_symlink() else 0
            used = max(used, status.st_mtime)
    return size, used


def _below(path: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(path):
        for name in (*folders, *names):
            yield Path(where, name)
