"""What people say of a generator on a command line, as values: sizes, ranges, latent distributions and inputs.

`OnnxAnswers` has all that they say of an ONNX file that does not say it itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.latents import LATENT_LAWS, LAW_WORDS, LatentLaw

UNSAID = "unsaid"
"""The code of an error that an answer would mend."""
ROLES = ("z", "label")
Inputs = tuple[tuple[str, str | None], ...]
"""(role, the input's name or None for by position), in order."""


def parse_image(text: str) -> tuple[int, int, int]:
    """ "1x28x28" → (1, 28, 28). Raises `GanportError`."""
    match = re.fullmatch(r"(\d+)[x×,](\d+)[x×,](\d+)", text.strip())
    if not match:
        raise GanportError(f"`image` must be CxHxW, got {text!r}", hint="such as 3x64x64")
    c, h, w = (int(number) for number in match.groups())
    if c not in IMAGE_CHANNELS or not (1 <= h <= 4096 and 1 <= w <= 4096):
        raise GanportError(
            f"`image` must have 1, 3 or 4 channels and sides of 1 to 4096, got {text}", hint="such as 3x64x64"
        )
    return c, h, w


def size_text(image: tuple[int, int, int]) -> str:
    """(C, H, W) as `parse_image` reads it: "1x28x28"."""
    return "x".join(map(str, image))


def parse_latent(text: str) -> LatentLaw:
    """The latent distribution of that name. Raises `GanportError`."""
    for law in LATENT_LAWS:
        if text == law:
            return law
    raise GanportError(
        f"`latent` must be one of {', '.join(LATENT_LAWS)}, got {text!r}",
        hint=", ".join(f"{name} is {words}" for name, words in LAW_WORDS.items()),
    )


def parse_value_range(text: str) -> tuple[float, float]:
    """ "-1,1" → (-1.0, 1.0). Raises `GanportError`."""
    try:
        black, white = (float(number) for number in text.split(","))
    except ValueError as error:
        raise GanportError(f"`value_range` must be two numbers LO,HI, got {text!r}", hint="such as 0,1") from error
    if not (-1e6 < black < white < 1e6):
        raise GanportError(f"`value_range` must be LO,HI with LO < HI, got {text!r}", hint="such as 0,1")
    return black, white


def parse_inputs(text: str, is_name: Callable[[str], bool] = str.isidentifier) -> Inputs:
    """ "z,label" → (("z", None), ("label", None)); "noise=z" → (("z", "noise"),). Raises `GanportError`.

    is_name  whether a text can be an input's name
    """
    found: list[tuple[str, str | None]] = []
    for part in text.split(","):
        name, equals, role = part.strip().rpartition("=")
        if role not in ROLES or (equals and not is_name(name)):
            raise GanportError(
                f"`inputs` must list z and label, got {text!r}", hint="such as z,label or noise=z,y=label"
            )
        if not equals and any(named for _, named in found):
            raise GanportError(
                f"`inputs` has {role!r} by position after one by name: {text!r}", hint="name both, or none"
            )
        found.append((role, name if equals else None))
    roles = [role for role, _ in found]
    if roles.count("z") != 1 or roles.count("label") > 1:
        raise GanportError(f"`inputs` must have one z and at most one label, got {text!r}", hint="such as z,label")
    return tuple(found)


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
