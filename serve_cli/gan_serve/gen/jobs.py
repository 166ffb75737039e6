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
from gan_serve.runtime import in_order
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
"""Between the lines of `metered`."""

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
            "version": VERSION, "format": asked.format, "n": plan.n, "shard_size": min(size, plan.n),
            "image": {"channels": c, "height": h * scale, "width": w * scale}, "scale": scale,
            "model_sha256": generator.sha256, "provider": generator.provider, "tf32": tf32,
        }  # fmt: skip
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
            version, counts = about["version"], (about["n"], about["shard_size"])
            if version == VERSION and not (
                about["format"] in FORMATS
                and all(type(count) is int for count in counts)
                and 1 <= counts[1] <= counts[0] <= counts[1] * MOST_SHARDS
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise GanportError(f"{store}/{JOB} is damaged", hint="--overwrite makes the shards anew") from error
        if version != VERSION:
            raise GanportError(
                f"{store}/{JOB} is of another version of ganport: {shorten(json.dumps(version), 40)}, here {VERSION}",
                hint="use the ganport that made the shards",
            )
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

    def about_shard(self, shard: int) -> Json:
        """What its statistics say before it is made."""
        start, stop = self.bounds(shard)
        return {"job": self.digest, "shard": shard, "file": self.name(shard), "start": start, "n": stop - start}

    def row(self, store: Folder, shard: int) -> Json | None:
        """The statistics of a shard that is there, of this job and of its size; else None."""
        data = store.read(_stats(shard))
        if data is None:
            return None
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            row: Json = json.loads(data)
            if row["job"] != self.digest:
                return None
            whole = row | self.about_shard(shard) == row and len(row["sha256"]) == 64
            if whole and row["size_bytes"] == store.measure(self.name(shard))[0]:
                return row
        _log.warning("%s/%s is damaged or gone", store, self.name(shard))
        return None

    def clear(self, store: Folder, shards: range) -> None:
        """Deletes what there is of `shards`, and beyond the last shard of the job."""
        with store.held(WHOLE_LOCK, 1, wait=True):
            if store.read(JOB) != self.text:
                store.remove(JOB)
            store.remove(MANIFEST)
            for name in store.names():
                found = _SHARD.fullmatch(name)
                if found and (int(found[1]) in shards or int(found[1]) >= self.shards):
                    store.remove(name)

    def begin(self, store: Folder, overwrite: bool) -> None:
        """Writes job.json where there is none. Raises `GanportError` where the folder has another job, or shards of
        an unknown one, unless `overwrite` is given."""
        with store.held(WHOLE_LOCK, 1, wait=True):
            there = store.read(JOB)
            if there == self.text:
                return
            if there is not None and not overwrite:
                raise _other_job(store, there, self.about)
            if not overwrite and (found := next(filter(_SHARD.fullmatch, store.names()), None)):
                raise GanportError(
                    f"{store} has {found}, but no {JOB}", hint="choose another folder, or add --overwrite"
                )
            store.remove(MANIFEST)
            store.write(JOB, self.text)

    def rows(self, store: Folder, shards: range) -> list[Json | None]:
        """`row` of each of `shards`."""
        return list(in_order(lambda shard: self.row(store, shard), shards, store.readers))

    def missing(self, store: Folder, shards: range) -> list[int]:
        """Those of `shards` that are not there."""
        return [shard for shard, row in zip(shards, self.rows(store, shards), strict=True) if row is None]

    def finish(self, store: Folder) -> str:
        """Writes the manifest; returns its name. Raises `JobError` where shards are missing."""
        rows = self.rows(store, range(self.shards))
        missing = [self.name(shard) for shard, row in enumerate(rows) if row is None]
        if missing:
            raise JobError(
                f"{len(missing)} of {self.shards} shards of {store} are missing: {shorten(', '.join(missing), 80)}",
                hint="run the job again: it makes only what is missing",
            )
        lines = ",\n".join(json.dumps({key: row[key] for key in row if key != "images"}) for row in rows if row)
        store.write(MANIFEST, f'{json.dumps(self.about)[:-1]}, "shards": [\n{lines}\n]}}\n'.encode())
        return MANIFEST

    def verify(self, store: Folder, progress: Progress) -> None:
        """Reads every shard. Raises `JobError` for those that are not as the manifest says, or are more."""
        try:
            manifest = json.loads(store.read(MANIFEST) or b"")
            expected = [(row["size_bytes"], row["sha256"]) for row in manifest["shards"]]
            if self.about | {"shards": manifest["shards"]} != manifest or len(expected) != self.shards:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise JobError(
                f"{store} has no manifest of this job", hint="run its command again, or, of a job in parts, --finish"
            ) from error
        wrong = []
        for shard, said in enumerate(expected):
            if store.measure(self.name(shard), digest=True) != said:
                wrong.append(self.name(shard))
            progress(self.images_of([shard]))
        if wrong:
            raise JobError(
                f"{len(wrong)} of {self.shards} shards of {store} are damaged or gone: {shorten(', '.join(wrong), 80)}",
                hint="delete them, and run the command that made them again",
            )
        own = {name for shard in range(self.shards) for name in (self.name(shard), _stats(shard))}
        if more := [name for name in store.names() if _SHARD.fullmatch(name) and name not in own]:
            raise JobError(f"{store} has files of another job: {shorten(', '.join(more), 80)}", hint="delete them")


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
        job, name = self.job, self.job.name(shard)
        part = ShardPlan(self.plan, *job.bounds(shard))
        drawn = generator.draw(part.n, self.batch_size, part.latents, part.fed_labels)
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(self.store.placing(name, folder=job.format == "folder"))
            batches = stack.enter_context(contextlib.closing(self._counted(drawn, progress)))
            said = write_shard(path, job.format, part, batches, self.text)
            unfinished = stack.pop_all()

        def finish() -> Json:
            with unfinished:
                size, digest = measure(path)
            row = job.about_shard(shard) | {"size_bytes": size, "sha256": digest}
            self.store.write(_stats(shard), json.dumps(row | said).encode() + b"\n")
            return row

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


@contextlib.contextmanager
def metered(total: int, label: str) -> Iterator[Progress]:
    """Yields what shows how many of `total` images are done, how many a second, and for how long it goes on: as a bar
    on a terminal, elsewhere as a line each minute."""
    began = said = time.monotonic()
    done = 0
    with contextlib.ExitStack() as shown:
        bar: Any = None
        if sys.stderr.isatty():
            bar = shown.enter_context(console.progress(total, f"{label}{'':>12}"))

        def tell(n: int) -> None:
            nonlocal done, said
            done, now = done + n, time.monotonic()
            rate = done / max(now - began, 1e-9)
            pace = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
            if bar is not None:
                bar.label = f"{label}{f'{pace}/s':>12}"
                bar.update(n)
            elif now - said >= SAY_EVERY_S:
                said = now
                hours, seconds = divmod(int((total - done) / rate), 3600)
                left = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
                console.note(f"{done:,} of {total:,} images, {pace} a second, {left} left")

        yield tell


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
