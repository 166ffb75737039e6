"""The options that say what a checkpoint is, shared by the commands; no torch here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, get_args

import typer

from gan_export.answers import OUTPUT_RANGES
from gan_serve.errors import GanportError
from gan_serve.latents import LATENT_LAWS, LatentLaw

Key = Annotated[str | None, typer.Option("--key", metavar="A.B.C", help="Where in the file the generator is.")]
Raw = Annotated[bool, typer.Option("--raw", help="Take the raw weights where there are averaged (EMA) ones too.")]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Load a pickle for real, RUNNING the code in it."),
]
SpecFile = Annotated[
    Path | None, typer.Option("--spec", metavar="FILE.json", help="The whole generator as a spec; inspect drafts one.")
]
Image = Annotated[
    str | None,
    typer.Option("--image", metavar="CxHxW", help="The images' size, such as 1x28x28."),
]
Latent = Annotated[str | None, typer.Option("--latent", metavar="LAW", help="normal, N(0, 1), or uniform, U(-1, 1).")]
Output = Annotated[
    str | None, typer.Option("--output-activation", metavar="NAME", help=f"At the end: {', '.join(OUTPUT_RANGES)}.")
]
ValueRange = Annotated[
    str | None,
    typer.Option("--value-range", metavar="LO,HI", help="The output's values of black and white: 0,1."),
]
Accept = Annotated[bool, typer.Option("--accept", help="Take the assumptions as they are drafted.")]


def parse_image(text: str | None) -> tuple[int, int, int] | None:
    """ "1x28x28" → (1, 28, 28); None stays. Raises `GanportError`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[x×,](\d+)[x×,](\d+)", text.strip())
    if not match:
        raise GanportError(f"--image must be CxHxW, got {text!r}", hint="such as 3x64x64")
    c, h, w = (int(number) for number in match.groups())
    if c not in (1, 3) or not (1 <= h <= 4096 and 1 <= w <= 4096):
        raise GanportError(
            f"--image must have 1 or 3 channels and sides of 1 to 4096, got {text}", hint="such as 3x64x64"
        )
    return c, h, w


def parse_latent(text: str | None) -> LatentLaw | None:
    """The name of a latent law; None stays. Raises `GanportError`."""
    for law in LATENT_LAWS:
        if text == law:
            return law
    if text is None:
        return None
    raise GanportError(f"--latent must be one of {', '.join(get_args(LatentLaw))}, got {text!r}")


def parse_output(text: str | None) -> str | None:
    """The name of an output activation; None stays. Raises `GanportError`."""
    if text is not None and text not in OUTPUT_RANGES:
        raise GanportError(f"--output-activation must be one of {', '.join(OUTPUT_RANGES)}, got {text!r}")
    return text


def parse_value_range(text: str | None) -> tuple[float, float] | None:
    """ "-1,1" → (-1.0, 1.0); None stays. Raises `GanportError`."""
    if text is None:
        return None
    try:
        black, white = (float(number) for number in text.split(","))
    except ValueError as error:
        raise GanportError(f"--value-range must be two numbers LO,HI, got {text!r}", hint="such as 0,1") from error
    if not (-1e6 < black < white < 1e6):
        raise GanportError(f"--value-range must be LO,HI with LO < HI, got {text!r}", hint="such as 0,1")
    return black, white
