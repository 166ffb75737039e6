"""The options that say what an ONNX file does not say of itself, of every command that takes one."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "What the file does not say"

ValueRange = Annotated[
    str | None,
    typer.Option(
        "--value-range", metavar="LO,HI", help="The output's values of black and white: 0,1.", rich_help_panel=PANEL
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="CxHxW", help="The images' size, such as 1x28x28, of a flat output.", rich_help_panel=PANEL
    ),
]
Latent = Annotated[
    str | None,
    typer.Option(
        "--latent",
        metavar="NAME",
        help="Latent distribution: normal, N(0, 1), or uniform, U(-1, 1).",
        rich_help_panel=PANEL,
    ),
]
ZDim = Annotated[
    int | None, typer.Option("--z-dim", metavar="N", min=1, help="Numbers in a latent.", rich_help_panel=PANEL)
]
Classes = Annotated[
    int | None, typer.Option("--classes", metavar="N", min=1, help="Number of classes.", rich_help_panel=PANEL)
]
Inputs = Annotated[
    str | None,
    typer.Option(
        "--inputs",
        metavar="LIST",
        help="Which input is the latent, which the class: NAME=z,NAME=label.",
        rich_help_panel=PANEL,
    ),
]
Constants = Annotated[
    list[str] | None,
    typer.Option(
        "--constant",
        metavar="NAME=NUMBER",
        help="Another input, one number for all: psi=0.7. Repeats.",
        rich_help_panel=PANEL,
    ),
]
OutputKey = Annotated[
    str | None, typer.Option("--output-key", metavar="NAME", help="Which output is the image.", rich_help_panel=PANEL)
]
