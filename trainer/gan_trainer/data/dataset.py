"""`open_dataset`: a name or a path becomes one array of pixels, decoded at most once."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_core.errors import GanportError
from gan_core.images import U8
from gan_serve.terminal import console
from gan_trainer.data import cache
from gan_trainer.data.builtin import BUILTIN, open_builtin
from gan_trainer.data.decode import I64, Chunk, Source, decode, with_progress
from gan_trainer.data.folder import FolderSource
from gan_trainer.data.idx import find_pair, idx_source
from gan_trainer.data.transforms import quiet_pillow
from gan_trainer.networks.architectures import SIZES

NAMED_IN_NOTE = 3
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Square images, ready to train on.

    pixels_NHWC  uint8 (N, size, size, C), C-contiguous, read-only; memory-mapped where the cache can be written
    labels       int64 (N,), the class of each image, 0 … len(class_names) - 1; None without classes
    class_names  empty without classes
    name         "digits", "fashion-mnist", or the folder's name
    fingerprint  sha256 (hex) of pixels, labels and class names: equal means the same training data
    skipped      names of the files that could not be used
    """

    pixels_NHWC: U8  # noqa: N815
    labels: I64 | None
    class_names: tuple[str, ...]
    name: str
    fingerprint: str
    skipped: tuple[str, ...]

    @property
    def size(self) -> int:
        return int(self.pixels_NHWC.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels_NHWC.shape[3])

    def __len__(self) -> int:
        return len(self.pixels_NHWC)


def open_dataset(
    data: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    root: Path | None = None,
    cache_dir: Path | None = None,
    on_note: Callable[[str], None] = console.note,
) -> ImageDataset:
    """The images of `data`: a name in `BUILTIN`, a folder of pictures (any depth), or a folder of idx files.

    size       28, 32, 64, 96 or 128; None for the data set's own (digits and CIFAR-10 32, MNIST 28, CelebA and
               folders 64, idx files the smallest that holds them)
    channels   1 (grey), 3 (RGB), or None for what the images are; a folder is grey when all its pictures are
    root       a folder to look in first for a data set known by name
    cache_dir  None for the usual place; decoded images are kept in it, downloads too
    on_note    gets a line about what was found, skipped or could not be kept

    Pictures are told by their content where their names do not end like a picture's. Order is that of the relative
    paths' bytes, so it is the same on every machine. Pictures that cannot be read are skipped. Raises `GanportError`
    when there is nothing usable, and for every wrong argument.
    """
    _check(data, size, channels)
    folder = cache.default_cache_dir() if cache_dir is None else cache_dir
    source = _find_source(data, root, folder, on_note)
    for text in source.notes:
        on_note(f"{source.name}: {text}")
    size = source.natural_size if size is None else size
    entry = _read_cached(source, size, channels, folder, on_note) or _build(source, size, channels, folder, on_note)
    details = entry.details
    if details.skipped:
        _note_skipped(source.name, len(entry.pixels_NHWC), details.skipped, on_note)
    names = tuple(name for name, _ in details.skipped)
    return ImageDataset(entry.pixels_NHWC, details.labels, details.class_names, source.name, details.fingerprint, names)


def check_still_there(data: str) -> None:
    """Raises `GanportError` where the folder that a run's config.json names as its data is not, seen from here."""
    with contextlib.suppress(OSError, RuntimeError):
        if data not in BUILTIN and not Path(data).expanduser().exists():
            raise GanportError(
                f"the run was trained on {data}, which is not here", hint="say where it lies now: --data"
            )


def _check(data: str, size: int | None, channels: int | None) -> None:
    if not data.strip() or "\0" in data:
        raise GanportError(f"--data must be a name or a folder, got {data!r}", hint=f"names: {', '.join(BUILTIN)}")
    if size is not None and size not in SIZES:
        raise GanportError(f"no network for size {size}", hint=f"sizes: {', '.join(map(str, SIZES))}")
    if channels not in (None, 1, 3):
        raise GanportError(f"channels must be 1 (grey) or 3 (RGB), got {channels}", hint="--channels 1 or --channels 3")


def _find_source(data: str, root: Path | None, folder: Path | None, on_note: Callable[[str], None]) -> Source:
    path = Path(data)
    with contextlib.suppress(RuntimeError):  # "~nobody": a name like any other
        path = path.expanduser()
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise GanportError(
            f"cannot read {data}: {error.strerror}", hint="check that the path exists and that you may read it"
        ) from error
    if data in BUILTIN:
        if is_folder:
            on_note(f"{data} is the data set of that name; write ./{data} for the folder")
        if root is not None and data == "digits":
            raise GanportError("--root does not apply to digits, which scikit-learn brings", hint="leave --root out")
        return open_builtin(data, root, None if folder is None else folder / "downloads", on_note)
    if not exists:
        raise GanportError(f"no data set and no folder is called {data}", hint=_hint_for_name(data))
    if not is_folder:
        packed = path.suffix.lower() in ARCHIVES and "idx" not in path.name
        hint = "unpack it and name the folder" if packed else f"name the folder that it lies in: {path.parent}"
        raise GanportError(f"{data} is a file, expected a folder", hint=hint)
    if root is not None:
        raise GanportError(f"--root is for data sets known by name, {data} is a folder", hint="leave --root out")
    pair = find_pair(path)
    if pair is None:
        return FolderSource(path)
    if pair.labels is None:
        on_note(f"{pair.images.name} has no labels beside it: no classes")
    return idx_source(path.resolve().name or "idx", pair)


