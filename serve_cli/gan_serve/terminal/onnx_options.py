"""The options that say what an ONNX file does not say of itself, of every command that takes one."""

from __future__ import annotations

from typing import Annotated, Any

from gan_serve.terminal.commands import in_panel

PANEL = "What the file does not say"
of_unsaid = in_panel(PANEL)

ValueRange = Annotated[
    str | None,
    of_unsaid("--value-range", metavar="LO,HI", help="The output's values of black and white: 0,1."),
]
Image = Annotated[
    str | None,
    of_unsaid("--image", metavar="CxHxW", help="The images' size, such as 1x28x28, of a flat output."),
]
Latent = Annotated[
    str | None,
    of_unsaid("--latent", metavar="NAME", help="Latent distribution: normal, N(0, 1), or uniform, U(-1, 1)."),
]
ZDim = Annotated[int | None, of_unsaid("--z-dim", metavar="N", min=1, help="Numbers in a latent.")]
Classes = Annotated[int | None, of_unsaid("--classes", metavar="N", min=1, help="Number of classes.")]
Inputs = Annotated[
    str | None,
    of_unsaid("--inputs", metavar="LIST", help="Which input is the latent, which the class: NAME=z,NAME=label."),
]
Constants = Annotated[
    list[str] | None,
    of_unsaid("--constant", metavar="NAME=NUMBER", help="Another input, one number for all: psi=0.7. Repeats."),
]
OutputKey = Annotated[str | None, of_unsaid("--output-key", metavar="NAME", help="Which output is the image.")]


def unsaid(
    value_range: ValueRange = None,
    image: Image = None,
    latent: Latent = None,
    z_dim: ZDim = None,
    n_classes: Classes = None,
    inputs: Inputs = None,
    constant: Constants = None,
    output_key: OutputKey = None,
) -> dict[str, Any]:
    """All of them, as `gan_serve.runtime.onnx_answers.parse_answers` takes them (`answered_by`)."""
    return locals()
