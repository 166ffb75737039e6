"""What the user says of a checkpoint that does not say it itself, and how an ONNX file is to be made. No torch here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.errors import GanportError
from gan_core.latents import LatentLaw
from gan_core.said import Inputs

OUTPUT_RANGES: dict[str, tuple[float, float]] = {
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "identity": (-1.0, 1.0),
}
"""Output activations that can be asked for, and the values of (black, white) that each goes with."""

HIDDEN = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity")
SLOPED = {"leaky_relu": 0.2, "elu": 1.0}
"""The activations with a slope, and what it is where none is given."""

_PARAMETERS = {"output": "output_activation", "n_classes": "classes"}
_OF_DRAFTS = ("spec", "accept", "activation", "discriminator", "source", "like", "image_stats", "pick")

NOISES = ("zero", "fixed")
"""What numbers that a module draws in its forward can be replaced by."""
MIN_OPSET, MAX_OPSET = 18, 23
DEFAULT_OPSET = 18
"""The exporter writes 18 without converting; every onnxruntime since 1.14, and onnxruntime-web, runs it."""

MODES = ("auto", "tune", "none")
PRECISIONS = ("fp32", "fp16", "int8")
STORES = ("fp32", "fp16")


@dataclass(frozen=True)
class LiveAnswers:
    """What the user says of a generator that comes as code. None: not said, found by looking and trying.

    module         "path/to/file.py:Name" or "package.module:Name"; Name is a class, a factory or an instance
    args           what Name is called with: an object's fields by name, a list's by position
    constants      (parameter, text) of forward parameters that are neither latent nor label; see `live.adapter`
    inputs         forward's inputs, of the roles "z" and "label"
    z_dim          components of a latent
    z_shape        the shape in which forward takes one latent: "D", "Dx1x1", "[D]" (in a list), "14x512"
    n_classes      number of classes
    output_index   which element of the tuple or list that forward returns
    output_key     which key or attribute of what forward returns
    noise          one of `NOISES`, for a module that draws numbers in its forward
    """

    module: str
    args: dict[str, Any] | list[Any] | None = None
    constants: tuple[tuple[str, str], ...] = ()
    inputs: Inputs | None = None
    z_dim: int | None = None
    z_shape: str | None = None
    n_classes: int | None = None
    output_index: int | None = None
    output_key: str | None = None
    noise: str | None = None


@dataclass(frozen=True)
class Answers:
    """What the user says of a checkpoint that does not say it itself. None and False: not said.

    key, raw, trust_pickle   see `gan_export.reading.read_checkpoint`
    spec                     a JSON file of the whole `GeneratorSpec`
    image                    (C, H, W) of the images
    latent                   the latent distribution
    output                   the output activation, one of `OUTPUT_RANGES`
    value_range              the output values of (black, white)
    activation               every hidden activation that the file does not show: {"name": …, "slope": …}
    z_dim                    components of a latent; what the first layer takes beyond them is a one-hot label
    n_classes                classes of a one-hot label
    discriminator            the file of the discriminator that the generator was trained beside
    source                   the author's .py or .ipynb file, which is read and not run
    like                     real images of the kind it was trained on; see `gan_export.reading.likes`
    recompute_stats          compute the running statistics of BatchNorms again; False keeps the file's
    stats_latents            from how many latents
    image_stats              BatchNorms normalise each image by its own statistics; False: by the file's
    pick                     the row of the sheet of candidates that is right, from 1
    accept                   take the draft's assumptions as they are
    live                     the generator comes as code
    """

    key: str | None = None
    raw: bool = False
    trust_pickle: bool = False
    spec: Path | None = None
    image: tuple[int, int, int] | None = None
    latent: LatentLaw | None = None
    output: str | None = None
    value_range: tuple[float, float] | None = None
    activation: dict[str, Any] | None = None
    z_dim: int | None = None
    n_classes: int | None = None
    discriminator: Path | None = None
    source: Path | None = None
    like: str | None = None
    recompute_stats: bool | None = None
    stats_latents: int | None = None
    image_stats: bool | None = None
    pick: int | None = None
    accept: bool = False
    live: LiveAnswers | None = None


def given_of(answers: Answers) -> list[str]:
    """The parameters that were given, by the names that users know them by."""
    default = Answers()
    fields = [field.name for field in dataclasses.fields(answers)]
    return [parameter_of(name) for name in fields if getattr(answers, name) != getattr(default, name)]


def misplaced(answers: Answers) -> str | None:
    """The first parameter that was given and has no place where the generator comes as code; None for none."""
    given = given_of(answers)
    return next((name for name in _OF_DRAFTS if name in given), None)


def parameter_of(field: str) -> str:
    """The name that users know a field of `Answers` by."""
    return _PARAMETERS.get(field, field)


def parse_output(text: str) -> str:
    """The name of an output activation. Raises `GanportError`."""
    if text not in OUTPUT_RANGES:
        raise GanportError(
            f"`output_activation` must be one of {', '.join(OUTPUT_RANGES)}, got {text!r}",
            hint="identity for none; `value_range` says which values are black and white",
        )
    return text


def parse_activation(text: str) -> dict[str, object]:
    """ "leaky_relu:0.2" → {"name": "leaky_relu", "slope": 0.2}. Raises `GanportError`."""
    name, colon, slope = text.strip().partition(":")
    hint = f"one of {', '.join(HIDDEN)}; a slope after a colon, as in leaky_relu:0.2"
    if name not in HIDDEN:
        raise GanportError(f"`activation` knows no {name!r}", hint=hint)
    try:
        value = float(slope) if colon else SLOPED.get(name)
    except ValueError as error:
        raise GanportError(f"`activation` has the slope {slope!r}, expected a number", hint=hint) from error
    if colon and (name not in SLOPED or not 0.0 <= (value or 0.0) < 10.0):
        raise GanportError(f"`activation` {name} takes no slope {slope}", hint=hint)
    return {"name": name, "slope": value}


@dataclass(frozen=True)
class OnnxOptions:
    """Checked when made: raises `GanportError` for a value or a combination that is not offered.

    optimize   "auto" and "tune" rewrite the graph (`gan_export.onnx_export`), "none" keeps the exporter's
    precision  "fp32", "fp16" or "int8": where the graph computes
    store      "fp32", or "fp16": what computes in float32 has its weights saved as float16
    """

    opset: int = DEFAULT_OPSET
    optimize: str = "auto"
    precision: str = "fp32"
    store: str = "fp32"

    def __post_init__(self) -> None:
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise GanportError(
                f"`opset` must be {MIN_OPSET} to {MAX_OPSET}, got {self.opset}",
                hint=f"leave it out for {DEFAULT_OPSET}, which every current runtime reads",
            )
        for name, values in (("optimize", MODES), ("precision", PRECISIONS), ("store", STORES)):
            given = getattr(self, name)
            if given not in values:
                raise GanportError(f"`{name}` must be one of {', '.join(values)}, got {given!r}", hint=_hint(given))
        if self.precision == "int8" and self.optimize != "auto":
            raise GanportError(
                f'`optimize="{self.optimize}"` has no place beside `precision="int8"`, which needs a form of its own',
                hint="leave out `optimize`",
            )

    @property
    def tag(self) -> str:
        """What a file of these options has in its name by default: ".int8", ".w16" …, nothing for fp32."""
        return (f".{self.precision}" if self.precision != "fp32" else "") + (".w16" if self.store == "fp16" else "")


def _hint(given: str) -> str:
    for name, values in (("precision", PRECISIONS), ("optimize", MODES)):
        for value in values:
            if given.lower().replace("float", "fp").replace("-", "").replace("uint8", "int8") == value:
                return f'`{name}="{value}"`'
    return "docs/precision.md says what each is for"
