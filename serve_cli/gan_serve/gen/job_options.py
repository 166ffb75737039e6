"""The options of large jobs: what they mean together, and which part of a job this process makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gan_core.errors import GanportError
from gan_core.printable import shorten
from gan_serve.gen.outputs import FORMATS

ENGINES = ("local", "ray")
PARTS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("RANK", "WORLD_SIZE"),
)
"""Where SLURM's job arrays, Kubernetes' indexed jobs and torchrun say which part of a job this is, and of how many."""


@dataclass(frozen=True)
class JobOptions:
    """What makes a run a job in shards: the options of `gan_serve.gen.jobs` as they were given."""

    format: str | None = None
    shard_size: int | None = None
    shard: str | None = None
    overwrite: bool = False
    verify: bool = False
    finish: bool = False
    engine: str | None = None
    workers: int | None = None
    ray_address: str | None = None

    def check(self, images: bool = False) -> None:
        """Raises `GanportError` for values that do not exist, and options without those that they belong to.

        images  whether folders of images are transformed, which may be divided, too
        """
        if self.format is not None and self.format not in FORMATS:
            raise GanportError(f"--format is one of {', '.join(FORMATS)}, got {self.format!r}", hint="--format tar")
        if self.engine not in (None, *ENGINES):
            raise GanportError(f"--engine is one of {', '.join(ENGINES)}, got {self.engine!r}", hint="leave it out")
        of_shards = {"--shard-size": self.shard_size, "--shard": self.shard, "--engine": self.engine}
        of_ray = {"--workers": self.workers, "--ray-address": self.ray_address}
        for option, value in (of_shards | of_ray).items():
            if value is not None and self.format is None and not (images and option == "--shard"):
                raise GanportError(f"{option} is for a job in shards", hint="add --format tar")
        for option, value in of_ray.items():
            if value is not None and self.engine != "ray":
                raise GanportError(f"{option} is for --engine ray", hint="leave it out")
        for option, number in (("--shard-size", self.shard_size), ("--workers", self.workers)):
            if number is not None and number < 1:
                raise GanportError(f"{option} must be at least 1, got {number}", hint="leave it out for a good one")
        if self.engine == "ray" and self.shard is not None:
            raise GanportError("--shard and --engine ray both divide the job", hint="leave one of them out")

    def part(self, environ: Mapping[str, str]) -> tuple[int, int, str]:
        """(part, parts, who said so) of --shard; where it is not given, of what a cluster says, else (0, 1, "").

        Raises `GanportError` for a text that is none, and for a cluster that says one number and not the other.
        """
        if self.engine == "ray":
            return 0, 1, ""
        if self.shard is not None:
            part, slash, parts = self.shard.partition("/")
            if not (slash and _is_number(part) and _is_number(parts) and int(part) < int(parts)):
                raise GanportError(
                    f"--shard is PART/PARTS, with parts from 0, got {shorten(self.shard, 40)}",
                    hint="the first of four is --shard 0/4",
                )
            return int(part), int(parts), ""
        for part_name, parts_name in PARTS:
            if part_name in environ:
                part, parts = environ[part_name], environ.get(parts_name, "")
                first = step = ""
                if part_name.startswith("SLURM"):  # --array=1-7:2 has the tasks 1, 3, 5 and 7
                    first, step = (environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("MIN", "STEP"))
                if not all(map(_is_number, (part, parts, first or "0", step or "1"))):
                    raise GanportError(
                        f"{part_name} is {shorten(part, 40)!r} and {parts_name} {shorten(parts, 40) or 'not set'}",
                        hint=f"say which part this is: --shard ${part_name}/PARTS, with parts from 0",
                    )
                index, rest = divmod(int(part) - int(first or 0), int(step or 1) or 1)
                if rest or not 0 <= index < int(parts):
                    raise GanportError(
                        f"{part_name} {part} is none of {parts} parts", hint="say which it is: --shard 0/4"
                    )
                return index, int(parts), f" ({part_name})"
        return 0, 1, ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
