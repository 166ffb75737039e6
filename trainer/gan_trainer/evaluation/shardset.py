"""The images of a finished job of gan-gen (docs/scale.md), read as they are needed: memory does not grow with them."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gan_core.arrays import I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import Json
from gan_core.interface import Interface

MANIFEST = "manifest.json"
_READ_AT_ONCE = 16


def at_once(shape: tuple[int, ...], images: int, values: int) -> int:
    """How many images of this shape are worked on together: `images`, or as few as have so many values; at least 1."""
    return max(1, min(images, values // math.prod(shape)))


class ShardSet:
    """The shards in the folder `path`; `len` is the number of images, `shape` (n, H, W, C).

    contract  says what the images are: of no classes, since those that they were generated as do not count here
    about     what an evaluation says of its model
    Raises `GanportError` for a folder without a manifest, or with a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            manifest = json.loads((path / MANIFEST).read_text("utf-8"))
            self._n, self._format = int(manifest["n"]), str(manifest["format"])
            self._files = [str(row["file"]) for row in manifest["shards"]]
            c, h, w = (int(manifest["image"][side]) for side in ("channels", "height", "width"))
            sha256, provider = str(manifest["model_sha256"]), str(manifest["provider"])
        except FileNotFoundError as error:
            raise GanportError(
                f"{path} has no {MANIFEST}, so it is no finished job of gan-gen",
                hint=f"gan-gen --finish --out {path}, or name a model file",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(path / MANIFEST) from error
        self.shape = (self._n, h, w, c)
        self.contract = Contract(Interface(1, (c, h, w)), name="shards")
        self.about: Json = {"file": path.name, "kind": "shards", "sha256": sha256, "provider": provider}

    def __len__(self) -> int:
        return self._n

    def chunks(self, size: int, rows: I64 | None = None) -> Iterator[U8]:
        """The images in order, all or those of the numbers `rows`, uint8 (size, H, W, C); the last may be fewer.

        Raises `GanportError` for a shard that is missing or damaged, and for images that are not as many or as large as
        the manifest says.
        """
        images = np.empty((size, *self.shape[1:]), np.uint8)
        filled = read = 0
        wanted = iter(range(self._n) if rows is None else rows.tolist())
        following = next(wanted, -1)
        for name in self._files:
            path = self.path / name
            try:
                for image in self._images(path):
                    read += 1
                    if read - 1 != following:
                        continue
                    following = next(wanted, -1)
                    pixels = _decoded(image) if isinstance(image, bytes) else image
                    images[filled] = pixels.reshape(images.shape[1:])
                    filled += 1
                    if filled == size:
                        yield images
                        images, filled = np.empty_like(images), 0
            except (OSError, ValueError, KeyError, tarfile.TarError) as error:
                raise self._damaged(path) from error
        if filled:
            yield images[:filled]
        if read != self._n:
            raise self._damaged(self.path / MANIFEST)

    def _images(self, path: Path) -> Iterator[U8 | bytes]:
        """The images of a shard: their pixels, or PNG files."""
        if self._format == "npy":
            yield from _of_npy(path)
        elif self._format == "folder":
            yield from (file.read_bytes() for file in sorted(path.iterdir()))
        elif self._format == "parquet":
            yield from _of_parquet(path)
        else:
            with tarfile.open(path) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would hold all of the shard
                    file = archive.extractfile(member) if member.name.endswith(".png") else None
                    if file is not None:
                        yield file.read()

    def _damaged(self, path: Path) -> GanportError:
        return GanportError(
            f"{path} is damaged or missing", hint=f"gan-gen --verify --out {self.path} checks every shard"
        )


def _of_npy(path: Path) -> Iterator[U8]:
    start, n = 0, 1
    while start < n:
        mapped = np.load(path, mmap_mode="r")  # anew: what was read counts as memory as long as it is mapped
        n = len(mapped)
        yield from mapped[start : start + _READ_AT_ONCE]
        start += _READ_AT_ONCE


def _of_parquet(path: Path) -> Iterator[bytes]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name or "pyarrow", "parquet", "reading Parquet") from error
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_READ_AT_ONCE, columns=["image"]):
            yield from (image["bytes"] for image in batch.column(0).to_pylist())


def _decoded(png: bytes) -> U8:
    with Image.open(io.BytesIO(png)) as picture:
        pixels: U8 = np.asarray(picture)
    return pixels
