"""What can be evaluated: a checkpoint, a module, an exported file, each a `gan_serve` Generator, and shards.

The images of a finished job of gan-gen (docs/scale.md) are read as they are needed: memory does not grow with them.
"""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.fields import Json
from gan_core.files.model_file import sha256_of
from gan_core.images import to_pixels
from gan_core.interface import Interface
from gan_core.said import UNSAID
from gan_core.spec.generator_spec import GeneratorSpec
from gan_serve.runtime import Given, check_drawn, runtimes
from gan_serve.runtime.generator import Generator
from gan_trainer.data import BUILTIN
from gan_trainer.devices import describe
from gan_trainer.networks.generator import GeneratorCheckpoint, SpecGenerator, load_generator

EXPORTED = (".onnx", ".ts")
MANIFEST = "manifest.json"
_READ_AT_ONCE = 16


class ModuleGenerator(Generator):
    """A torch generator on its own device, drawn in eval mode without gradients; its own mode is put back.

    module  forward(z) or forward(z, label), as `SpecGenerator`; z is an image where it takes one
    spec    None: the module's own `spec`
    """

    def __init__(self, module: nn.Module, spec: GeneratorSpec | None = None, *, training: Json | None = None):
        spec = spec or module.spec  # type: ignore[assignment]
        assert isinstance(spec, GeneratorSpec)
        self.module = module
        self.device = next(module.parameters()).device
        self.provider = f"torch {describe(self.device)}"
        self.sha256 = ""
        self.contract = Contract(spec.interface, name=spec.name, training=training or {})

    @torch.no_grad()
    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        given = torch.from_numpy(np.array(z, np.float32)).to(self.device)
        if (taken := self.contract.interface.input) is not None:
            black, white = taken.value_range
            given = given.permute(0, 3, 1, 2) / 255 * (white - black) + black
        arguments = [given]
        if label is not None:
            arguments.append(torch.from_numpy(np.array(label, np.int64)).to(self.device))
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            image = self.module(*arguments).float().cpu().numpy()
        finally:
            for part, mode in modes:
                part.training = mode
        if not np.isfinite(image).all():
            raise JobError("the generator generates NaN or infinity", hint="its weights are damaged or it diverged")
        check_drawn(self.contract, z.shape, image_NCHW=image)
        return image, to_pixels(image, self.contract.interface.value_range)


def open_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device,
    provider: str = "auto",
    threads: int | None = None,
    trust_script: bool = False,
) -> tuple[Generator, Json]:
    """A g.pt of ours (on `device`), or an exported .onnx or .ts (on `provider`), and what an evaluation says of it.

    Raises `GanportError` for a file that is missing or none of them.
    """
    path = Path(path)
    if str(path) in BUILTIN and not path.exists():
        raise GanportError(f"{path} is a data set, expected a model", hint=f'`data="{path}"`')
    if path.is_dir():
        inside = [f"{path}/{name}" for name in ("g.pt", "g.onnx") if (path / name).exists()]
        hint = f"name the file in it: {inside[0]}" if inside else f'to compare with its images: `data="{path}"`'
        raise GanportError(f"{path} is a folder, expected a model file", hint=hint)
    if path.suffix.lower() in EXPORTED:
        try:
            generator = runtimes.load(path, provider, threads, trust_script=trust_script)
        except GanportError as error:
            if error.code == UNSAID:
                error.hint = f"gan-export adopt {path} makes a copy that says it"
            raise
    else:
        if provider != "auto":
            raise GanportError(
                f"`provider` is for exported files, {path} is a checkpoint", hint="`device` says where torch runs"
            )
        if path.name == "last.pt":
            raise GanportError(
                f"{path} is the state of a training, expected its generator", hint=f"name {path.with_name('g.pt')}"
            )
        generator = _of_checkpoint(load_generator(path), device)
        generator.sha256 = sha256_of(path)
    return generator, about(generator) | {"file": path.name}


def _of_checkpoint(checkpoint: GeneratorCheckpoint, device: torch.device) -> Generator:
    return ModuleGenerator(checkpoint.module().to(device), checkpoint.spec, training=checkpoint.training)


def as_generator(
    source: Generator | SpecGenerator | GeneratorCheckpoint | str | os.PathLike[str], device: torch.device
) -> Generator:
    """`source` as a Generator: a module stays on its own device, a checkpoint's goes to `device`, a file is opened."""
    if isinstance(source, str | os.PathLike):
        return open_model(source, device=device)[0]
    if isinstance(source, GeneratorCheckpoint):
        return _of_checkpoint(source, device)
    return source if isinstance(source, Generator) else ModuleGenerator(source)


def about(generator: Generator) -> Json:
    """What is known of a generator: network, precision, digest, where it ran, how long it was trained."""
    contract = generator.contract
    training = contract.training
    return {
        "file": None,
        "sha256": generator.sha256 or None,
        "network": contract.name,
        "precision": contract.precision,
        "conditional": contract.interface.conditional,
        "provider": generator.provider,
        "steps": training.get("steps"),
        "recipe": recipe.get("name") if isinstance(recipe := training.get("recipe"), dict) else None,
    }


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
