"""What the options of gan-gen mean together: which images, and where they go."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_core.errors import GanportError
from gan_core.grids import MAX_SCALE
from gan_core.interface import parse_classes
from gan_core.latents import Seeds, count_from, parse_seeds
from gan_core.printable import shorten
from gan_core.said import OnnxAnswers
from gan_serve.gen.job_options import JobOptions
from gan_serve.gen.outputs import Kind, Target, parse_target
from gan_serve.runtime import runtimes
from gan_serve.runtime.plan import (
    ByClassPlan,
    LatentPlan,
    Plan,
    SeedPlan,
    WalkPlan,
    every_class,
    fit_latents,
    open_latents,
)
from gan_serve.runtime.runtimes import located
from gan_serve.runtime.styles import SEED, Noise, styles_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from gan_serve.runtime.generator import Generator
    from gan_serve.runtime.walk import Mix

DEFAULT_N = 25
DEFAULT_N_BY_CLASS = 10


@dataclass(frozen=True)
class Request:
    """gan-gen's options as they were given; None (or empty) where they were not. No model: ganport's own."""

    model: Path | None = None
    n: int | None = None
    seed: int | None = None
    seeds: str | None = None
    latents: Path | None = None
    classes: tuple[str, ...] = ()
    by_class: bool = False
    truncation: float | None = None
    psi: float | None = None
    noise: str | None = None
    mix: str | None = None
    walk: int | None = None
    frames: int | None = None
    out: str | None = None
    cols: int | None = None
    grid: str | None = None
    scale: str = "auto"
    labels: bool = False
    batch_size: int | None = None
    selftest: bool = False
    info: bool = False
    json: bool = False
    trust_script: bool = False
    answers: OnnxAnswers = field(default_factory=OnnxAnswers)
    images: tuple[str, ...] = ()
    tile: int | None = None
    halo: int | None = None
    resize: bool = False
    job: JobOptions = field(default_factory=JobOptions)

    def check(self) -> None:
        """Raises `GanportError` for options that exclude each other and for numbers out of range."""
        if self.selftest and self.info:
            raise GanportError("--selftest and --info are two things to do", hint="run gan-gen twice")
        self.job.check(bool(self.images))
        for mode, on in (("--selftest", self.selftest), ("--info", self.info), ("--verify or --finish", self.checks)):
            for option, value in self._drawing().items():
                if on and value not in (None, ()) and not (self.checks and option == "--out"):
                    raise GanportError(f"{mode} writes no images, so {option} has no meaning", hint="leave it out")
        if self.images:
            for option, value in (self._drawing() | {"--out": None, "--image": None, "--noise": None}).items():
                if value not in (None, ()) and option != "--overwrite":
                    raise GanportError(f"images are transformed, so {option} has no meaning", hint="leave it out")
        for option, value in (("--tile", self.tile), ("--halo", self.halo), ("--resize", self.resize or None)):
            if value is not None and not self.images:
                raise GanportError(f"{option} is for images", hint="gan-gen FILE photo.jpg")
        if self.checks and self.out is None:
            raise GanportError("which shards? --verify and --finish need --out", hint="name the folder of the job")
        if self.checks and self.model is not None:
            raise GanportError("--verify and --finish read shards and need no model", hint="leave the file out")
        self._exclude("seeds", "seed", "n")
        self._exclude("latents", "seed", "seeds", "n", "truncation", "walk", "grid", "mix")
        self._exclude("mix", "seed", "seeds", "n", "truncation", "walk", "grid", "cols")
        _ = self.amount_of_noise, self.mixed
        if self.noise == SEED and (self.latents or self.mix or self.walk):
            raise GanportError("given latents, mixes and walks have no seed for --noise seed", hint="leave it out")
        if self.by_class and self.mix is not None:
            raise GanportError("--by-class and --mix exclude each other", hint="--class names the class of a mix")
        self._exclude("walk", "n")
        self._exclude("grid", "n", "cols")
        if self.by_class and self.grid is not None:
            raise GanportError("--by-class and --grid exclude each other", hint="--cols sets the width of its walk")
        if self.by_class and self.cols is not None and self.walk is None:
            raise GanportError("--by-class gives each class a row, so --cols has no meaning", hint="leave it out")
        if self.walk is not None and self.cols is not None and not self.by_class:
            raise GanportError("--cols is for a grid, a walk is one image", hint="--grid 4x2 walks eight side by side")
        _ = self.shape, self.factor
        if self.frames is not None and self.walk is None:
            raise GanportError("--frames is for a walk", hint="--walk 8 goes through 8 seeds")
        if self.labels and self.walk is not None and not self.by_class:
            raise GanportError("--labels is for a grid, or a walk in every class", hint="--walk 8 --by-class --labels")
        for name, value in (("n", self.n), ("cols", self.cols), ("walk", self.walk), ("frames", self.frames)):
            if value is not None and value < 1:
                raise GanportError(f"--{name} must be at least 1, got {value}", hint="give a whole number from 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise GanportError(
                f"--batch-size must be at least 1, got {self.batch_size}", hint="leave it out for a good one"
            )
        if self.seed is not None and self.seed < 0:
            raise GanportError(f"--seed must be 0 or more, got {self.seed}", hint="seeds are 0 … 2**53 - 1")
        self._every_seed()

    @property
    def checks(self) -> bool:
        """Whether the shards that are there are looked at, and none are made."""
        return self.job.verify or self.job.finish

    @cached_property
    def shape(self) -> tuple[int, int] | None:
        """(columns, rows) of --grid. Raises `GanportError` for another text."""
        if self.grid is None:
            return None
        sides = [int(side) if side.isdecimal() and len(side) < 10 else 0 for side in self.grid.lower().split("x")]
        if len(sides) != 2 or 0 in sides:
            raise GanportError(f"--grid must be COLUMNSxROWS, got {self.grid!r}", hint="such as --grid 4x2")
        return sides[0], sides[1]

    @cached_property
    def factor(self) -> int | None:
        """What --scale says; None: auto. Raises `GanportError` for another text."""
        if self.scale == "auto":
            return None
        if not self.scale.isdecimal() or not 1 <= int(self.scale[:5]) <= MAX_SCALE:
            raise GanportError(
                f"--scale must be auto or 1 … {MAX_SCALE}, got {shorten(self.scale, 40)}",
                hint="1 leaves the images as they are",
            )
        return int(self.scale)

    @cached_property
    def mixed(self) -> Mix | None:
        """What --mix says. Raises `GanportError` for another text."""
        if self.mix is None:
            return None
        from gan_serve.runtime.walk import Mix

        return Mix(self.mix)

    @property
    def amount_of_noise(self) -> Noise:
        """What --noise says: 1 for const, 0 for none, "seed". Raises `GanportError` for another text."""
        amounts: dict[str | None, Noise] = {None: None, "const": 1.0, "none": 0.0, SEED: SEED}
        if self.noise not in amounts:
            wrong = shorten(self.noise or "", 40)
            raise GanportError(f"--noise must be const, none or seed, got {wrong}", hint="seed: random for each seed")
        return amounts[self.noise]

    @property
    def styling(self) -> dict[str, str]:
        """What --truncation-psi and --noise say, as the text of a picture."""
        said = {"gan.psi": "" if self.psi is None else f"{self.psi:g}", "gan.noise": self.noise or ""}
        return {name: value for name, value in said.items() if value}

    @cached_property
    def model_file(self) -> Path:
        """The generator to draw with, downloaded where it is an address. Raises `GanportError` when it is not there."""
        return runtimes.default_model() if self.model is None else located(self.model)

    @property
    def several(self) -> bool:
        """Whether several images are drawn at a time. A self-test draws its own one by one, `--info` none.

        Raises `GanportError` for latents that cannot be read.
        """
        if self.selftest or self.info or self.images:
            return False
        if self.mix is not None:
            return True
        if self.latents is not None:
            return self.by_class or (self._opened_latents.ndim != 1 and len(self._opened_latents) != 1)
        return self.by_class or self.walk is not None or len(self._every_seed()) != 1

    @cached_property
    def _opened_latents(self) -> npt.NDArray[Any]:
        assert self.latents is not None
        return open_latents(self.latents)

    def target(self) -> Target:
        """Where the images go. Raises `GanportError` for a place that does not fit the other options."""
        if self.job.format is not None:
            target = self._shards_target()
        elif self.out is not None and "://" in self.out:
            raise GanportError(f"{self.out} takes a job in shards", hint="add --format tar")
        else:
            target = parse_target(self.out, self.model or self.model_file, walk=self.walk is not None)
        if self.job.overwrite and target.kind not in (Kind.FOLDER, Kind.SHARDS):
            raise GanportError("--overwrite is for folders; other files are always replaced", hint="leave it out")
        for option, value in (("--cols", self.cols), ("--grid", self.grid), ("--labels", self.labels or None)):
            if value is not None and target.kind in (Kind.FOLDER, Kind.ARRAY, Kind.SHARDS):
                raise GanportError(f"{option} is for a grid, {target.path} is not one", hint="leave it out")
        if self.json and target.kind is Kind.STDOUT:
            raise GanportError("--json and the PNG would both go to stdout", hint="--out FILE.png")
        return target

    def _shards_target(self) -> Target:
        if self.out in (None, "-"):
            raise GanportError("a job in shards needs a folder", hint="--out shards/")
        if self.walk is not None:
            raise GanportError("a walk is one file, --format is for a job in shards", hint="leave one of them out")
        if "://" in self.out:
            return Target(Kind.SHARDS, Path(self.out))
        path = Path(self.out)
        if path.suffix and not path.is_dir() and not self.out.endswith(("/", os.sep)):
            raise GanportError(
                f"--format {self.job.format} makes a folder of shards, got {self.out}",
                hint="end the name of a folder with a slash",
            )
        return Target(Kind.SHARDS, path)

    def identity(self, plan: Plan) -> dict[str, Any]:
        """What decides the images beside the model: the seeds or the latents, the classes, the truncation."""
        seeds = None if self.latents is not None else str(self._every_seed())
        said: dict[str, Any] = {
            "seeds": seeds if seeds is None or len(seeds) <= 1000 else f"sha256:{_digest(seeds.encode())}",
            "latents_sha256": None
            if self.latents is None
            else _digest(np.ascontiguousarray(self._opened_latents).data),
            "classes": plan.classes.tolist(),
            "by_class": self.by_class,
            "truncation": self.truncation,
        }
        said |= {name: getattr(self, name) for name in ("psi", "noise", "mix") if getattr(self, name) is not None}
        if self.answers != OnnxAnswers():
            said["answers"] = json.loads(json.dumps(asdict(self.answers), default=str))
        return said

    def plan(self, generator: Generator) -> Plan:
        """The images that were asked for. Raises `GanportError` where the generator cannot draw them."""
        contract = generator.contract
        classes = parse_classes(self.classes, contract.interface)
        if self.mixed is not None:
            if len(classes) > 1:
                raise GanportError(f"a mix is of one class, got {len(classes)}", hint="name one, or leave it out")
            return self.mixed.plan(generator, *classes)
        in_turn = () if self.by_class else classes
        if self.latents is not None:
            z = styles_in(self._opened_latents, self.latents, contract.interface, self.psi)
            z = fit_latents(self._opened_latents, self.latents, contract.interface.z_dim) if z is None else z
            plan: Plan = LatentPlan(contract, z, self.latents.name, in_turn)
        elif self.walk is not None:
            return self._walk_plan(generator, self._every_seed(), classes)
        else:
            noisy = generator.noise_of_seeds
            plan = SeedPlan(contract, self._every_seed(), in_turn, self.truncation, noisy=noisy)
        return ByClassPlan(plan, classes) if self.by_class else plan

    def _walk_plan(self, generator: Generator, seeds: Seeds, classes: tuple[int, ...]) -> Plan:
        from gan_serve.runtime.walk import Walk

        interface, tiles, cols, walked, in_turn = generator.contract.interface, 1, self.cols, seeds, classes
        if self.by_class:
            classes = tuple(every_class(interface, classes))
            tiles = len(classes)
            walked, in_turn = Seeds(seeds.parts * tiles), tuple(label for label in classes for _ in range(len(seeds)))
        elif self.shape is not None:
            cols, tiles = self.shape[0], self.shape[0] * self.shape[1]
        walk = Walk(
            interface, walked, self.frames, in_turn, self.truncation,
            tiles=tiles, mixed=generator.mixes_classes, to_w=generator.to_w,
        )  # fmt: skip
        return WalkPlan(generator.contract, walk, seeds, classes, cols)

    def _every_seed(self) -> Seeds:
        if self.seeds is None:
            default_n = DEFAULT_N_BY_CLASS if self.by_class else DEFAULT_N
            return count_from(self.seed or 0, self._wanted or self.n or default_n)
        seeds = parse_seeds(self.seeds)
        if self._wanted is not None and len(seeds) != self._wanted:
            asked = " ".join(
                f"--{name} {getattr(self, name)}" for name in ("walk", "grid") if getattr(self, name) is not None
            )
            raise GanportError(
                f"{asked} goes through {self._wanted} seeds, --seeds names {len(seeds)}",
                hint=f"list {self._wanted} seeds, or leave --seeds out",
            )
        return seeds

    @property
    def _wanted(self) -> int | None:
        """How many seeds --walk and --grid take."""
        if self.walk is None and self.shape is None:
            return None
        columns, rows = self.shape or (1, 1)
        return (self.walk or 1) * columns * rows

    def _drawing(self) -> dict[str, object]:
        """The options that only matter when images are drawn, by name."""
        names = ("n", "seed", "seeds", "latents", "truncation", "noise", "mix", "walk", "frames", "out", "cols", "grid")
        values: dict[str, object] = {f"--{name}": getattr(self, name) for name in names}
        return values | {
            "--truncation-psi": self.psi,
            "--class": self.classes,
            "--by-class": self.by_class or None,
            "--batch-size": self.batch_size,
            "--labels": self.labels or None,
            "--scale": None if self.factor is None else self.factor,
            "--image": self.images,
            "--format": self.job.format,
            "--overwrite": self.job.overwrite or None,
        }

    def _exclude(self, option: str, *others: str) -> None:
        for other in others:
            if getattr(self, option) is not None and getattr(self, other) is not None:
                raise GanportError(f"--{option} and --{other} exclude each other", hint="leave one of them out")


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
