"""Real images for `like`: a folder, picture files, an array, an idx file, or a data set known by name."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_core.arrays import U8
from gan_core.errors import GanportError, MissingPackageError
from gan_core.pictures import BrokenImageError, looks_like_image, prepare, quiet_pillow, read_image, to_channels
from gan_core.pictures.folder import scan
from gan_core.pictures.idx import BELOW, DATA_VARIABLE, DEBIAN, find_pair, image_header, read_idx
from gan_export.source import check_file

MOST, FEWEST = 512, 16
"""Images that are looked at, evenly out of those that are there, and the least that say anything."""
MOST_BYTES = 4 << 30
NAMES = ("digits", *BELOW)
SHAPES = "images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"


def pictures_like(said: str, image: tuple[int, int, int]) -> U8:
    """Up to `MOST` of the images that `said` names, as a generator of `image` (C, H, W) makes them: uint8 (N, H, W, C).

    said  a folder of pictures or of idx files, a picture, .npy, .npz or idx file, or one of `NAMES`

    Raises `GanportError` where there is nothing, fewer than `FEWEST` images, or what cannot be read.
    """
    channels, height, width = min(image[0], 3), *image[1:]
    found = []
    with quiet_pillow():
        for one in _opened(said):
            with contextlib.suppress(BrokenImageError, ValueError):  # a mode that Pillow cannot convert
                found.append(_made(one, channels, height, width))
    if len(found) < FEWEST:
        raise GanportError(
            f"{said} holds {len(found)} picture{'s' * (len(found) != 1)}, expected at least {FEWEST}",
            hint="name a folder of the images that the generator was trained on, or of such images",
        )
    return np.stack(found)


def _opened(said: str) -> Iterator[Image.Image]:
    if not said.strip() or "\0" in said:
        raise _nothing(said)
    path = Path(said)
    with contextlib.suppress(RuntimeError):  # "~nobody"
        path = path.expanduser()
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise GanportError(f"cannot read {said}: {error.strerror}", hint="check that you may read it") from error
    if is_folder:
        return _of_folder(path)
    if exists:
        return _of_file(check_file(path, "images"))
    if said == "digits":
        return _of_array(_digits())
    if said in BELOW:
        return _of_folder(_place_of(said))
    raise _nothing(said)


def _nothing(said: str) -> GanportError:
    names = ", ".join(NAMES)
    return GanportError(
        f"`like` names {said!r}, expected a folder or a file of images, or a data set's name", hint=f"names: {names}"
    )


def _place_of(name: str) -> Path:
    roots = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else []
    for folder in (root / below for root in (*roots, DEBIAN) for below in BELOW[name]):
        with contextlib.suppress(OSError):
            if folder.is_dir() and find_pair(folder) is not None:
                return folder
    raise GanportError(
        f"{name} is not on this machine: looked below ${DATA_VARIABLE} and {DEBIAN}",
        hint="`like` takes the folder that holds it, with train-images-idx3-ubyte.gz in it",
    )


def _digits() -> U8:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError("scikit-learn", "train", "the data set digits") from error
    return np.asarray(np.floor(load_digits().images * (255 / 16) + 0.5), np.uint8)


def _of_folder(folder: Path) -> Iterator[Image.Image]:
    pair = find_pair(folder)
    if pair is not None:
        yield from _of_idx(pair.images)
        return
    for one in _some(scan(folder).files):
        with contextlib.suppress(BrokenImageError):
            yield read_image(folder / one.relative)


def _of_file(path: Path) -> Iterator[Image.Image]:
    with path.open("rb") as file:
        head = file.read(6)
    if head == b"\x93NUMPY" or head[:4] == b"PK\3\4":
        yield from _of_array(_array(path, zipped=head[:2] == b"PK"))
    elif looks_like_image(path):
        with contextlib.suppress(BrokenImageError):
            yield read_image(path)
    else:
        yield from _of_idx(path)


def _of_idx(path: Path) -> Iterator[Image.Image]:
    image_header(path)
    return _of_array(read_idx(path))


def _array(path: Path, *, zipped: bool) -> Any:
    """The images in a .npy or .npz file: the array of three or four dimensions, the largest where there are several."""
    hint = f"{SHAPES}; save them without pickle: numpy.save"
    try:
        if not zipped:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as held:
            size = sum(one.file_size for one in held.infolist())
        if size > MOST_BYTES:
            raise GanportError(f"{path} unpacks to {size:,} bytes, expected at most {MOST_BYTES:,}", hint=hint)
        with np.load(path, allow_pickle=False) as arrays:
            found = [arrays[name] for name in arrays.files]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise GanportError(f"{path} is no array that can be read: {error}", hint=hint) from error
    images = [array for array in found if array.ndim in (3, 4) and array.dtype.kind in "uif"]
    if not images:
        raise GanportError(f"{path} holds no images: {', '.join(str(a.shape) for a in found) or 'nothing'}", hint=hint)
    return max(images, key=lambda array: array.size)


def _of_array(array: Any) -> Iterator[Image.Image]:
    """Images of an array: numbers below 0 mean [-1, 1], up to 1 [0, 1], and bytes what they are."""
    if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or not array.size:
        raise GanportError(f"an array of {array.dtype} {array.shape} holds no images", hint=SHAPES)
    some = np.asarray(array[_places(len(array))])
    if some.ndim == 4 and some.shape[-1] not in (1, 3, 4):
        some = np.moveaxis(some, 1, -1)
    if some.ndim == 4 and some.shape[-1] not in (1, 3, 4):
        raise GanportError(f"an array of {array.shape} holds no images", hint=SHAPES)
    if some.dtype != np.uint8:
        values = np.nan_to_num(some.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        black, white = (-1.0, 1.0) if low < 0 else (0.0, 1.0) if high <= 1 else (0.0, 255.0)
        some = np.clip((values - black) * (255 / (white - black)) + 0.5, 0, 255).astype(np.uint8)
    return (Image.fromarray(one[..., 0] if one.ndim == 3 and one.shape[-1] == 1 else one) for one in some)


def _some(files: Sequence[Any]) -> list[Any]:
    return [files[i] for i in _places(len(files))]


def _places(n: int) -> Any:
    """At most `MOST` of n places, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST)).round().astype(int)) if n else np.zeros(0, int)


def _made(picture: Image.Image, channels: int, height: int, width: int) -> U8:
    """A picture as the generator makes them: uint8 (height, width, channels)."""
    if height == width:
        return prepare(picture, height, channels)
    made = np.asarray(to_channels(picture, channels).resize((width, height), Image.Resampling.BILINEAR))
    return made.reshape(height, width, channels)
