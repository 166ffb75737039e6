"""What the options of gan-gen mean together, and what it does then: load, draw, write, and say where."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_core import __version__
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.interface import class_label, parse_classes
from gan_core.latents import Seeds, count_from, parse_seeds
from gan_core.printable import shorten
from gan_serve.gen import outputs
from gan_serve.gen.outputs import Kind, Target, parse_target
from gan_serve.gen.plan import ByClassPlan, LatentPlan, Plan, SeedPlan, fit_latents, open_latents
from gan_serve.runtime import runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.onnx_answers import OnnxAnswers
from gan_serve.terminal import console

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT_N = 25
NO_OPACITY = (".jpg", ".jpeg", ".mp4")
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
    walk: int | None = None
    frames: int | None = None
    out: str | None = None
    cols: int | None = None
    batch_size: int | None = None
    selftest: bool = False
    info: bool = False
    json: bool = False
    trust_script: bool = False
    answers: OnnxAnswers = field(default_factory=OnnxAnswers)

    def check(self) -> None:
        """Raises `GanportError` for options that exclude each other and for numbers out of range."""
        if self.selftest and self.info:
            raise GanportError("--selftest and --info are two things to do", hint="run gan-gen twice")
        for mode, on in (("--selftest", self.selftest), ("--info", self.info)):
            for option, value in self._drawing().items():
                if on and value not in (None, ()):
                    raise GanportError(f"{mode} draws nothing to keep, so {option} has no meaning", hint="leave it out")
        self._exclude("seeds", "seed", "n")
        self._exclude("latents", "seed", "seeds", "n", "truncation", "walk")
        self._exclude("walk", "n", "cols")
        if self.by_class and self.walk is not None:
            raise GanportError("--by-class and --walk exclude each other", hint="--class takes classes along a walk")
        if self.by_class and self.cols is not None:
            raise GanportError("--by-class gives each class a row, so --cols has no meaning", hint="leave it out")
        if self.frames is not None and self.walk is None:
            raise GanportError("--frames is for a walk", hint="--walk 8 goes through 8 seeds")
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
    def model_file(self) -> Path:
        """The generator to draw with. Raises `GanportError` when the default is not there."""
        return runtimes.default_model() if self.model is None else self.model

    @property
    def several(self) -> bool:
        """Whether several images are drawn at a time. A self-test draws its own one by one, `--info` none.

        Raises `GanportError` for latents that cannot be read.
        """
        if self.selftest or self.info:
            return False
        if self.latents is not None:
            return self.by_class or (self._opened_latents.ndim != 1 and len(self._opened_latents) != 1)
        return self.by_class or self.walk is not None or len(self._every_seed()) != 1

    @cached_property
    def _opened_latents(self) -> npt.NDArray[Any]:
        assert self.latents is not None
        return open_latents(self.latents)

    def target(self) -> Target:
        """Where the images go. Raises `GanportError` for a place that does not fit the other options."""
        target = parse_target(self.out, self.model_file, walk=self.walk is not None)
        if self.cols is not None and target.kind not in (Kind.PICTURE, Kind.STDOUT):
            raise GanportError(f"--cols is for a grid, {target.path} is not one", hint="leave it out")
        if self.json and target.kind is Kind.STDOUT:
            raise GanportError("--json and the PNG would both go to stdout", hint="--out FILE.png")
        return target

    def plan(self, contract: Contract) -> Plan:
        """The images that were asked for. Raises `GanportError` where the generator cannot draw them."""
        classes = parse_classes(self.classes, contract.interface)
        if self.latents is not None:
            z = fit_latents(self._opened_latents, self.latents, contract.interface.z_dim)
            return self._in_rows(LatentPlan(contract, z, self.latents.name, self._in_turn(classes)), classes)
        seeds = self._every_seed()
        if self.walk is not None:
            from gan_serve.gen.walk import WalkPlan

            return WalkPlan(contract, seeds, self.frames, classes, self.truncation)
        return self._in_rows(SeedPlan(contract, seeds, self._in_turn(classes), self.truncation), classes)

    def _in_turn(self, classes: tuple[int, ...]) -> tuple[int, ...]:
        return () if self.by_class else classes

    def _in_rows(self, plan: Plan, classes: tuple[int, ...]) -> Plan:
        if not self.by_class:
            return plan
        return ByClassPlan(plan, classes)

    def _every_seed(self) -> Seeds:
        if self.seeds is None:
            default_n = DEFAULT_N_BY_CLASS if self.by_class else DEFAULT_N
            return count_from(self.seed or 0, self.walk or self.n or default_n)
        seeds = parse_seeds(self.seeds)
        if self.walk is not None and len(seeds) != self.walk:
            raise GanportError(
                f"--walk {self.walk} goes through {self.walk} seeds, --seeds names {len(seeds)}",
                hint=f"--walk {len(seeds)}, or list {self.walk} seeds",
            )
        return seeds

    def _drawing(self) -> dict[str, object]:
        """The options that only matter when images are drawn, by name."""
        names = ("n", "seed", "seeds", "latents", "truncation", "walk", "frames", "out", "cols")
        values: dict[str, object] = {f"--{name}": getattr(self, name) for name in names}
        return values | {
            "--class": self.classes,
            "--by-class": self.by_class or None,
            "--batch-size": self.batch_size,
        }

    def _exclude(self, option: str, *others: str) -> None:
        for other in others:
            if getattr(self, option) is not None and getattr(self, other) is not None:
                raise GanportError(f"--{option} and --{other} exclude each other", hint="leave one of them out")


def run_request(request: Request, provider: str, threads: int | None, tf32: bool = False) -> None:
    """Carries a request out; data to stdout, notes to stderr. Raises `GanportError`."""
    request.check()
    target = None if request.info or request.selftest else request.target()
    if request.model is None:
        console.note(f"no --model: {request.model_file.stem}, which comes with ganport")
    if request.info and provider == "auto" and not tf32:
        _info(request, None)
        return
    generator = runtimes.load(
        request.model_file,
        provider,
        threads,
        many=request.several,
        tf32=tf32,
        trust_script=request.trust_script,
        answers=request.answers,
    )
    if request.info:
        _info(request, generator)
    elif request.selftest:
        _selftest(request, generator)
    elif target is not None:
        plan = request.plan(generator.contract)
        _write(request, generator, plan, target)
        chosen = " (auto)" if provider == "auto" else ""
        if request.by_class and target.kind in (Kind.PICTURE, Kind.STDOUT):
            rows = ", ".join(class_label(plan.contract.interface, int(label)) for label in plan.classes)
            console.note(f"rows: {shorten(rows)}")
        console.note(f"{plan.n} {_what(plan, target)} on {generator.provider}{chosen}")
        if request.json:
            console.show_json(_record(request, generator, plan, target))
        elif target.kind is not Kind.STDOUT:
            console.show_path(target.path)


def _write(request: Request, generator: Generator, plan: Plan, target: Target) -> None:
    if plan.contract.interface.channels == 4 and target.path.suffix.lower() in NO_OPACITY:
        raise GanportError(
            f"the images have an opacity channel, which {target.path.suffix} cannot hold", hint="write a .png or .webp"
        )
    drawn = generator.draw(plan.n, request.batch_size, plan.latents, plan.labels)
    text = {"Software": f"ganport {__version__}", "gan.model_sha256": generator.sha256}
    with contextlib.closing(console.with_progress(drawn, plan.n, "drawing")) as batches:
        if target.kind is Kind.FOLDER:
            outputs.write_folder(target.path, plan, batches, text)
        elif target.kind is Kind.ANIMATION:
            from gan_serve.gen.animation import write_animation

            write_animation(target.path, plan, batches)
        elif target.kind is Kind.ARRAY:
            outputs.write_array(target.path, plan, batches)
        elif target.kind is Kind.STDOUT:
            outputs.write_stdout(plan, batches, request.cols, text | plan.describe())
        else:
            outputs.write_picture(target.path, plan, batches, request.cols, text | plan.describe())


def _info(request: Request, generator: Generator | None) -> None:
    from gan_serve.gen.about import describe, info_json, info_text

    about = describe(request.model_file, request.answers) if generator is None else generator
    if request.json:
        console.show_json(info_json(about, request.model_file))
    else:
        console.show(info_text(about, request.model_file))


def _selftest(request: Request, generator: Generator) -> None:
    from gan_serve.gen.about import run_selftest

    table, record, error = run_selftest(generator, str(request.model_file))
    if request.json:
        console.show_json(record)
    else:
        console.show(table)
    if error is not None:
        raise error
    console.note(f"all {len(record['images'])} golden images as expected ({record['allowed']}) on {generator.provider}")


def _record(request: Request, generator: Generator, plan: Plan, target: Target) -> dict[str, Any]:
    c, h, w = plan.contract.interface.image
    record: dict[str, Any] = {
        "out": str(target.path),
        "kind": target.kind.value,
        "n": plan.n,
        "image": {"channels": c, "height": h, "width": w},
        "model": str(request.model_file),
        "sha256": generator.sha256,
        "provider": generator.provider,
    }
    return record | {key.removeprefix("gan."): value for key, value in plan.describe().items()}


def _what(plan: Plan, target: Target) -> str:
    _, h, w = plan.contract.interface.image
    noun = "frame" if target.kind is Kind.ANIMATION else "image"
    described = plan.describe()
    seeds, each = described.get("gan.seeds"), " in each class" if "gan.rows" in described else ""
    return f"{noun}{'' if plan.n == 1 else 's'} of {w}x{h}{f', seeds {seeds}{each},' if seeds else ''}"
