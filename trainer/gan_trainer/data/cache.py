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
from typing import BinaryIO

import numpy as np

import gan_core.pictures
from gan_core.arrays import I64, U8
from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path, write_text
from gan_core.pictures import Pictures

CACHE_VARIABLE = "GANPORT_CACHE"
FORMAT = 1
BLOCK_BYTES = 1 << 20
CHECKED_BLOCKS = 1024
LEFTOVER_S = 24 * 3600
"""A temporary file untouched for a day belongs to a writer that was killed."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Square images, ready to train on.

    pixels_NHWC  uint8 (N, size, size, C), C-contiguous, read-only; memory-mapped where the cache can be written
    labels       int64 (N,), the class of each image, 0 … len(class_names) - 1; None without classes
    class_names  empty without classes
    name         "digits", "fashion-mnist", or the folder's name
    fingerprint  sha256 (hex) of pixels, labels and class names: equal means the same training data
    skipped      (name, reason) of the files that could not be used
    """

    pixels_NHWC: U8  # noqa: N815
    labels: I64 | None
    class_names: tuple[str, ...]
    name: str
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        return int(self.pixels_NHWC.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels_NHWC.shape[3])

    def __len__(self) -> int:
        return len(self.pixels_NHWC)


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


def entry_path(folder: Path, pictures: Pictures, size: int, channels: int) -> Path:
    """Where the pixels of `pictures` in its present state, at this size, are or would be: FOLDER/….npy."""
    state = hashlib.sha256(f"{gan_core.pictures.VERSION} {FORMAT} {pictures.identity}".encode()).hexdigest()
    return folder / f"{_prefix(pictures)}{state[:16]}-{size}x{channels}.npy"


def read_entry(path: Path, name: str, *, natural: bool) -> ImageDataset | None:
    """The data set at `path`, called `name`, its pixels memory-mapped and read-only, or None when there is none.

    With `natural` only one in the channels that its pictures have by nature. Raises `DamagedEntryError` when it is not
    what was written: up to a gigabyte every byte is compared, beyond that a gigabyte in evenly spread blocks.
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
        if values["format"] != FORMAT:
            raise DamagedEntryError(f"it has format {values['format']}, expected {FORMAT}")
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        if list(pixels.shape) != values["shape"] or pixels.dtype != np.uint8:
            raise DamagedEntryError(f"it holds {pixels.dtype} {pixels.shape}, expected uint8 {values['shape']}")
        if checksum(pixels) != values["checksum"]:
            raise DamagedEntryError("its bytes have changed")
        labels = None if values["labels"] is None else np.array(values["labels"], np.int64)
        skipped = tuple((str(file), str(reason)) for file, reason in values["skipped"])
        found = ImageDataset(
            pixels, labels, tuple(values["class_names"]), name, str(values["fingerprint"]), skipped
        )  # fmt: skip
        return None if natural and values["natural_channels"] != found.channels else found
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DamagedEntryError(f"it does not read ({type(error).__name__})") from error


def write_pixels(path: Path, parts: Iterable[U8], total: int, shape: tuple[int, int, int]) -> U8:
    """Streams `parts`, each (n, *shape), into the .npy at `path`; returns it memory-mapped and read-only.

    At most `total` images come; how many is known at the end. Plain writes, not a writable map: on a full disk
    they fail with an error, where a map kills the process. Raises `GanportError` when there is no room.
    """
    megabytes = total * int(np.prod(shape)) / 1e6
    hint = f"it takes {megabytes:,.0f} MB: free some, or set {CACHE_VARIABLE} to a folder with more room"
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
        raise GanportError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error
    except GanportError as error:
        if error.code == "no_room":
            raise GanportError(str(error), hint=hint) from error
        raise
    pixels: U8 = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels


def write_details(path: Path, dataset: ImageDataset, natural_channels: int) -> None:
    """Makes the pixels at `path` an entry. Raises `GanportError`, and deletes the pixels, when there is no room."""
    values = {
        "format": FORMAT,
        "shape": list(dataset.pixels_NHWC.shape),
        "checksum": checksum(dataset.pixels_NHWC),
        "fingerprint": dataset.fingerprint,
        "natural_channels": natural_channels,
        "labels": None if dataset.labels is None else dataset.labels.tolist(),
        "class_names": dataset.class_names,
        "skipped": dataset.skipped,
    }
    try:
        write_text(path.with_suffix(".json"), json.dumps(values))
    except GanportError:
        path.unlink(missing_ok=True)
        raise


def forget_older(path: Path, pictures: Pictures) -> None:
    """Deletes the entries that `pictures` left in other states, and what killed writers left."""
    prefix = _prefix(pictures)
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


def _prefix(pictures: Pictures) -> str:
    slug = re.sub(r"[^A-Za-z0-9_]+", "_", pictures.name)[:40] or "images"
    place = hashlib.sha256(os.fsencode(pictures.place)).hexdigest()[:8]
    return f"{slug}-{place}-"
