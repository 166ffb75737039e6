"""The options of a generator that comes as code (`--module`); no torch here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gan_core.errors import GanportError
from gan_export.answers import NOISES, LiveAnswers

ROLES = ("z", "label")

Module = Annotated[
    str | None,
    typer.Option("--module", metavar="CODE:NAME", help="The generator as code, RUN: file.py:Class or pkg.mod:factory."),
]
Args = Annotated[
    str | None, typer.Option("--args", metavar="JSON", help="What NAME is called with: '{\"nz\": 100}' or [100].")
]
ZDim = Annotated[int | None, typer.Option("--z-dim", metavar="N", min=1, help="Numbers in a latent.")]
ZShape = Annotated[
    str | None, typer.Option("--z-shape", metavar="SHAPE", help="A latent as forward takes it: D, Dx1x1, [D], 14x512.")
]
Inputs = Annotated[
    str | None, typer.Option("--inputs", metavar="LIST", help="Forward's inputs: z,label or NAME=z,NAME=label.")
]
Classes = Annotated[int | None, typer.Option("--classes", metavar="N", min=0, help="Number of classes; 0 for none.")]
Constants = Annotated[
    list[str] | None,
    typer.Option(
        "--constant", metavar="NAME=VALUE", help="Fix another input: noise=0, psi=0.7, c=zeros(N,4). Repeats."
    ),
]
OutputIndex = Annotated[
    int | None, typer.Option("--output-index", metavar="N", min=0, help="Which of forward's outputs, from 0.")
]
OutputKey = Annotated[
    str | None, typer.Option("--output-key", metavar="KEY", help="Which key or attribute of forward's output.")
]
Noise = Annotated[
    str | None,
    typer.Option(
        "--noise", metavar="zero|fixed", help="For numbers that forward draws: their mean, or one draw for all."
    ),
]


def parse_live(
    module: str | None,
    args: str | None,
    z_dim: int | None,
    z_shape: str | None,
    inputs: str | None,
    classes: int | None,
    constants: list[str] | None,
    output_index: int | None,
    output_key: str | None,
    noise: str | None,
) -> LiveAnswers | None:
    """The options above, checked; None without `--module`. Raises `GanportError`."""
    if module is None:
        given = {
            "--args": args,
            "--z-dim": z_dim,
            "--z-shape": z_shape,
            "--inputs": inputs,
            "--classes": classes,
            "--constant": constants or None,
            "--output-index": output_index,
            "--output-key": output_key,
            "--noise": noise,
        }
        for option, value in given.items():
            if value is not None:
                raise GanportError(f"{option} has no place without --module", hint="--module networks.py:Generator")
        return None
    if output_index is not None and output_key is not None:
        raise GanportError(
            "--output-index and --output-key name two outputs, expected one", hint="leave out one of them"
        )
    if noise is not None and noise not in NOISES:
        raise GanportError(
            f"--noise must be one of {', '.join(NOISES)}, got {noise!r}",
            hint="zero puts the mean there, fixed one draw for every image",
        )
    return LiveAnswers(
        module=module,
        args=parse_args(args),
        constants=parse_constants(constants or []),
        inputs=None if inputs is None else parse_inputs(inputs),
        z_dim=z_dim,
        z_shape=z_shape,
        n_classes=classes,
        output_index=output_index,
        output_key=output_key,
        noise=noise,
    )


def parse_args(text: str | None) -> dict[str, object] | list[object] | None:
    """`--args`: a JSON object or list; None stays. Raises `GanportError`."""
    if text is None:
        return None
    hint = "--args '{\"nz\": 100, \"ngf\": 64}' by name, or --args '[100, 64]' by position"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise GanportError(f"--args is not JSON: {error}", hint=hint) from error
    if not isinstance(value, (dict, list)):
        raise GanportError(f"--args must be an object or a list, got {text}", hint=hint)
    return value


def parse_constants(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """ "noise=0" → ("noise", "0"). Raises `GanportError`, also for a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise GanportError(f"--constant must be NAME=VALUE, got {text!r}", hint="such as --constant noise=0")
        if name.strip() in found:
            raise GanportError(f"--constant {name.strip()} is given twice", hint="leave out one of them")
        found[name.strip()] = value.strip()
    return tuple(found.items())


def parse_inputs(text: str) -> tuple[tuple[str, str | None], ...]:
    """ "z,label" → (("z", None), ("label", None)); "noise=z" → (("z", "noise"),). Raises `GanportError`."""
    found: list[tuple[str, str | None]] = []
    for part in text.split(","):
        name, equals, role = part.strip().rpartition("=")
        if role not in ROLES or (equals and not name.isidentifier()):
            raise GanportError(
                f"--inputs must list z and label, got {text!r}", hint="such as z,label or noise=z,y=label"
            )
        if not equals and any(named for _, named in found):
            raise GanportError(
                f"--inputs has {role!r} by position after one by name: {text!r}", hint="name both, or none"
            )
        found.append((role, name if equals else None))
    roles = [role for role, _ in found]
    if roles.count("z") != 1 or roles.count("label") > 1:
        raise GanportError(f"--inputs must have one z and at most one label, got {text!r}", hint="such as z,label")
    return tuple(found)
