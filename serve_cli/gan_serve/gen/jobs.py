"""A job: images by the million, as shards that are made once, here or on many machines, and can be checked.

    job.json                what decides the bytes: the model, the images, the format
    shard-000000.tar        a shard (`gan_serve.gen.shards`)
    shard-000000_stats.json what is in it, its size and sha256; written after it: a shard without them is not there
    manifest.json           the statistics of all shards, written when every one is there

All of these are the same bytes however often the job was stopped and whoever made the shards. A run makes the shards
of its part that are missing. `job.json` keeps a run with another model, or other images, from mixing with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Generator as Results
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_core import __version__
from gan_core.arrays import U8
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.grids import enlarged
from gan_core.printable import shorten
from gan_serve.gen.outputs import FORMATS
from gan_serve.gen.shards import ShardPlan, image_bytes, measure, write_shard
from gan_serve.gen.stores import WHOLE_LOCK, Folder
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.plan import Plan
from gan_serve.terminal import console

if TYPE_CHECKING:
    from gan_serve.gen.request import Request

_log = logging.getLogger(__name__)

VERSION = 1
JOB, MANIFEST = "job.json", "manifest.json"
MOST_IMAGES, MOST_BYTES = 10_000, 1 << 30
"""Of a shard, where no size is asked for; the bytes are those of its pixels."""
MOST_SHARDS = 1_000_000
_SHARD = re.compile(r"shard-([0-9]{6,})(?:_stats\.json|\.tar|\.parquet|\.npy|)")
_TRIED = 4
SAY_EVERY_S = 60.0
"""Between the lines of a `Meter`."""

Progress = Callable[[int], None]
"""Is told how many images are done since it was last told."""


@dataclass(frozen=True)
class Job:
    """`about` is what job.json says."""

    about: Json

    @classmethod
    def of(cls, plan: Plan, generator: Generator, request: Request, tf32: bool) -> Job:
        """The job that a request asks for. Raises `GanportError` for too many shards."""
        c, h, w = plan.contract.interface.image
        scale, asked = request.factor or 1, request.job
        size = asked.shard_size or max(1, min(MOST_IMAGES, MOST_BYTES // (c * h * w * scale**2)))
        if plan.n > size * MOST_SHARDS:
            raise GanportError(
                f"{plan.n:,} images are {-(-plan.n // size):,} shards, the most are {MOST_SHARDS:,}",
                hint=f"--shard-size {-(-plan.n // MOST_SHARDS)}, or several jobs",
            )
        about: Json = {
            "version": VERSION,
            "format": asked.format,
            "n": plan.n,
            "shard_size": min(size, plan.n),
            "image": {"channels": c, "height": h * scale, "width": w * scale},
            "scale": scale,
            "model_sha256": generator.sha256,
            "provider": generator.provider,
            "tf32": tf32,
        }
        return cls(about | request.identity(plan))

    @classmethod
    def read(cls, store: Folder) -> Job:
        """The job whose shards are in `store`. Raises `GanportError` where there is none."""
        data = store.read(JOB)
        if data is None:
            raise GanportError(
                f"{store} has no {JOB}, so it is not a folder of shards", hint="name the --out of gan-gen --format"
            )
        try:
            about = json.loads(data)
            if (
                about["version"] != VERSION
                or about["format"] not in FORMATS
                or not about["n"] >= about["shard_size"] > 0
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise GanportError(
                f"{store}/{JOB} is damaged, or of another version of ganport", hint="--overwrite makes the shards anew"
            ) from error
        return cls(about)

    @property
    def text(self) -> bytes:
        return json.dumps(self.about, indent=1, ensure_ascii=False).encode() + b"\n"

    @property
    def digest(self) -> str:
        """Of what decides the bytes: the statistics of each shard carry it."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def n(self) -> int:
        return int(self.about["n"])

    @property
    def format(self) -> str:
        return str(self.about["format"])

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.n // int(self.about["shard_size"]))

    def bounds(self, shard: int) -> tuple[int, int]:
        """The number of its first image, and of the one after its last."""
        size = int(self.about["shard_size"])
        return shard * size, min((shard + 1) * size, self.n)

    def part(self, index: int, parts: int) -> range:
        """The shards of part `index` of `parts`: the parts are contiguous, and differ by one shard at most."""
        return range(self.shards * index // parts, self.shards * (index + 1) // parts)

    def images_of(self, shards: list[int]) -> int:
        return sum(stop - start for start, stop in map(self.bounds, shards))

    def name(self, shard: int) -> str:
        return f"shard-{shard:06d}{FORMATS[self.format]}"

    def row(self, store: Folder, shard: int) -> Json | None:
        """The statistics of a shard that is there, of this job and of its size; else None."""
        data = store.read(_stats(shard))
        if data is None:
            return None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row: Json = json.loads(data)
            if row["job"] != self.digest:
                return None
            if row["size_bytes"] == store.measure(self.name(shard))[0]:
                return row
        _log.warning("%s/%s is damaged or gone", store, self.name(shard))
        return None

    def begin(self, store: Folder, shards: range, overwrite: bool) -> list[int]:
        """Writes job.json where there is none; returns which of `shards` are missing.

        overwrite  what is there of `shards`, and beyond the last shard of the job, is deleted
        Raises `GanportError` where the folder has another job.
        """
        store.begin()
        with store.held(WHOLE_LOCK, 1, wait=True):
            there = store.read(JOB)
            if there is not None and there != self.text and not overwrite:
                raise _other_job(store, there, self.about)
            if there is None and not overwrite and (found := next(filter(_SHARD.fullmatch, store.names()), None)):
                raise GanportError(
                    f"{store} has {found}, but no {JOB}", hint="choose another folder, or add --overwrite"
                )
            if overwrite:
                store.remove(MANIFEST)
                for name in store.names():
                    found_shard = _SHARD.fullmatch(name)
                    if found_shard and (int(found_shard[1]) in shards or int(found_shard[1]) >= self.shards):
                        store.remove(name)
            if there != self.text:
                store.remove(MANIFEST)
                store.write(JOB, self.text)
        return [shard for shard in shards if self.row(store, shard) is None]

    def finish(self, store: Folder) -> str:
        """Writes the manifest; returns its name. Raises `JobError` where shards are missing."""
        rows = [self.row(store, shard) for shard in range(self.shards)]
        missing = [self.name(shard) for shard, row in enumerate(rows) if row is None]
        if missing:
            raise JobError(
                f"{len(missing)} of {self.shards} shards of {store} are missing: {shorten(', '.join(missing), 80)}",
                hint="run the same command again: it makes only what is missing",
            )
        lines = ",\n".join(json.dumps({key: row[key] for key in row if key != "images"}) for row in rows if row)
        store.write(MANIFEST, f'{json.dumps(self.about)[:-1]}, "shards": [\n{lines}\n]}}\n'.encode())
        return MANIFEST

    def verify(self, store: Folder, progress: Progress) -> None:
        """Reads every shard. Raises `JobError` for those whose sha256 is another than the manifest says."""
        rows = _manifest_rows(store, self)
        wrong = []
        for shard, row in enumerate(rows):
            if store.measure(self.name(shard), digest=True) != (row["size_bytes"], row["sha256"]):
                wrong.append(self.name(shard))
            progress(row["n"])
        if wrong:
            raise JobError(
                f"{len(wrong)} of {self.shards} shards of {store} are damaged: {shorten(', '.join(wrong), 80)}",
                hint="delete them, and run the command that made them again",
            )


@dataclass(frozen=True)
class Maker:
    """Makes any shard of a job in its store."""

    job: Job
    plan: Plan
    store: Folder
    batch_size: int | None = None

    @property
    def text(self) -> dict[str, str]:
        """What all images have in common, as the text of a PNG."""
        text = {"Software": f"ganport {__version__}", "gan.model_sha256": str(self.job.about["model_sha256"])}
        scale = int(self.job.about["scale"])
        text |= {f"gan.{key}": f"{self.job.about[key]}" for key in ("psi", "noise") if key in self.job.about}
        return text | ({"gan.scale": str(scale)} if scale > 1 else {})

    def make(self, generator: Generator, shard: int, progress: Progress) -> Callable[[], Json]:
        """Generates and writes the images of a shard. What it returns puts the shard in its place, and returns its
        statistics."""
        job, (start, stop) = self.job, self.job.bounds(shard)
        part, name = ShardPlan(self.plan, start, stop), job.name(shard)
        drawn = generator.draw(part.n, self.batch_size, part.latents, part.fed_labels)
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(self.store.placing(name, folder=job.format == "folder"))
            batches = stack.enter_context(contextlib.closing(self._counted(drawn, progress)))
            said = write_shard(path, job.format, part, batches, self.text)
            unfinished = stack.pop_all()

        def finish() -> Json:
            with unfinished:
                size, digest = measure(path)
            row = {"job": job.digest, "shard": shard, "file": name, "start": start, "n": part.n, "size_bytes": size}
            self.store.write(_stats(shard), json.dumps(row | {"sha256": digest} | said).encode() + b"\n")
            return row | {"sha256": digest}

        return finish

    def _counted(self, batches: Iterator[U8], progress: Progress) -> Results[U8, None, None]:
        for batch in batches:
            yield enlarged(batch, int(self.job.about["scale"]))
            progress(len(batch))

    def require_room(self, generator: Generator, missing: list[int]) -> None:
        """Raises `GanportError` where the disk is too small for the missing shards, as a few images show."""
        start, stop = self.job.bounds(missing[0])
        size = self.batch_size or generator.batch_size(stop - start)  # as later: a GPU may prepare for each size
        part = ShardPlan(self.plan, start, min(stop, start + size))
        (tried,) = generator.draw(part.n, size, part.latents, part.fed_labels)
        n = self.job.images_of(missing)
        each = image_bytes(self.job.format, enlarged(tried[:_TRIED], int(self.job.about["scale"])))
        self.store.require_room(n * each, f"{n} images")

    def run(self, generator: Generator, missing: list[int], progress: Progress) -> None:
        """Makes the missing shards one after the other; each is put in its place while the next is generated."""
        with ThreadPoolExecutor(1) as beside:
            finishing: Future[Json] | None = None
            for shard in missing:
                before, finishing = finishing, beside.submit(self.make(generator, shard, progress))
                if before is not None:
                    before.result()
            if finishing is not None:
                finishing.result()


class Meter:
    """Tells how many of `total` images are done, how many a second, and for how long it goes on.

    As a bar on a terminal; elsewhere as a line each minute.
    """

    def __init__(self, total: int, label: str) -> None:
        self.total, self.done, self.label = total, 0, label
        self._began = self._said = time.monotonic()
        self._lock = threading.Lock()
        self._shown = contextlib.ExitStack()
        self._bar: Any = None

    def __enter__(self) -> Meter:
        if sys.stderr.isatty():
            self._bar = self._shown.enter_context(console.progress(self.total, f"{self.label}{'':>12}"))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def __call__(self, n: int) -> None:
        with self._lock:
            self.done += n
            now = time.monotonic()
            rate = self.done / max(now - self._began, 1e-9)
            if self._bar is not None:
                self._bar.label = f"{self.label}{f'{rate:,.0f}/s':>12}"
                self._bar.update(n)
            elif now - self._said >= SAY_EVERY_S:
                self._said = now
                hours, seconds = divmod(int((self.total - self.done) / rate), 3600)
                left = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
                console.note(f"{self.done:,} of {self.total:,} images, {rate:,.0f} a second, {left} left")


def _stats(shard: int) -> str:
    return f"shard-{shard:06d}_stats.json"


def _other_job(store: Folder, there: bytes, asked: Json) -> GanportError:
    """What a run says that meets the shards of another job."""
    hint = "choose another folder, or add --overwrite to make them anew"
    try:
        before = json.loads(there)
        key = next(key for key in {**before, **asked} if before.get(key) != asked.get(key))
    except (ValueError, TypeError, AttributeError, StopIteration):
        return GanportError(f"{store}/{JOB} is damaged", hint=hint)
    old, new = (shorten(json.dumps(about.get(key)), 40) for about in (before, asked))
    return GanportError(
        f"{store} has the shards of another job: its {key} is {old}, here {new}", hint=hint, code="other_job"
    )


def _manifest_rows(store: Folder, job: Job) -> list[Json]:
    try:
        manifest = json.loads(store.read(MANIFEST) or b"")
        rows: list[Json] = manifest["shards"]
        if job.about | {"shards": rows} != manifest or len(rows) != job.shards:
            raise ValueError
        for row in rows:
            _ = row["size_bytes"], row["sha256"], row["n"]
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(
            f"{store} has no manifest of this job", hint="run its command again, or, of a job in parts, --finish"
        ) from error
    return rows
