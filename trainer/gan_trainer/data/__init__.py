"""`open_dataset`: a name or a path becomes one memory-mapped uint8 array of pixels, decoded at most once. No torch.

builtin     the data sets known by name
cache       decoded once, kept as .npy, rebuilt when the source changes
store       what the cache holds, and its limit

How pictures are found, read and made square is in `gan_core.pictures`.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np

from gan_core.arrays import I64, U8
from gan_core.errors import GanportError
from gan_core.pictures import BrokenImageError, Pictures, Track, decode, quiet_pillow, read_size, untracked
from gan_core.pictures.folder import FolderPictures
from gan_core.pictures.idx import find_pair, idx_pictures
from gan_core.printable import printable
from gan_trainer.data import cache
from gan_trainer.data.builtin import BUILTIN, open_builtin
from gan_trainer.data.cache import ImageDataset
from gan_trainer.data.store import keep_within, touch
from gan_trainer.networks.architectures import NATURAL_SIZES, check_image

__all__ = ["BUILTIN", "ImageDataset", "check_large_enough", "check_still_there", "open_dataset"]

NAMED_IN_NOTE = 3
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

log = logging.getLogger(__name__)


def open_dataset(
    data: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    root: Path | None = None,
    cache_dir: Path | None = None,
    track: Track = untracked,
) -> ImageDataset:
    """The images of `data`: a name in `BUILTIN`, a folder of pictures (any depth), or a folder of idx files.

    size       28, 32, 64, 96, 128, 256 or 512; None for the data set's own (digits and CIFAR-10 32, MNIST 28, CelebA
               and folders 64, idx files the smallest that holds them)
    channels   1 (grey), 3 (RGB), or None for what the images are; a folder is grey when all its pictures are
    root       a folder to look in first for a data set known by name
    cache_dir  None for the usual place; decoded images are kept in it, downloads too
    track      shows how far the decoding is

    What was found, skipped or could not be kept is logged. Pictures are told by their content where their names do not
    end like a picture's. Order is that of the relative paths' bytes, so it is the same on every machine. Pictures that
    cannot be read are skipped. Raises `GanportError` when there is nothing usable, and for every wrong argument.
    """
    if not data.strip() or "\0" in data:
        raise GanportError(f"`data` must be a name or a folder, got {data!r}", hint=f"names: {', '.join(BUILTIN)}")
    check_image(size, channels)
    folder = cache.default_cache_dir() if cache_dir is None else cache_dir
    pictures = _find(data, root, folder)
    for text in pictures.notes:
        log.info(f"{pictures.name}: {text}")
    size = pictures.natural_size if size is None else size
    found = _read_cached(pictures, size, channels, folder) or _build(pictures, size, channels, folder, track)
    if found.skipped:
        first = ", ".join(f"{file} ({reason})" for file, reason in found.skipped[:NAMED_IN_NOTE])
        rest = len(found.skipped) - NAMED_IN_NOTE
        more = f" and {rest:,} more" if rest > 0 else ""
        total = len(found) + len(found.skipped)
        log.info(f"{pictures.name}: {len(found.skipped):,} of {total:,} images skipped: {first}{more}")
    return found


def check_still_there(data: str) -> None:
    """Raises `GanportError` where the folder that a run's config.json names as its data is not, seen from here."""
    with contextlib.suppress(OSError, RuntimeError):
        if data not in BUILTIN and not Path(data).expanduser().exists():
            raise GanportError(
                f"the run was trained on {data}, which is not here", hint="say where it lies now: `data`"
            )


def check_large_enough(data: str, size: int | None, root: Path | None = None) -> None:
    """Raises `GanportError` for images that `open_dataset` would enlarge to `size`: an upscaler learns from sharp ones.

    Reads the heads of the files. What cannot be read is left to `open_dataset`.
    """
    pictures = _find(data, root, cache.default_cache_dir())
    wanted = size or pictures.natural_size
    hint = "an upscaler learns from images of at least `size`: a smaller `size`, or leave the small ones out"
    if not isinstance(pictures, FolderPictures):
        if pictures.natural_size < wanted:
            raise GanportError(f"the images of {pictures.name} are smaller than {wanted}x{wanted}", hint=hint)
        return
    small = []
    for file in pictures.files:
        with contextlib.suppress(OSError, GanportError, BrokenImageError), quiet_pillow():
            if min(found := read_size(pictures.folder / file.relative)) < wanted:
                small.append(f"{file.relative} {found[0]}x{found[1]}")
    if small:
        few = f"{len(small):,} of {len(pictures):,} images of {pictures.name} are smaller than {wanted}x{wanted}"
        raise GanportError(f"{few}, such as {printable(small[0])}", hint=hint)


