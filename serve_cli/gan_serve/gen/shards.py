"""One shard: a run of a job's images as one tar, Parquet, .npy or folder, with the same bytes whoever makes it.

    tar      WebDataset: 000000123.png and 000000123.json for each image; ustar headers without times or owners
    parquet  a column `image` of PNG bytes, as `datasets` reads it, beside `index`, `seed` and `label`
    npy      uint8 (n, H, W, C); seeds and labels are in the shard's statistics
    folder   000000123.png for each image, its seed and class as the PNG's text

An image is named after its number in the job. The bytes depend on the images, on the versions of zlib and, for Parquet,
of pyarrow, and on nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from collections.abc import Generator as Results
from pathlib import Path
from typing import Any

import numpy as np

from gan_core.arrays import F32, I64, U8
from gan_core.errors import MissingPackageError
from gan_core.fields import Json
from gan_core.files.model_file import sha256_of
from gan_core.images import encode_batch, text_chunks
from gan_core.process import usable_cores
from gan_serve.gen.outputs import numbered, stream_npy
from gan_serve.runtime import Labels, in_order
from gan_serve.runtime.plan import Plan

_BLOCK = 512
_RECORD = 20 * _BLOCK
_AFTER_NAME = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE = b"\x0000000000000\0"
_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
_SUM = 8 * ord(" ") + sum(_AFTER_CHECKSUM)
"""A tar header's mode, owner and group; its time; its type, link, magic, version, names, device and prefix. While they
are summed, the checksum's own bytes are spaces."""
_TO_JSON = json.JSONEncoder(ensure_ascii=False).encode
ROW_GROUP, ROW_GROUP_BYTES = 1000, 1 << 24
"""The most images, and about the most bytes of PNG files, in a row group of a Parquet file; memory holds one."""


class ShardPlan(Plan):
    """Images `start` up to `stop` of `base`, named by their numbers there."""

    def __init__(self, base: Plan, start: int, stop: int) -> None:
        super().__init__(base.contract, stop - start, base.classes.tolist())
        self.base, self.start = base, start

    def latents(self, start: int, stop: int) -> F32:
        return self.base.latents(self.start + start, self.start + stop)

    def labels(self, start: int, stop: int) -> I64 | None:
        return self.base.labels(self.start + start, self.start + stop)

    def fed_labels(self, start: int, stop: int) -> Labels:
        return self.base.fed_labels(self.start + start, self.start + stop)

    def stem(self, index: int) -> str:
        return f"{self.start + index:09d}"

    def text(self, index: int) -> dict[str, str]:
        return self.base.text(self.start + index)

    def number(self, index: int) -> tuple[str, str]:
        return self.base.number(self.start + index)

    def describe(self) -> dict[str, str]:
        return self.base.describe()

    def rows(self, start: int, stop: int) -> list[Json]:
        """What images `start` up to `stop` are: {"seed": 7, "class": 3, "class_name": "cat"}, as far as each has it."""
        first, last = self.start + start, self.start + stop
        if self.base.seeds is not None:
            rows: list[Json] = [{"seed": seed} for seed in self.base.seeds.array(first, last).tolist()]
        else:
            rows = [{kind: int(number)} for kind, number in map(self.base.number, range(first, last))]
        labels, names = self.labels(start, stop), self.contract.interface.class_names
        for row, label in zip(rows, [] if labels is None else labels.tolist(), strict=labels is not None):
            row["class"] = label
            if names:
                row["class_name"] = names[label]
        return rows


def write_shard(path: Path, kind: str, plan: ShardPlan, batches: Iterable[U8], text: dict[str, str]) -> Json:
    """Writes the shard to `path`, an empty file, or for "folder" a folder that is there; memory stays flat.

    text  what all images have in common: "gan.model_sha256", …
    Returns what its statistics say beside name, size and digest: for "npy", the `images`.
    """
    return _WRITERS[kind](path, plan, batches, text)


