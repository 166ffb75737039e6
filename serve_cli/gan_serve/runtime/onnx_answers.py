"""What the user says of an ONNX file that does not say it itself, as values and as a command's options have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gan_core.errors import GanportError
from gan_core.latents import LatentLaw
from gan_core.said import Inputs, parse_image, parse_inputs, parse_latent, parse_value_range, size_text

UNSAID = "unsaid"
"""The code of an error that an answer would mend."""


@dataclass(frozen=True)
class OnnxAnswers:
    """What the user says of an ONNX file that does not say it itself. None: not said.

    value_range  the output's values of (black, white)
    image        (C, H, W) of the images
    latent       the latent distribution
    z_dim        components of a latent
    n_classes    number of classes
    inputs       which input is the latent and which the class, by name or by position
    constants    (input, number) of every other input
    output_key   the name of the output that is the image
    """

    value_range: tuple[float, float] | None = None
    image: tuple[int, int, int] | None = None
    latent: LatentLaw | None = None
    z_dim: int | None = None
    n_classes: int | None = None
    inputs: Inputs | None = None
    constants: tuple[tuple[str, float], ...] = ()
    output_key: str | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was said, one sentence each, but for names."""
        said = {
            "values in": self.value_range and "[{:g}, {:g}]".format(*self.value_range),
            "images of": self.image and size_text(self.image),
            "latent distribution": self.latent,
            "classes": self.n_classes,
        }
        return tuple(f"{what} {value}" for what, value in said.items() if value) + tuple(
            f"{name} is {value:g}" for name, value in self.constants
        )


def parse_answers(
    *,
    value_range: str | None,
    image: str | None,
    latent: str | None,
    z_dim: int | None,
    n_classes: int | None,
    inputs: str | None,
    constant: Sequence[str] | None,
    output_key: str | None,
) -> OnnxAnswers:
    """The answers of a command's options. Raises `GanportError` for what is none."""
    return OnnxAnswers(
        None if value_range is None else parse_value_range(value_range),
        None if image is None else parse_image(image),
        None if latent is None else parse_latent(latent),
        z_dim,
        n_classes,
        None if inputs is None else parse_inputs(inputs, bool),
        tuple(map(_parse_constant, constant or ())),
        output_key,
    )


def _parse_constant(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        if name:
            return name, float(number)
    except ValueError:
        pass
    raise GanportError(f"`constant` must be NAME=NUMBER, got {text!r}", hint="such as psi=0.7")


def check_unsaid(answers: OnnxAnswers, where: str) -> None:
    """Raises `GanportError` for answers about a file that says all of it itself."""
    for name, value in vars(answers).items():
        if value not in (None, ()):
            option = {"constants": "constant"}.get(name, name)
            raise GanportError(f"{where} says what it is, so `{option}` has no place", hint="leave it out")
