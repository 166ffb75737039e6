"""Recipes and presets: what each tutorial says, and what no recipe may say."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from gan_core.errors import GanportError
from gan_trainer.config import TrainRequest
from gan_trainer.presets import PRESETS, preset
from gan_trainer.recipes import Recipe

# The table of tutorials, by hand.
TUTORIALS: dict[str, dict[str, Any]] = {
    "gan-basic": {"order": "g_first", "d_loss": "mean", "grid": "save_image", "cols": 8, "ema_beta": None},
    "mlp-mnist": {
        "arch": "mlp", "size": 28, "channels": 1, "width": 64, "z_dim": 100, "lr_g": 2e-4, "lr_d": 2e-4,
        "betas": (0.5, 0.999), "batch_size": 64, "order": "g_first", "d_loss": "mean", "init": "torch",
        "n_fixed": 25, "cols": 5, "sample_every": 400, "print_every": 1, "ema_beta": None,
    },
    "dcgan64": {
        "arch": "dcgan", "size": 64, "channels": 3, "width": 64, "z_dim": 100, "lr_g": 2e-4, "lr_d": 2e-4,
        "betas": (0.5, 0.999), "batch_size": 128, "order": "d_first", "d_loss": "sum", "init": "dcgan",
        "print_every": 50, "sample_every": 500, "n_fixed": 64, "cols": 8, "ema_beta": None,
    },
    "dcgan64-facades": {
        "arch": "dcgan", "size": 64, "channels": 3, "batch_size": 128, "epochs": 100, "order": "d_first",
        "d_loss": "sum", "init": "dcgan", "n_fixed": 64, "cols": 8, "ema_beta": None,
    },
    "dcgan96": {
        "arch": "dcgan", "size": 96, "channels": 3, "z_dim": 100, "batch_size": 100, "lr_g": 1e-4, "lr_d": 1e-4,
        "checkpoint_every_epoch": True, "ema_beta": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TUTORIALS)
def test_preset_says_what_its_tutorial_says(name: str) -> None:
    recipe = preset(name)
    assert recipe.name == name
    assert {field: getattr(recipe, field) for field in TUTORIALS[name]} == TUTORIALS[name]


def test_every_preset_is_a_tutorial_or_the_default() -> None:
    assert set(PRESETS) == {"default", "resnet", "wgan-gp", "r3gan", "upscale", "upscale-gan", *TUTORIALS}
    assert preset("default").ema_beta is not None


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_survive_json(name: str) -> None:
    recipe = preset(name)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_ends(name: str) -> None:
    recipe = preset(name)
    assert (recipe.epochs is None) != (recipe.steps is None)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_for_rgb(name: str) -> None:
    """Three of them differ there; the tutorials never do, and nothing does on grey images."""
    assert preset(name, 1) == preset(name)
    changes: dict[str, dict[str, Any]] = {
        "default": {"augment": "translation", "arch": "resize"},
        "resnet": {"augment": "translation"},
        "r3gan": {"penalty_weight": 10.0},
    }
    changed = changes.get(name, {})
    assert preset(name, 3) == dataclasses.replace(preset(name), **changed)


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        (TrainRequest(), "augment", "translation"),
        (TrainRequest(changes={"channels": 1}), "augment", "none"),
        (TrainRequest(changes={"augment": "none"}), "augment", "none"),
        (TrainRequest(changes={"augment": "auto"}), "augment", "auto"),
        (TrainRequest(preset="r3gan"), "penalty_weight", 10.0),
        (TrainRequest(preset="r3gan", changes={"channels": 1}), "penalty_weight", 1.0),
        (TrainRequest(preset="r3gan", changes={"penalty_weight": 2.0}), "penalty_weight", 2.0),
        (TrainRequest(preset="gan-basic"), "augment", "none"),
        (TrainRequest(preset="gan-basic", ema=True), "ema_beta", 0.999),
        (TrainRequest(ema=False), "ema_beta", None),
    ],
)
def test_what_is_asked_for_beside_a_preset_of_rgb_images(asked: TrainRequest, field: str, value: object) -> None:
    assert getattr(asked.recipe(3), field) == value


def test_override_takes_only_what_was_asked_for() -> None:
    recipe = preset("dcgan64").override(size=32, width=None, lr_g=1e-3)
    assert (recipe.size, recipe.width, recipe.lr_g, recipe.lr_d) == (32, 64, 1e-3, 2e-4)


@pytest.mark.parametrize(
    ("asked", "near"),
    [("dcgan-64", "dcgan64"), ("mlp", "mlp-mnist"), ("facades", "dcgan64-facades"), ("Default", "default")],
)
def test_unknown_presets_are_told_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(GanportError, match=f"unknown preset '{asked}'") as caught:
        preset(asked)
    assert f"did you mean {near}?" in caught.value.hint


def test_a_preset_near_nothing_gets_the_list() -> None:
    with pytest.raises(GanportError) as caught:
        preset("zzzz")
    assert caught.value.hint.startswith("presets: default, resnet, wgan-gp")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "stylegan"}, "arch must be one of mlp, dcgan, resize, resnet, got 'stylegan'"),
        ({"size": 65}, "no network for size 65"),
        ({"size": 0}, "no network for size 0"),
        ({"size": -64}, "no network for size -64"),
        ({"channels": 2}, "channels must be 1 .* got 2"),
        ({"channels": 4}, "channels must be 1 .* got 4"),
        ({"width": 0}, "`width` must be at least 1, got 0"),
        ({"z_dim": -1}, "`z_dim` must be at least 1, got -1"),
        ({"batch_size": 1}, "`batch_size` must be at least 2, got 1"),
        ({"batch_size": -64}, "`batch_size` must be at least 2, got -64"),
        ({"lr_g": 0.0}, "learning rate must be a finite number above 0, got 0"),
        ({"lr_d": -1e-4}, "learning rate .* got -0.0001"),
        ({"lr_g": math.nan}, "learning rate .* got nan"),
        ({"lr_d": math.inf}, "learning rate .* got inf"),
        ({"betas": (0.5, 1.0)}, "betas"),
        ({"betas": (-0.1, 0.9)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"ema_beta": 1.0}, "EMA's decay must lie in"),
        ({"ema_beta": -0.1}, "EMA's decay must lie in"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"steps": -5}, "`steps` must be at least 1"),
        ({"report_every": 0}, "`report_every` must be at least 1"),
        ({"sample_every": 0}, "`sample_every` must be at least 1"),
        ({"print_every": -1}, "`print_every` must be at least 0"),
        ({"n_fixed": 0}, "`n_fixed` must be at least 1"),
        ({"cols": 0}, "`cols` must be at least 1"),
        ({"order": "both"}, "order must be one of d_first, g_first"),
        ({"d_loss": "max"}, "d_loss must be one of sum, mean"),
        ({"init": "xavier"}, "init must be one of dcgan, torch"),
        ({"loss": "relativistic", "d_loss": "sum"}, "pairs reals with fakes"),
        ({"loss": "lsgan"}, "loss must be one of bce, hinge, wasserstein, relativistic"),
        ({"penalty": "r1r2", "penalty_weight": 1.0, "d_loss": "sum"}, "one pass of D"),
        ({"penalty": "r1r2", "penalty_weight": 1.0, "d_norm": "batch"}, "joined mixes real and fake"),
        ({"penalty": "r3", "penalty_weight": 1.0}, "penalty must be one of none, gp, r1, r1r2"),
        ({"penalty": "gp"}, "penalty gp with weight 0"),
        ({"penalty_weight": math.inf}, "finite number from 0, got inf"),
        ({"d_norm": "group"}, "d_norm must be one of batch, spectral, none"),
        ({"n_critic": 2, "order": "g_first"}, "need order d_first"),
        ({"augment": "blur"}, "no augmentation is called 'blur'"),
        ({"grid": "pdf"}, "grid must be one of exact, save_image"),
    ],
)
def test_no_recipe_with_a_value_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        dataclasses.replace(preset("default"), **changes)


@pytest.mark.parametrize("damage", [{"colour": 1}, {"betas": None}, {"betas": 3}])
def test_json_of_another_recipe_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(GanportError, match="the recipe does not read"):
        Recipe.from_json(preset("default").to_json() | damage)
