"""The settings of a training, each said once: gan-train makes its options of them, `gan_trainer.train` its
parameters, and a file run.yaml its keys (`gan_trainer.settings_file`).

What a setting of the recipe is where nobody asks for it, the preset says (`gan_trainer.presets`). No torch here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypedDict, cast, get_args, get_type_hints

from gan_core.errors import GanportError
from gan_core.fields import shown
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES
from gan_trainer.presets import DEFAULT

DATA, RECIPE, LENGTH, RUN, MACHINE = "Data and images", "Recipe", "How long", "The run", "The machine"
"""The panels that help groups the options in."""

DEFAULT_DATA = "digits"
LIMITS = ("steps", "epochs", "minutes")
PLACES = ("out", "resume")
"""Where a run lies: of one run, so that its run.yaml leaves them out."""


@dataclass(frozen=True)
class Setting:
    """One setting: in which panel of the help it stands, what its value is called, what it is for, and, where no preset
    decides, what it is when nobody asks."""

    panel: str
    metavar: str
    help: str
    default: Any = None
    least: int | None = None


class Settings(TypedDict, total=False):
    """Every setting; None, as leaving it out, takes the preset's value or the default.

    `lr` is the learning rate of both networks, and `lr_d` D's where it differs. At most one of `steps`, `epochs` and
    `minutes` is given. Values out of their range raise `GanportError`.
    """

    data: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            DATA,
            "DATA",
            "digits, mnist, fashion-mnist, cifar10, celeba, or a folder: of images (any depth), or of idx files.",
            DEFAULT_DATA,
        ),
    ]
    root: Annotated[
        str | os.PathLike[str] | None,
        Setting(DATA, "FOLDER", "Look here first for data sets with a name."),
    ]
    size: Annotated[
        int | None, Setting(DATA, "PIXELS", f"Side of the images: {', '.join(map(str, SIZES))}.", "as the data are")
    ]
    channels: Annotated[int | None, Setting(DATA, "1|3", "1 for grey, 3 for RGB.", "as the data are")]
    task: Annotated[
        str | None,
        Setting(
            RECIPE,
            "generate|upscale",
            "What to train: a generator of new images, or one that enlarges images (presets upscale, upscale-gan).",
            "generate",
        ),
    ]
    scale: Annotated[int | None, Setting(RECIPE, "2|4", "How many times as large an upscaler makes images.", 2)]
    conditional: Annotated[
        bool | None,
        Setting(DATA, "", "Train G and D with the classes of the data, so that you can ask for a class later."),
    ]
    preset: Annotated[str | None, Setting(RECIPE, "NAME", "The recipe to start from, by its name.", "default")]
    arch: Annotated[
        str | None,
        Setting(RECIPE, "|".join(ARCHITECTURES), "The networks. The preset default takes resize for RGB images."),
    ]
    width: Annotated[int | None, Setting(RECIPE, "N", "ngf and ndf of DCGAN; 64 is the tutorials' width.")]
    z_dim: Annotated[int | None, Setting(RECIPE, "N", "Components of a latent.")]
    batch_size: Annotated[int | None, Setting(RECIPE, "N", "Images per step.")]
    lr: Annotated[float | None, Setting(RECIPE, "RATE", "Adam's learning rate, of both networks.")]
    lr_d: Annotated[float | None, Setting(RECIPE, "RATE", "Adam's learning rate of D, if it differs.")]
    n_critic: Annotated[int | None, Setting(RECIPE, "N", "Steps of D for one of G.")]
    penalty_weight: Annotated[
        float | None, Setting(RECIPE, "NUMBER", "Weight of the gradient penalty: λ of wgan-gp, γ of r3gan.")
    ]
    penalty_every: Annotated[
        int | None,
        Setting(
            RECIPE, "STEPS", "Compute the gradient penalty only every so many steps, with as many times the weight."
        ),
    ]
    init: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            RECIPE,
            "G.PT",
            "Start from the weights of an earlier run's g.pt, and of its discriminator if last.pt is next to it. "
            "The networks are that run's.",
        ),
    ]
    augment: Annotated[
        str | None,
        Setting(
            RECIPE,
            "none|auto|NAMES",
            "Augmentation of the images that D sees: flip, colour, translation, cutout, with commas. auto: "
            "translation, cutout, and colour for RGB. The preset default takes translation for RGB images.",
        ),
    ]
    ema: Annotated[bool | None, Setting(RECIPE, "", "Export an average of the weights, or the last ones.")]
    seed: Annotated[int | None, Setting(RECIPE, "N", "Of weights, latents and order.", 0)]
    steps: Annotated[int | None, Setting(LENGTH, "N", "Train this many batches in all.")]
    epochs: Annotated[int | None, Setting(LENGTH, "N", "Train this many passes over the data in all.")]
    minutes: Annotated[float | None, Setting(LENGTH, "N", "Train for this long in all.")]
    out: Annotated[
        str | os.PathLike[str] | None,
        Setting(RUN, "FOLDER", "The run's folder.", "runs/DATA-ARCHSIZE, a new one"),
    ]
    resume: Annotated[bool, Setting(RUN, "", "Continue the run in that folder, or the newest of its name.", False)]
    report_every: Annotated[int | None, Setting(RUN, "STEPS", "A line in log.jsonl, g.pt and last.pt this often.")]
    sample_every: Annotated[int | None, Setting(RUN, "STEPS", "A picture of the fixed latents this often.")]
    log: Annotated[
        str | None,
        Setting(
            RUN,
            "NAMES",
            "Losses and samples go to these, too: tensorboard (in FOLDER/tensorboard), wandb, mlflow, with commas.",
        ),
    ]
    device: Annotated[str, Setting(MACHINE, "auto|cpu|cuda[:N]", "Where to train.", "auto")]
    ngpu: Annotated[int, Setting(MACHINE, "N", "Share each batch among the first N CUDA devices.", 1, least=1)]
    threads: Annotated[int | None, Setting(MACHINE, "N", "CPU threads.", "torch's choice", least=1)]
    amp: Annotated[
        str,
        Setting(
            MACHINE,
            "auto|off|bf16",
            "Compute convolutions in bfloat16. auto: where it is faster in hardware; off for a tutorial's preset.",
            "auto",
        ),
    ]
    compile: Annotated[
        str, Setting(MACHINE, "auto|off|on", "Compile both networks with torch.compile. auto: off.", "auto")
    ]
    cuda_graphs: Annotated[bool, Setting(MACHINE, "", "On one CUDA device, launch each step as one graph.", True)]


@cache
def settings() -> Mapping[str, tuple[type, Setting]]:
    """Every setting by its name: the type of its values (bool, int, float or str; a path is str) and what it is."""
    found = {}
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kinds, setting = get_args(hint)
        first = next((kind for kind in get_args(kinds) if kind is not type(None)), kinds)
        found[name] = (first, setting)
    return found


def field_of(name: str) -> str | None:
    """The field of a `Recipe` that the setting `name` decides, if any."""
    if name == "lr":
        return "lr_g"
    return name if hasattr(DEFAULT, name) and name not in (*LIMITS, "init", "task") else None


def checked(values: Mapping[str, Any]) -> Settings:
    """`values` as settings, without those that are None.

    Raises `GanportError` for a name that is no setting, and for a value of another type or below its least.
    """
    for name, value in values.items():
        if name not in settings():
            near = difflib.get_close_matches(name.replace("-", "_"), settings(), n=1)
            hint = f"did you mean {near[0]}?" if near else f"settings: {', '.join(settings())}"
            raise GanportError(f"no setting is called {shown(name)}", hint=hint)
        kind, setting = settings()[name]
        if value is not None and not _fits(value, kind):
            words = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
            like = f"such as {setting.metavar}" if kind is str else "leave it out for the usual value"
            raise GanportError(f"`{name}` must be {words}, got {shown(value)}", hint=like)
        if value is not None and setting.least is not None and value < setting.least:
            raise GanportError(
                f"`{name}` must be at least {setting.least}, got {value}", hint="leave it out for the usual value"
            )
    return cast("Settings", {name: value for name, value in values.items() if value is not None})


def merged(below: Settings, above: Settings) -> Settings:
    """The settings `below` with those `above` in their place. How long to train, and the learning rates, are one choice
    each: any limit above takes the place of the one below, and `lr` that of both rates."""
    gone = set(LIMITS) if any(above.get(name) is not None for name in LIMITS) else set()
    if above.get("lr") is not None:
        gone.add("lr_d")
    kept = {name: value for name, value in below.items() if name not in gone}
    return cast("Settings", kept | {name: value for name, value in above.items() if value is not None})


def _fits(value: Any, kind: type) -> bool:
    if kind is str:
        return isinstance(value, (str, os.PathLike))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
