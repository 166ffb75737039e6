"""The images of a finished job of gan-gen (docs/scale.md), read as they are needed: memory does not grow with them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gan_core.arrays import U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import Json
from gan_core.interface import Interface

MANIFEST = "manifest.json"
_READ_AT_ONCE = 256


class ShardSet:
    """The shards in the folder `path`; `len` is the number of images.

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
        self.contract = Contract(Interface(1, (c, h, w)), name="shards")
        self.about: Json = {"file": path.name, "kind": "shards", "sha256": sha256, "provider": provider}

    def __len__(self) -> int:
        return self._n

    def chunks(self, size: int) -> Iterator[U8]:
        """All images in order, uint8 (size, H, W, C); the last may be fewer.

        Raises `GanportError` for a shard that is missing or damaged, and for images that are not as many or as large as
        the manifest says.
        """
        c, h, w = self.contract.interface.image
        images = np.empty((size, h, w, c), np.uint8)
        filled = read = 0
        for name in self._files:
            path = self.path / name
            try:
                for image in self._images(path):
                    images[filled] = image.reshape(h, w, c)
                    filled, read = filled + 1, read + 1
                    if filled == size:
                        yield images
                        images, filled = np.empty_like(images), 0
            except (OSError, ValueError, KeyError, tarfile.TarError) as error:
                raise self._damaged(path) from error
        if filled:
            yield images[:filled]
        if read != self._n:
            raise self._damaged(self.path / MANIFEST)

    def _images(self, path: Path) -> Iterator[U8]:
        if self._format == "npy":
            yield from np.load(path, mmap_mode="r")
        elif self._format == "folder":
            yield from (_decoded(file.read_bytes()) for file in sorted(path.iterdir()))
        elif self._format == "parquet":
            yield from map(_decoded, _of_parquet(path))
        else:
            with tarfile.open(path) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would hold all of the shard
                    file = archive.extractfile(member) if member.name.endswith(".png") else None
                    if file is not None:
                        yield _decoded(file.read())

    def _damaged(self, path: Path) -> GanportError:
        return GanportError(
            f"{path} is damaged or missing", hint=f"gan-gen --verify --out {self.path} checks every shard"
        )


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
