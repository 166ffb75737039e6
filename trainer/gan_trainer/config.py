"""What is asked of a training, `TrainRequest`, and what it then is, `RunConfig`. No torch here.

A run's config.json and each of its checkpoints hold its `RunConfig`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gan_core.arrays import I64
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.latents import SEED_LIMIT
from gan_core.spec.generator_spec import GeneratorSpec
from gan_trainer.networks.architectures import network_spec, upscaler_spec
from gan_trainer.presets import PRESETS, preset
from gan_trainer.recipes import Recipe, Task
from gan_trainer.settings import LIMITS, Settings, checked, field_of, settings

Unit = Literal["steps", "epochs", "minutes"]

LEFT_OUT_SHARE, MOST_LEFT_OUT = 10, 256

DEFAULT_EMA_BETA = 0.999
FREE = ("report_every", "sample_every")
"""Of a recipe what a resumed run may change: where and how often things are written decides no weight."""


@dataclass(frozen=True)
class Limit:
    """How long to train in all, resumed parts included: `amount` steps, epochs, or minutes inside the loop."""

    unit: Unit
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise GanportError(
                f"a limit counts {', '.join(get_args(Unit))}, got {self.unit!r}", hint="choose one of these units"
            )
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise GanportError(
                f"`{self.unit}` must be a number above 0, got {self.amount:g}",
                hint="leave it out to train as long as the preset says",
            )
        if self.unit != "minutes" and self.amount != int(self.amount):
            raise GanportError(
                f"`{self.unit}` must be a whole number, got {self.amount:g}", hint="`minutes` takes fractions"
            )

    @classmethod
    def of(cls, **amounts: float | None) -> Limit | None:
        """The one of `steps`, `epochs` and `minutes` that is not None, if any. Raises `GanportError` for several."""
        given: list[Any] = [(unit, amount) for unit, amount in amounts.items() if amount is not None]
        if len(given) > 1:
            names = " and ".join(f"`{unit}`" for unit, _ in given)
            raise GanportError(f"{names} exclude each other", hint="a training ends by one of them; give one")
        return cls(*given[0]) if given else None

    def steps(self, per_epoch: int) -> int | None:
        """The last step, where that is known beforehand."""
        if self.unit == "minutes":
            return None
        return int(self.amount) * (per_epoch if self.unit == "epochs" else 1)

    def fraction(self, step: int, seconds: float, per_epoch: int) -> float:
        """How much is done, in [0, 1]: 1 when the limit is reached."""
        last = self.steps(per_epoch)
        return min(1.0, seconds / (self.amount * 60) if last is None else step / last)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True)
class TrainRequest:
    """A training as asked for; None where the preset, the data or the resumed run decide.

    changes  of the preset, by the names of `Recipe`'s fields; None changes nothing
    ema      whether an average of the weights is exported
    """

    data: str | None = None
    task: str | None = None
    preset: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    ema: bool | None = None
    seed: int | None = None
    limit: Limit | None = None
    out: Path | None = None
    resume: bool = False
    root: Path | None = None
    device: str = "auto"
    ngpu: int = 1
    log: str | None = None
    init: Path | None = None
    amp: str = "auto"
    compiled: str = "auto"
    cuda_graphs: bool = True
    threads: int | None = None

    @classmethod
    def of(cls, asked: Settings) -> TrainRequest:
        """The request that these settings make. Raises `GanportError` for a value that is out of its range."""
        given: dict[str, Any] = dict(checked(asked))
        changes = {field: given.pop(name) for name in settings() if name in given and (field := field_of(name))}
        if "lr_g" in changes:
            changes.setdefault("lr_d", changes["lr_g"])
        limit = Limit.of(**{name: given.pop(name, None) for name in LIMITS})
        for name in ("out", "root", "init"):
            if name in given:
                given[name] = Path(given[name])
        if "data" in given:
            given["data"] = os.fspath(given["data"])
        if "compile" in given:
            given["compiled"] = given.pop("compile")
        request = cls(changes=changes, limit=limit, **given)
        if request.seed is not None and not 0 <= request.seed < SEED_LIMIT:
            raise GanportError(
                f"`seed` must lie in 0 … 2**53 - 1, got {request.seed}", hint="any whole number from 0 will do"
            )
        return request

    def recipe(self, channels: int | None = None) -> Recipe:
        """The preset with everything that was asked for in its place, for images of `channels` where that is known.

        Raises `GanportError` for values out of range.
        """
        channels = self.changes.get("channels") or channels
        if self.task not in (None, *get_args(Task)):
            raise GanportError(f"no task is called {self.task!r}", hint=f"tasks: {', '.join(get_args(Task))}")
        name = self.preset or ("upscale" if self.task == "upscale" else "default")
        made = preset(name, channels)
        if self.task not in (None, made.task):
            others = ", ".join(each for each, (recipe, _) in PRESETS.items() if recipe.task == self.task)
            raise GanportError(f"the preset {name} does not {self.task}", hint=f"presets that do: {others}")
        if made.task == "upscale" and "z_dim" in self.changes:
            raise GanportError("an upscaler takes an image and no latent", hint="leave `z_dim` out")
        recipe = made.override(**self.changes)
        if self.ema is None or self.ema == (recipe.ema_beta is not None):
            return recipe
        return dataclasses.replace(recipe, ema_beta=DEFAULT_EMA_BETA if self.ema else None)


@dataclass(frozen=True)
class RunConfig:
    """The whole of a training's input. Two equal configs on the same CPU give the same bits.

    data         the data set as it was asked for
    data_name    the data set's own short name
    fingerprint  hex digest of its images, as `gan_trainer.data` computes it
    n_images     how many images it has
    class_names  of its classes in the order of the labels; empty without classes
    recipe       every hyperparameter, with size and channels filled in
    seed         of the weights, the latents and the order of the images
    limit        how long to train
    init         the g.pt whose weights it began with
    films        whether samples are drawn by the clock, too: not where `sample_every` was asked for
    """

    data: str
    data_name: str
    fingerprint: str
    n_images: int
    recipe: Recipe
    seed: int
    limit: Limit
    class_names: tuple[str, ...] = ()
    init: str | None = None
    films: bool = False

    def __post_init__(self) -> None:
        if self.recipe.conditional and not self.class_names:
            raise GanportError(
                f"`conditional` needs images with classes, {self.data_name} has none",
                hint="a folder has classes when every image lies in one subfolder a class; or leave it out",
            )

    @property
    def n_classes(self) -> int:
        """How many classes G and D take: 0 unless the recipe is conditional."""
        return len(self.class_names) if self.recipe.conditional else 0

    @property
    def left_out(self) -> I64 | None:
        """The indices of the images that an upscaler is measured by, and not trained on."""
        return left_out(self.n_images) if self.recipe.task == "upscale" else None

    def spec(self) -> GeneratorSpec:
        """The generator to train. Raises `GanportError` for a network that does not exist."""
        recipe = self.recipe
        if recipe.size is None or recipe.channels is None:
            raise GanportError("the recipe leaves size or channels open", hint="choose them: `size` and `channels`")
        if recipe.task == "upscale":
            return upscaler_spec(recipe.size, recipe.channels, width=recipe.width, scale=recipe.scale)
        return network_spec(
            recipe.arch, recipe.size, recipe.channels, width=recipe.width, z_dim=recipe.z_dim,
            n_classes=self.n_classes, class_names=self.class_names if self.n_classes else (),
        )  # fmt: skip

    def check_resumed(self, fingerprint: str, asked: TrainRequest) -> None:
        """Raises `GanportError` where a run of this configuration cannot go on with these data or this request."""
        if fingerprint != self.fingerprint:
            raise GanportError(
                f"the run was trained on other data: its images have the digest {self.fingerprint[:12]}…, "
                f"these have {fingerprint[:12]}…",
                hint="give the same `data`, unchanged, or start a new run",
            )
        recipe = self.recipe
        wanted = {"preset": asked.preset, **asked.changes, "ema": asked.ema, "seed": asked.seed, "task": asked.task}
        wanted["init"] = None if asked.init is None else str(asked.init)
        started = {
            **vars(recipe),
            "task": recipe.task,
            "preset": recipe.name,
            "ema": recipe.ema_beta is not None,
            "seed": self.seed,
            "init": self.init,
        }
        for name, value in wanted.items():
            if value is not None and name not in FREE and value != started[name]:
                raise GanportError(
                    f"the run was started with {_said(name, started[name])}, asked is {_said(name, value)}",
                    hint="leave it out to go on as before, or start a new run with another `out`",
                )

    def to_json(self) -> Json:
        return vars(self) | {"recipe": self.recipe.to_json(), "limit": dataclasses.asdict(self.limit)}

    @classmethod
    def from_json(cls, values: Json) -> RunConfig:
        """Reads what `to_json` wrote. Raises `GanportError` when it is incomplete or of another version."""
        try:
            read: Json = {
                "recipe": Recipe.from_json(values["recipe"]),
                "limit": Limit(**values["limit"]),
                "class_names": tuple(values.get("class_names", ())),
            }
            return cls(**values | read)
        except (KeyError, TypeError) as error:
            raise GanportError(
                f"the run's configuration does not read: {error}",
                hint="config.json or last.pt was edited or is of another ganport; start a new run with `out`",
            ) from error


def left_out(n: int) -> I64:
    """The indices of the images, of `n`, that no upscaler is trained on: a tenth, at most `MOST_LEFT_OUT`, chosen by
    `n` alone."""
    count = min(max(1, n // LEFT_OUT_SHARE), MOST_LEFT_OUT)
    return np.sort(np.random.default_rng(n).permutation(n)[:count]).astype(np.int64)


def _said(name: str, value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{'lr' if name == 'lr_g' else name}={text}`"