def _find(data: str, root: Path | None, folder: Path | None) -> Pictures:
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
            log.info(f"{data} is the data set of that name; write ./{data} for the folder")
        if root is not None and data == "digits":
            raise GanportError("`root` does not apply to digits, which scikit-learn brings", hint="leave `root` out")
        return open_builtin(data, root, None if folder is None else folder / "downloads")
    if not exists:
        raise GanportError(f"no data set and no folder is called {data}", hint=_hint_for_name(data))
    if not is_folder:
        packed = path.suffix.lower() in ARCHIVES and "idx" not in path.name
        hint = "unpack it and name the folder" if packed else f"name the folder that it lies in: {path.parent}"
        if path.suffix.lower() in (".pt", ".pth", ".onnx", ".ts"):
            hint = f"to measure a model: gan-train eval {data}; to go on from a run's g.pt: `init`"
        raise GanportError(f"{data} is a file, expected a folder", hint=hint)
    if root is not None:
        raise GanportError(f"`root` is for data sets known by name, {data} is a folder", hint="leave `root` out")
    pair = find_pair(path)
    if pair is None:
        return FolderPictures(path)
    if pair.labels is None:
        log.info(f"{pair.images.name} has no labels beside it: no classes")
    return idx_pictures(path.resolve().name or "idx", pair, NATURAL_SIZES)


def _hint_for_name(data: str) -> str:
    known = f"names: {', '.join(BUILTIN)}; or the path of a folder of images"
    spelled = data.lower().replace("_", "-").replace(" ", "-")
    squeezed = {name.replace("-", ""): name for name in BUILTIN}
    close = difflib.get_close_matches(spelled.replace("-", ""), squeezed, n=1, cutoff=0.7)
    return f"did you mean {squeezed[close[0]]}? ({known})" if close else known


def _read_cached(pictures: Pictures, size: int, channels: int | None, folder: Path | None) -> ImageDataset | None:
    if folder is None:
        return None
    for count in (3, 1) if channels is None else (channels,):
        path = cache.entry_path(folder / "images", pictures, size, count)
        try:
            found = cache.read_entry(path, pictures.name, natural=channels is None)
        except cache.DamagedEntryError as error:
            log.info(f"{pictures.name}: the cached {path.name} is damaged, decoding again: {error}")
            continue
        if found is not None:
            touch(path.with_suffix(".json"))
            return found
    return None


def _build(pictures: Pictures, size: int, channels: int | None, folder: Path | None, track: Track) -> ImageDataset:
    natural = pictures.natural_channels()
    channels = natural if channels is None else channels
    labels, class_names = pictures.load()
    shape = (size, size, channels)
    kept: list[int] = []
    skipped = list(pictures.unreadable)

    def parts() -> Generator[U8, None, None]:
        for chunk in track(decode(pictures, size, channels), len(pictures), f"decoding {pictures.name}"):
            yield chunk.pixels_NHWC
            kept.extend(chunk.kept)
            skipped.extend(chunk.broken)
        if not kept:
            name, reason = skipped[0]
            raise GanportError(
                f"none of the {len(skipped):,} images of {pictures.name} can be read", hint=f"{name}: {reason}"
            )

    path = _place_to_write(pictures, shape, folder)
    with quiet_pillow(), contextlib.closing(parts()) as decoded:
        if path is None:
            pixels = _gather(decoded, len(pictures), shape)
        else:
            pixels = cache.write_pixels(path, decoded, len(pictures), shape)
    labels, class_names = _present(labels, class_names, kept)
    digest = cache.fingerprint(pixels, labels, class_names)
    made = ImageDataset(pixels, labels, class_names, pictures.name, digest, tuple(sorted(skipped)))
    if path is not None:
        cache.write_details(path, made, natural)
        cache.forget_older(path, pictures)
        keep_within(path.parent.parent, but=path)
        images = "image" if len(pixels) == 1 else "images"
        log.info(
            f"{pictures.name}: {len(pixels):,} {images} decoded to {size}x{size}x{channels}, kept in {path.parent}"
        )
    return made


def _place_to_write(pictures: Pictures, shape: tuple[int, int, int], folder: Path | None) -> Path | None:
    size, _, channels = shape
    reason = "there is no home folder" if folder is None else cache.why_not_writable(folder / "images")
    if reason is None and folder is not None:
        return cache.entry_path(folder / "images", pictures, size, channels)
    megabytes = len(pictures) * size * size * channels / 1e6
    log.info(
        f"{pictures.name}: decoded into memory ({megabytes:,.0f} MB), again at each start: "
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
