"""What `lab.recipes` compares, from its command line: data sets, and presets with changes. No torch here."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_trainer.networks.architectures import SIZES
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe
from lab import shared
from lab.training_command import differing

BUDGET_BATCH = 64
"""`--steps` counts updates of G on batches of this many images; a recipe with other batches takes other steps."""


@dataclass(frozen=True)
class Data:
    """A data set: a name or a folder, at a size (None: its own).

    `text` is what was typed, and the name in the record: there, of an absolute path, only the last part.
    """

    text: str
    name: str
    size: int | None


def parse_data(text: str) -> Data:
    """`digits`, `fashion-mnist@32`, `folder:PATH@64`. Raises `GanportError` for a size that does not exist."""
    name, at, size = text.rpartition("@")
    if not at:
        name, size = text, ""
    if at and not (size.isascii() and size.isdigit() and int(size) in SIZES):
        raise GanportError(
            f"--data {text}: after @ comes a size, got {size!r}", hint=f"sizes: {', '.join(map(str, SIZES))}"
        )
    name = name.removeprefix("folder:")
    if not name:
        raise GanportError(f"--data {text!r} names no data", hint="digits, fashion-mnist@32, folder:PATH@64")
    return Data(shared.without_folder(text), name, int(size) if at else None)


@dataclass(frozen=True)
class Variant:
    """A preset with some of its fields changed."""

    preset: str
    changes: dict[str, Any]

    def recipe(self, channels: int | None = None, size: int | None = None) -> Recipe:
        """For images of this kind, which a preset may depend on."""
        changed = dataclasses.replace(preset(self.preset, channels), **self.changes)
        return changed.override(channels=channels, size=size)


def steps_of(recipe: Recipe, budget: int) -> int:
    """Its steps for as many images drawn in updates of G as `budget` updates of `BUDGET_BATCH` draw."""
    return math.ceil(budget * BUDGET_BATCH / recipe.batch_size) * recipe.n_critic


def parse_variant(text: str) -> Variant:
    """`r3gan`, `default:augment=auto`, `default:width=48:lr_d=4e-4`: fields of `gan_trainer.recipes.Recipe`.

    Values are JSON, or text where they are not. Raises `GanportError` for an unknown preset, field or value.
    """
    name, *changes = text.split(":")
    preset(name)
    values: dict[str, Any] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or field not in _FIELDS:
            raise GanportError(
                f"--preset {text}: expected field=value, got {change!r}", hint=f"fields: {', '.join(_FIELDS)}"
            )
        values[field] = _value(text, field, value)
    variant = Variant(name, values)
    variant.recipe()
    return variant


def name_of(recipe: Json) -> str | None:
    """What today's `parse_variant` takes for `recipe`, given its kind of images; see `differing`.

    None when nothing does: its preset is gone, or it has other fields.
    """
    if recipe.keys() != {field.name for field in dataclasses.fields(Recipe)}:
        return None
    try:
        changed = differing(Recipe.from_json(recipe))
    except GanportError:
        return None
    return ":".join([recipe["name"], *(f"{name}={_text(recipe[name])}" for name in changed)])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, separators=(",", ":"))


_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Recipe)
    if field.name not in ("name", "size", "channels", "epochs", "steps")
)


def _value(text: str, field: str, value: str) -> Any:
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    parsed = tuple(parsed) if isinstance(parsed, list) else parsed
    usual = getattr(Recipe(name=""), field)
    number = isinstance(usual, float) or field == "ema_beta"
    fits = type(parsed) is type(usual) or (number and type(parsed) in (int, float, type(None)))
    if not fits:
        raise GanportError(f"--preset {text}: {field} must be like {usual!r}, got {value!r}", hint="values are JSON")
    return parsed
