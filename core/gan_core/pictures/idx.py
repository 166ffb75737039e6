"""The idx file format of MNIST, plain or gzipped, and a folder of such files.

A file is two zero bytes, a type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
uint32, and the values in C order (LeCun, Cortes and Burges, "The MNIST database", "file formats").
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gan_core.arrays import I64, U8
from gan_core.errors import GanportError
from gan_core.pictures import MAX_PIXELS, ArrayPictures, Arrays

UNSIGNED_BYTE = 8
READ_BYTES = 16 << 20
MAX_RATIO, SMALL_BYTES = 200, 64 << 20
"""How much larger than its gzip an idx file may be, beyond `SMALL_BYTES`. MNIST is 5 times; zeros reach 1,000."""
DATA_VARIABLE = "GANPORT_DATA"
DEBIAN = Path("/usr/share/datasets")
"""Where Debian's dataset-* packages put their files."""
BELOW = {
    "mnist": ("MNIST/raw", "mnist", "mnist/MNIST/raw"),
    "fashion-mnist": ("FashionMNIST/raw", "fashion-mnist", "fashion-mnist/FashionMNIST/raw"),
}
"""The folders below $GANPORT_DATA, Debian's and others where data sets known by name lie."""
IMAGES = re.compile(r"(?P<before>.*)images(?P<dot>[-.])idx3-ubyte(\.gz)?", re.IGNORECASE)
"""train-images-idx3-ubyte, train-images.idx3-ubyte.gz, emnist-letters-train-images-idx3-ubyte, …"""


@dataclass(frozen=True)
class IdxPair:
    """The two files of a split; `labels` is None where there is none."""

    images: Path
    labels: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.images,) if self.labels is None else (self.images, self.labels)


def find_pair(folder: Path) -> IdxPair | None:
    """The training split directly in `folder`, else its only split, else None.

    A plain file is preferred to its .gz. Raises `GanportError` when it is unclear which split is meant, or when
    the folder cannot be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise GanportError(
            f"cannot read the folder {folder}: {error.strerror}",
            hint="check that the folder exists and that you may read it",
        ) from error
    names = {path.name.lower(): path for path in files}
    splits: dict[str, IdxPair] = {}
    for path in files:
        found = IMAGES.fullmatch(path.name)
        if found and (found["before"].lower() not in splits):  # "x" sorts before "x.gz"
            label_name = f"{found['before']}labels{found['dot']}idx1-ubyte".lower()
            labels = names.get(label_name) or names.get(f"{label_name}.gz")
            splits[found["before"].lower()] = IdxPair(path, labels)
    chosen = [split for split in splits if "train" in split] or list(splits)
    if len(chosen) > 1:
        listed = ", ".join(splits[split].images.name for split in chosen)
        raise GanportError(f"{folder} holds several idx image files: {listed}", hint="leave one of them in a folder")
    return splits[chosen[0]] if chosen else None


def read_header(path: Path) -> tuple[int, ...]:
    """The dimensions of an idx file of unsigned bytes. Raises `GanportError` for anything else."""
    with _explained(path), _open(path) as file:
        return _read_dims(path, file)


def read_idx(path: Path) -> U8:
    """The values of an idx file of unsigned bytes, in the shape it names.

    Raises `GanportError` when it is no idx file, holds another type, or more or fewer values than it says.
    """
    with _explained(path), _open(path) as file:
        dims = _read_dims(path, file)
        expected = math.prod(dims)
        _check_packed(path, file, expected)
        values = _read_up_to(file, expected)
        if len(values) < expected:
            raise GanportError(
                f"{path} is truncated: {_product(dims)} values expected, {len(values)} found",
                hint="copy or download the file again",
            )
        if file.read(1):
            raise GanportError(
                f"{path} is damaged: more than the {_product(dims)} values that it announces",
                hint="copy or download the file again",
            )
    return np.frombuffer(values, np.uint8).reshape(dims)


def read_pair(pair: IdxPair) -> tuple[U8, I64 | None]:
    """Images (N, H, W) and labels (N,) of a split. Raises `GanportError` when they do not belong together."""
    image_header(pair.images)
    pixels = read_idx(pair.images)
    if pair.labels is None:
        return pixels, None
    dims = read_header(pair.labels)
    if dims != (len(pixels),):
        raise GanportError(
            f"{pair.labels.name} holds {_product(dims)} labels, {pair.images.name} beside it {len(pixels)} images",
            hint="the two files are of different splits: keep only the pair that belongs together",
        )
    return pixels, read_idx(pair.labels).astype(np.int64)


def image_header(path: Path) -> tuple[int, int, int]:
    """(N, H, W) of an idx file of images. Raises `GanportError` when it holds none."""
    dims = read_header(path)
    if len(dims) != 3:
        raise GanportError(
            f"{path} has {len(dims)} dimensions, images have 3 (images, rows, columns)",
            hint="name the file of images, such as train-images-idx3-ubyte",
        )
    n, height, width = dims
    if not 0 < height * width <= MAX_PIXELS or n == 0:
        raise GanportError(
            f"{path} holds {n} images of {width}x{height}: nothing to train on", hint="name a file with images in it"
        )
    return n, height, width


def natural_size(height: int, width: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes`, a network's, that the images fit in; the largest when they fit in none."""
    return min((size for size in sizes if size >= min(height, width)), default=max(sizes))