def _hint_for_name(data: str) -> str:
    known = f"names: {', '.join(BUILTIN)}; or the path of a folder of images"
    spelled = data.lower().replace("_", "-").replace(" ", "-")
    squeezed = {name.replace("-", ""): name for name in BUILTIN}
    close = difflib.get_close_matches(spelled.replace("-", ""), squeezed, n=1, cutoff=0.7)
    return f"did you mean {squeezed[close[0]]}? ({known})" if close else known


def _read_cached(
    source: Source, size: int, channels: int | None, folder: Path | None, on_note: Callable[[str], None]
) -> cache.Entry | None:
    if folder is None:
        return None
    for count in (3, 1) if channels is None else (channels,):
        path = cache.entry_path(folder / "images", source, size, count)
        try:
            entry = cache.read_entry(path)
        except cache.DamagedEntryError as error:
            on_note(f"{source.name}: the cached {path.name} is damaged, decoding again: {error}")
            continue
        if entry is not None and (channels is not None or entry.details.natural_channels == count):
            return entry
    return None


def _build(
    source: Source, size: int, channels: int | None, folder: Path | None, on_note: Callable[[str], None]
) -> cache.Entry:
    natural = source.natural_channels()
    channels = natural if channels is None else channels
    labels, class_names = source.load()
    shape = (size, size, channels)
    kept: list[int] = []
    skipped = list(source.unreadable)

    def parts() -> Generator[U8, None, None]:
        for chunk in with_progress(decode(source, size, channels), len(source), f"decoding {source.name}"):
            yield chunk.pixels_NHWC
            _count(chunk, kept, skipped)
        if not kept:
            name, reason = skipped[0]
            raise GanportError(
                f"none of the {len(skipped):,} images of {source.name} can be read", hint=f"{name}: {reason}"
            )

    path = _place_to_write(source, size, channels, folder, on_note)
    with quiet_pillow(), contextlib.closing(parts()) as decoded:
        if path is None:
            pixels = _gather(decoded, len(source), shape)
        else:
            pixels = cache.write_pixels(path, decoded, len(source), shape)
    labels, class_names = _present(labels, class_names, kept)
    digest = cache.fingerprint(pixels, labels, class_names)
    details = cache.Details(labels, class_names, tuple(sorted(skipped)), natural, digest)
    if path is not None:
        cache.write_details(path, pixels, details)
        cache.forget_older(path, source)
        on_note(f"{source.name}: {len(pixels):,} images decoded to {size}x{size}x{channels}, kept in {path.parent}")
    return cache.Entry(pixels, details, path)


def _count(chunk: Chunk, kept: list[int], skipped: list[tuple[str, str]]) -> None:
    kept.extend(chunk.kept)
    skipped.extend(chunk.broken)


def _place_to_write(
    source: Source, size: int, channels: int, folder: Path | None, on_note: Callable[[str], None]
) -> Path | None:
    reason = "there is no home folder" if folder is None else cache.why_not_writable(folder / "images")
    if reason is None and folder is not None:
        return cache.entry_path(folder / "images", source, size, channels)
    megabytes = len(source) * size * size * channels / 1e6
    on_note(
        f"{source.name}: decoded into memory ({megabytes:,.0f} MB), again at each start: "
        f"cannot write the cache {folder or ''} ({reason}); {cache.CACHE_VARIABLE} names another"
    )
    return None


def _gather(parts: Iterator[U8], total: int, shape: tuple[int, int, int]) -> U8:
    try:
        pixels = np.empty((total, *shape), np.uint8)
    except MemoryError as error:
        raise GanportError(
            f"{total:,} images do not fit in memory", hint=f"set {cache.CACHE_VARIABLE} to a folder you may write to"
        ) from error
    count = 0
    for part in parts:
        pixels[count : count + len(part)] = part
        count += len(part)
    pixels.flags.writeable = False
    return pixels[:count]


def _present(labels: I64 | None, names: tuple[str, ...], kept: list[int]) -> tuple[I64 | None, tuple[str, ...]]:
    """Labels of the images that are left, renumbered so that no class is empty; none for fewer than two classes."""
    if labels is None:
        return None, ()
    present, renumbered = np.unique(labels[kept], return_inverse=True)
    if len(present) < 2:
        return None, ()
    return renumbered.astype(np.int64), tuple(names[int(index)] for index in present)


def _note_skipped(name: str, usable: int, skipped: tuple[tuple[str, str], ...], on_note: Callable[[str], None]) -> None:
    first = ", ".join(f"{file} ({reason})" for file, reason in skipped[:NAMED_IN_NOTE])
    more = f" and {len(skipped) - NAMED_IN_NOTE:,} more" if len(skipped) > NAMED_IN_NOTE else ""
    on_note(f"{name}: {len(skipped):,} of {usable + len(skipped):,} images skipped: {first}{more}")
