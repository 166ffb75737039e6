"""What a run was asked to do: `RunConfig`, written to config.json and into every checkpoint. No torch here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gan_core.errors import GanportError
from gan_core.spec.generator_spec import GeneratorSpec
from gan_trainer.networks.architectures import network_spec
from gan_trainer.recipes import Recipe

Unit = Literal["steps", "epochs", "minutes"]


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
                f"--{self.unit} must be a number above 0, got {self.amount:g}",
                hint="leave it out to train as long as the preset says",
            )
        if self.unit != "minutes" and self.amount != int(self.amount):
            raise GanportError(
                f"--{self.unit} must be a whole number, got {self.amount:g}", hint="--minutes takes fractions"
            )

    def steps(self, per_epoch: int) -> int | None:
        """The last step, where that is known beforehand."""
        if self.unit == "minutes":
            return None
        return int(self.amount) * (per_epoch if self.unit == "epochs" else 1)

    def reached(self, step: int, seconds: float, per_epoch: int) -> bool:
        last = self.steps(per_epoch)
        return seconds >= self.amount * 60 if last is None else step >= last

    def fraction(self, step: int, seconds: float, per_epoch: int) -> float:
        """How much is done, in [0, 1]."""
        last = self.steps(per_epoch)
        done = seconds / (self.amount * 60) if last is None else step / last
        return min(1.0, done)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


def limit_of(recipe: Recipe) -> Limit:
    """How long the recipe trains by itself."""
    if recipe.epochs is not None:
        return Limit("epochs", recipe.epochs)
    return Limit("steps", recipe.steps or 1)


def chosen_limit(steps: int | None, epochs: int | None, minutes: float | None) -> Limit | None:
    """The limit asked for on the command line, or None. Raises `GanportError` for more than one."""
    asked: dict[Unit, float | None] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    given: list[tuple[Unit, float]] = [(unit, amount) for unit, amount in asked.items() if amount is not None]
    if len(given) > 1:
        names = " and ".join(f"--{unit}" for unit, _ in given)
        raise GanportError(f"{names} exclude each other", hint="a training ends by one of them; give one")
    return Limit(*given[0]) if given else None


@dataclass(frozen=True)
class RunConfig:
    """The whole of a training's input. Two equal configs on the same CPU give the same bits.

    data         the data set as it was named on the command line
    data_name    the data set's own short name
    fingerprint  hex digest of its images, as `gan_trainer.data` computes it
    n_images     how many images it has
    class_names  of its classes in the order of the labels; empty without classes
    recipe       every hyperparameter, with size and channels filled in
    seed         of the weights, the latents and the order of the images
    limit        how long to train
    """

    data: str
    data_name: str
    fingerprint: str
    n_images: int
    recipe: Recipe
    seed: int
    limit: Limit
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.recipe.conditional and not self.class_names:
            raise GanportError(
                f"--conditional needs images with classes, {self.data_name} has none",
                hint="a folder has classes when every image lies in one subfolder a class; or leave --conditional out",
            )

    @property
    def n_classes(self) -> int:
        """How many classes G and D take: 0 unless the recipe is conditional."""
        return len(self.class_names) if self.recipe.conditional else 0

    def spec(self) -> GeneratorSpec:
        """The generator to train. Raises `GanportError` for a network that does not exist."""
        recipe = self.recipe
        if recipe.size is None or recipe.channels is None:
            raise GanportError("the recipe leaves size or channels open", hint="choose them: --size and --channels")
        return network_spec(
            recipe.arch, recipe.size, recipe.channels, width=recipe.width, z_dim=recipe.z_dim,
            n_classes=self.n_classes, class_names=self.class_names if self.n_classes else (),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"recipe": self.recipe.to_json(), "limit": dataclasses.asdict(self.limit)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunConfig:
        """Reads what `to_json` wrote. Raises `GanportError` when it is incomplete or of another version."""
        try:
            return cls(
                **values
                | {
                    "recipe": Recipe.from_json(values["recipe"]),
                    "limit": Limit(**values["limit"]),
                    "class_names": tuple(values.get("class_names", ())),
                },
            )
        except (KeyError, TypeError) as error:
            raise GanportError(
                f"the run's configuration does not read: {error}",
                hint="config.json or last.pt was edited or is of another ganport; start a new run with --out",
            ) from error


def check_resume(config: RunConfig, fingerprint: str, asked: dict[str, Any]) -> None:
    """Whether a run with `config` may go on with these data and explicitly asked settings (None: not asked).

    Raises `GanportError` naming the first that differs. Where and how often things are written may change; what decides
    the weights may not.
    """
    if fingerprint != config.fingerprint:
        raise GanportError(
            f"the run was trained on other data: its images have the digest {config.fingerprint[:12]}…, "
            f"these have {fingerprint[:12]}…",
            hint="give the same --data, unchanged, or start a new run",
        )
    recipe = config.recipe
    started = {
        "preset": recipe.name, "arch": recipe.arch, "size": recipe.size, "channels": recipe.channels,
        "width": recipe.width, "z_dim": recipe.z_dim, "batch_size": recipe.batch_size, "lr": recipe.lr_g,
        "ema": recipe.ema_beta is not None, "seed": config.seed, "conditional": recipe.conditional,
        "lr_d": recipe.lr_d, "n_critic": recipe.n_critic, "penalty_weight": recipe.penalty_weight,
        "penalty_every": recipe.penalty_every, "augment": recipe.augment,
    }  # fmt: skip
    for name, value in asked.items():
        if value is not None and value != started[name]:
            raise GanportError(
                f"the run was started with {_option(name, started[name])}, asked is {_option(name, value)}",
                hint="leave it out to go on as before, or start a new run with another --out",
            )


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return (
        f"--{name.replace('_', '-')} {value:g}" if isinstance(value, float) else f"--{name.replace('_', '-')} {value}"
    )