def measure(path: Path) -> tuple[int, str]:
    """(size in bytes, sha256) of a shard: of a folder, of the list of its files' names and digests."""
    if path.is_dir():
        files = sorted(path.iterdir())
        return sum(file.stat().st_size for file in files), folder_digest((sha256_of(file), file.name) for file in files)
    return path.stat().st_size, sha256_of(path)


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """The sha256 of a shard that is a folder, of its files' digests and names in order: as sha256sum lists them."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in files).encode()).hexdigest()


def image_bytes(kind: str, pixels_NHWC: U8) -> int:
    """About how many bytes an image takes in a shard, from some of them."""
    if kind == "npy":
        return int(pixels_NHWC[0].size)
    mean = sum(map(len, encode_batch(pixels_NHWC, [b""] * len(pixels_NHWC)))) // len(pixels_NHWC)
    return mean + {"tar": 4 * _BLOCK, "parquet": 64, "folder": 4096}[kind]


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises `MissingPackageError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name or "pyarrow", "parquet", "Parquet") from error
    return pyarrow, pyarrow.parquet


def _encoded(
    batches: Iterable[U8], chunks: Callable[[int, int], list[bytes]] | None = None
) -> Results[tuple[int, list[bytes]], None, None]:
    """(the number of the first image, PNG files) for each few images, in order; made in threads while others are
    generated. `chunks` gives the text chunks of images from start up to stop."""

    def encode(part: tuple[int, U8]) -> tuple[int, list[bytes]]:
        start, pixels_NHWC = part
        n = len(pixels_NHWC)
        return start, encode_batch(pixels_NHWC, [b""] * n if chunks is None else chunks(start, start + n))

    with contextlib.closing(in_order(encode, numbered(batches), usable_cores())) as encoded:
        yield from encoded


def _write_tar(path: Path, plan: ShardPlan, batches: Iterable[U8], text: dict[str, str]) -> Json:
    common = {key.removeprefix("gan."): value for key, value in text.items() if key != "Software"}
    size = 0
    with path.open("wb", buffering=1 << 20) as file, contextlib.closing(_encoded(batches)) as encoded:
        for start, images in encoded:
            for index, (png, row) in enumerate(zip(images, plan.rows(start, start + len(images)), strict=True), start):
                about = _TO_JSON(row | common).encode()
                for suffix, data in ((b"png", png), (b"json", about)):
                    member = _tar_member(b"%s.%s" % (plan.stem(index).encode(), suffix), data)
                    file.write(member)
                    size += len(member)
        file.write(bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % _RECORD))
    return {}


def _tar_member(name: bytes, data: bytes) -> bytes:
    """A file in a ustar archive: header, data, zeros up to a block. POSIX.1-1988; mode 644, time and owner 0."""
    head = name.ljust(100, b"\0") + _AFTER_NAME + b"%011o" % len(data) + _AFTER_SIZE
    return b"".join((head, b"%06o\0 " % (sum(head) + _SUM), _AFTER_CHECKSUM, data, bytes(-len(data) % _BLOCK)))


def _write_npy(path: Path, plan: ShardPlan, batches: Iterable[U8], _: dict[str, str]) -> Json:
    first: U8 | None = None
    with path.open("wb") as file:
        for batch in batches:
            if first is None:
                first = batch
                stream_npy(file, (plan.n, *batch.shape[1:]), ())
            file.write(np.ascontiguousarray(batch).data)
    rows = plan.rows(0, plan.n)
    return {"images": {key: [row[key] for row in rows] for key in rows[0] if key != "class_name"}}


def _write_folder(path: Path, plan: ShardPlan, batches: Iterable[U8], text: dict[str, str]) -> Json:
    common = text_chunks(text)

    def chunks(start: int, stop: int) -> list[bytes]:
        return [common + text_chunks(plan.text(index)) for index in range(start, stop)]

    with contextlib.closing(_encoded(batches, chunks)) as encoded:
        for start, images in encoded:
            for index, data in enumerate(images, start):
                (path / f"{plan.stem(index)}.png").write_bytes(data)
    return {}


def _write_parquet(path: Path, plan: ShardPlan, batches: Iterable[U8], text: dict[str, str]) -> Json:
    pa, pq = import_pyarrow()
    interface = plan.contract.interface
    kind = next(iter(plan.rows(0, 1)[0]))
    features: Json = {
        "image": {"_type": "Image"},
        "index": {"dtype": "int64", "_type": "Value"},
        kind: {"dtype": "int64", "_type": "Value"},
    }
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    fields += [("index", pa.int64()), (kind, pa.int64())]
    if interface.conditional:
        names = list(interface.class_names) or [str(index) for index in range(interface.n_classes)]
        features["label"] = {"names": names, "_type": "ClassLabel"}
        fields.append(("label", pa.int64()))
    said = {"huggingface": json.dumps({"info": {"features": features}})} | text
    schema = pa.schema(fields, metadata=said)
    with pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=False) as file:
        waiting: list[Json] = []
        size = 0
        with contextlib.closing(_encoded(batches)) as encoded:
            for start, images in encoded:
                for index, (png, row) in enumerate(zip(images, plan.rows(start, start + len(images)), strict=True)):
                    stem = plan.stem(start + index)
                    waiting.append(
                        {"image": {"bytes": png, "path": f"{stem}.png"}, "index": int(stem), kind: row[kind]}
                        | ({"label": row["class"]} if interface.conditional else {})
                    )
                    size += len(png)
                    if len(waiting) == ROW_GROUP or size >= ROW_GROUP_BYTES:
                        file.write_table(pa.Table.from_pylist(waiting, schema=schema))
                        waiting, size = [], 0
        if waiting:
            file.write_table(pa.Table.from_pylist(waiting, schema=schema))
    return {}


_WRITERS = {"tar": _write_tar, "npy": _write_npy, "folder": _write_folder, "parquet": _write_parquet}
