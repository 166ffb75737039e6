"""The gan-train command that makes a checkpoint again, from what the checkpoint says of its training."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from gan_core.errors import GanportError
from gan_trainer.presets import PRESETS, preset
from gan_trainer.recipes import Recipe

OPTIONS = {
    "arch": "--arch",
    "width": "--width",
    "z_dim": "--z-dim",
    "batch_size": "--batch-size",
    "lr_g": "--lr",
    "lr_d": "--lr-d",
    "n_critic": "--n-critic",
    "penalty_weight": "--penalty-weight",
    "penalty_every": "--penalty-every",
    "augment": "--augment",
}
"""Fields of a recipe that gan-train has an option for and that decide the weights."""
DEFAULT_PRESET = "default"
WATCHING = {"size", "channels", "epochs", "steps", "report_every", "print_every", "sample_every", "n_fixed", "cols",
            "grid", "checkpoint_every_epoch"}  # fmt: skip
"""Fields that the data or the length of the run settle, or that decide pictures and not weights."""


def differing(recipe: Recipe) -> list[str]:
    """The fields, `WATCHING` aside, in which it is not its preset for its kind of images.

    Raises `GanportError` when there is no such preset.
    """
    usual = preset(recipe.name, recipe.channels)
    names = (field.name for field in dataclasses.fields(Recipe))
    return [name for name in names if name not in WATCHING and getattr(recipe, name) != getattr(usual, name)]


def training_command(training: dict[str, Any]) -> str:
    """`training` is a checkpoint's. The same data, seed and steps: on one CPU and one version the same bits.

    Raises `GanportError` when it says too little, or when no options of today's gan-train give its recipe.
    """
    try:
        recipe = Recipe.from_json(training["recipe"])
        data, seed, steps = training["data"]["name"], int(training["seed"]), int(training["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unknown(f"the checkpoint does not say how it was trained ({error})") from error
    if recipe.name not in PRESETS:
        raise _unknown(f"there is no preset {recipe.name!r}")
    words = ["gan-train", "--data", str(data)]
    if recipe.name != DEFAULT_PRESET:
        words += ["--preset", recipe.name]
    if training.get("init"):
        words += ["--init", str(training["init"])]
    words += ["--size", str(recipe.size), "--channels", str(recipe.channels)]
    changed = differing(recipe)
    if "lr_g" in changed and "lr_d" not in changed:
        changed.append("lr_d")  # --lr sets both
    for name in changed:
        value = getattr(recipe, name)
        if name in OPTIONS:
            words += [OPTIONS[name], f"{value:g}" if isinstance(value, float) else str(value)]
        elif name == "conditional":
            words.append("--conditional" if value else "--no-conditional")
        elif name == "ema_beta" and value is None:
            words.append("--no-ema")
        else:
            usual = getattr(preset(recipe.name, recipe.channels), name)
            raise _unknown(f"the preset {recipe.name} has {name} {usual!r}, the checkpoint {value!r}")
    words += ["--seed", str(seed), "--steps", str(steps)]
    if "bfloat16" in str(training.get("speed", "")):
        words += ["--amp", "bf16"]
    return shlex.join(words)


def _unknown(reason: str) -> GanportError:
    return GanportError(f"no command is known that trains it again: {reason}", hint="give it with --command TEXT")
