"""Decoded data sets on disk: each a .npy of pixels, to be memory-mapped, and a .json that vouches for it.

The files are named SLUG-PLACE-STATE-SIZExCHANNELS: PLACE stands for where the source lies, STATE for what is in it
(names, sizes and times of files, or a hash of contents). A source that changed has another STATE, so a stale
entry is never read; writing the new one deletes it. The .json is written last: without it there is no entry, so
writers may die or race (two of them write the same bytes) and no reader sees a half-written one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path, write_text
from gan_core.images import U8
from gan_trainer.data import transforms
from gan_trainer.data.decode import I64, Source

CACHE_VARIABLE = "GANPORT_CACHE"
FORMAT = 1
BLOCK_BYTES = 1 << 20
CHECKED_BLOCKS = 1024
LEFTOVER_S = 24 * 3600
"""A temporary file untouched for a day belongs to a writer that was killed."""


@dataclass(frozen=True)
class Details:
    """What is known of a decoded data set besides its pixels. `skipped` are (name, reason)."""

    labels: I64 | None
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    natural_channels: int
    fingerprint: str


@dataclass(frozen=True)
class Entry:
    """A decoded data set. `path` is None when its pixels are in memory."""

    pixels_NHWC: U8  # noqa: N815
    details: Details
    path: Path | None


class DamagedEntryError(Exception):
    """A cache entry that is not what was written; the message says how that shows."""


def default_cache_dir() -> Path | None:
    """$GANPORT_CACHE, else ganport in $XDG_CACHE_HOME, else in ~/.cache; None where there is no home."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "ganport"
    with contextlib.suppress(RuntimeError):
        return Path.home() / ".cache" / "ganport"
    return None


def entry_path(folder: Path, source: Source, size: int, channels: int) -> Path:
    """Where the pixels of `source` in its present state, at this size, are or would be: FOLDER/….npy."""
    state = hashlib.sha256(f"{transforms.VERSION} {FORMAT} {source.identity()}".encode()).hexdigest()
    return folder / f"{_source_prefix(source)}{state[:16]}-{size}x{channels}.npy"


def read_entry(path: Path) -> Entry | None:
    """The entry at `path`, its pixels memory-mapped and read-only, or None when there is none.

    Raises `DamagedEntryError` when it is not what was written: up to a gigabyte every byte is compared, beyond that a
    gigabyte in evenly spread blocks.
    """
    try:
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        if not path.exists():
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DamagedEntryError(f"its .json does not read ({error})") from error
    try:
        values = json.loads(text)
        details = _details_from_json(values)
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        if list(pixels.shape) != values["shape"] or pixels.dtype != np.uint8:
            raise DamagedEntryError(f"it holds {pixels.dtype} {pixels.shape}, expected uint8 {values['shape']}")
        if checksum(pixels) != values["checksum"]:
            raise DamagedEntryError("its bytes have changed")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DamagedEntryError(f"it does not read ({type(error).__name__})") from error
    return Entry(pixels, details, path)


def write_pixels(path: Path, parts: Iterable[U8], total: int, shape: tuple[int, int, int]) -> U8:
    """Streams `parts`, each (n, *shape), into the .npy at `path`; returns it memory-mapped and read-only.

    At most `total` images come; how many is known at the end. Plain writes, not a writable map: on a full disk
    they fail with an error, where a map kills the process. Raises `GanportError` when there is no room.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("r+b") as file:
            _write_header(file, (total, *shape))
            start = file.tell()
            written = 0
            for part in parts:
                file.write(part.tobytes())
                written += len(part)
            file.seek(0)
            _write_header(file, (written, *shape))
            assert file.tell() == start, "numpy pads the header so that the first dimension may change"
    except OSError as error:
        raise GanportError(f"cannot write {path}: {error.strerror or error}", hint=_elsewhere(total, shape)) from error
    except GanportError as error:
        if error.code == "no_room":
            raise GanportError(str(error), hint=_elsewhere(total, shape)) from error
        raise
    pixels: U8 = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels


def write_details(path: Path, pixels: U8, details: Details) -> None:
    """Makes the pixels at `path` an entry. Raises `GanportError`, and deletes the pixels, when there is no room."""
    values = {
        "format": FORMAT,
        "shape": list(pixels.shape),
        "checksum": checksum(pixels),
        "fingerprint": details.fingerprint,
        "natural_channels": details.natural_channels,
        "labels": None if details.labels is None else details.labels.tolist(),
        "class_names": details.class_names,
        "skipped": details.skipped,
    }
    try:
        write_text(path.with_suffix(".json"), json.dumps(values))
    except GanportError:
        path.unlink(missing_ok=True)
        raise


def forget_older(path: Path, source: Source) -> None:
    """Deletes the entries that `source` left in other states, and what killed writers left."""
    prefix = _source_prefix(source)
    state = path.name[len(prefix) :].split("-", 1)[0]
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            stale = other.name.startswith(prefix) and not other.name.startswith(f"{prefix}{state}-")
            if stale or (other.name.startswith(f".{prefix}") and time.time() - other.stat().st_mtime > LEFTOVER_S):
                with contextlib.suppress(OSError):
                    other.unlink()


def why_not_writable(folder: Path) -> str | None:
    """The system's reason why no file can be made in `folder` (made if need be), or None when one can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def fingerprint(pixels_NHWC: U8, labels: I64 | None, class_names: tuple[str, ...]) -> str:
    """sha256 (hex) of a decoded data set: equal for equal images and classes, wherever they came from."""
    head = {"shape": list(pixels_NHWC.shape), "class_names": class_names}
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(b"" if labels is None else labels.astype("<i8").tobytes())
    for block in _blocks(pixels_NHWC, every=1):
        digest.update(block.data)
    return digest.hexdigest()


def checksum(pixels_NHWC: U8) -> str:
    """sha256 (hex) of at most `CHECKED_BLOCKS` evenly spread blocks of 1 MiB: of everything, up to a gigabyte."""
    digest = hashlib.sha256()
    for block in _blocks(pixels_NHWC, every=-(-pixels_NHWC.size // (BLOCK_BYTES * CHECKED_BLOCKS))):
        digest.update(block.data)
    return digest.hexdigest()


def _blocks(pixels: U8, every: int) -> Iterator[U8]:
    flat = pixels.reshape(-1)
    for start in range(0, flat.size, BLOCK_BYTES * max(1, every)):
        yield flat[start : start + BLOCK_BYTES]


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _details_from_json(values: dict[str, Any]) -> Details:
    if values["format"] != FORMAT:
        raise DamagedEntryError(f"it has format {values['format']}, expected {FORMAT}")
    labels = values["labels"]
    return Details(
        labels=None if labels is None else np.array(labels, np.int64),
        class_names=tuple(values["class_names"]),
        skipped=tuple((str(name), str(reason)) for name, reason in values["skipped"]),
        natural_channels=int(values["natural_channels"]),
        fingerprint=str(values["fingerprint"]),
    )


def _source_prefix(source: Source) -> str:
    slug = re.sub(r"[^A-Za-z0-9_]+", "_", source.name)[:40] or "images"
    place = hashlib.sha256(os.fsencode(source.place)).hexdigest()[:8]
    return f"{slug}-{place}-"


def _elsewhere(total: int, shape: tuple[int, int, int]) -> str:
    megabytes = total * int(np.prod(shape)) / 1e6
    return f"it takes {megabytes:,.0f} MB: free some, or set {CACHE_VARIABLE} to a folder with more room"