def idx_pictures(name: str, pair: IdxPair, sizes: Sequence[int], class_names: tuple[str, ...] = ()) -> ArrayPictures:
    """A split as a `Pictures`, known by the content of its files. Classes are the labels' values unless named; `sizes`
    are those that networks have."""
    n, height, width = image_header(pair.images)

    def read() -> Arrays:
        pixels, labels = read_pair(pair)
        if labels is None:
            return pixels, None, ()
        highest = int(labels.max())
        if class_names and highest >= len(class_names):
            raise GanportError(
                f"{pair.labels} holds the label {highest}, {name} has {len(class_names)} classes",
                hint="the labels are another data set's; rename or remove the file to train without classes",
            )
        return pixels, labels, class_names or tuple(map(str, range(highest + 1)))

    # The same files under another name have other classes, so they are another source.
    place = f"{','.join(class_names)} {pair.images.parent.resolve()}"
    size = natural_size(height, width, sizes)
    return ArrayPictures(name, place, content_hash(pair.files), size, read, n, 1)


def content_hash(files: tuple[Path, ...]) -> str:
    """sha256 over the names and contents of `files`. Raises `GanportError` when one cannot be read."""
    digest = hashlib.sha256()
    for path in files:
        with _explained(path), path.open("rb") as file:
            digest.update(f"{path.name}\0".encode("utf-8", "surrogateescape"))
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what goes wrong while reading `path` into a `GanportError`."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise GanportError(
            f"{path} is not a whole gzip file: {error}", hint="copy or download the file again"
        ) from error
    except OSError as error:
        raise GanportError(
            f"cannot read {path}: {error.strerror or error}", hint="check that you may read the file, or copy it again"
        ) from error


def _open(path: Path) -> BinaryIO:
    # By content, not by name: some archives unpack to plain files that still end in .gz.
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path, "rb")) if gzipped else path.open("rb")


def _read_dims(path: Path, file: BinaryIO) -> tuple[int, ...]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise GanportError(
            f"{path} is not an idx file: it starts with {head.hex() or 'nothing'}, expected 0000",
            hint="give a folder of pictures, or an idx file such as train-images-idx3-ubyte.gz",
        )
    kind, count = head[2], head[3]
    if kind != UNSIGNED_BYTE:
        raise GanportError(
            f"{path} holds values of idx type {kind:#04x}, images are unsigned bytes (0x08)",
            hint="convert the images to 8 bits a channel, or give a folder of pictures",
        )
    if not 1 <= count <= 4:
        raise GanportError(f"{path} has {count} dimensions, expected 1 to 4", hint="copy or download the file again")
    dims = file.read(4 * count)
    if len(dims) < 4 * count:
        raise GanportError(f"{path} is truncated: it ends in its header", hint="copy or download the file again")
    return struct.unpack(f">{count}I", dims)


def _check_packed(path: Path, file: BinaryIO, expected: int) -> None:
    """Raises `GanportError` when a gzip announces more than pictures ever pack into one, before it is unpacked."""
    packed = path.stat().st_size
    if isinstance(file, gzip.GzipFile) and expected > max(SMALL_BYTES, MAX_RATIO * packed):
        raise GanportError(
            f"{path} announces {expected:,} values in {packed:,} bytes of gzip, over {MAX_RATIO} times as many",
            hint="no pictures pack so well; if it is yours all the same, unpack it first: gunzip",
        )


def _read_up_to(file: BinaryIO, size_bytes: int) -> bytearray:
    # Block by block: a header may announce more than there is memory for.
    values = bytearray()
    while len(values) < size_bytes and (block := file.read(min(READ_BYTES, size_bytes - len(values)))):
        values += block
    return values


def _product(dims: tuple[int, ...]) -> str:
    return "x".join(map(str, dims))
