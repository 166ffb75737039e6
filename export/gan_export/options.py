"""The options that say what a checkpoint is and how a file is made, shared by the commands; no torch here.

`checkpoint_answers` and `export_answers` are the commands' options and what is made of them (`answered_by`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

from gan_core.errors import GanportError
from gan_core.said import parse_image, parse_inputs, parse_latent, parse_value_range
from gan_export.answers import (
    NOISES,
    OUTPUT_RANGES,
    Answers,
    LiveAnswers,
    misplaced,
    parse_activation,
    parse_output,
)
from gan_serve.terminal.commands import Latent, ValueRange, ZDim, answered_by, in_panel, of_unsaid

CHECKPOINT, EVIDENCE, CODE = "The checkpoint", "Evidence and choices", "The generator as code"
MADE = "The exported file"
"""Panels of the help pages, beside that of what a file does not say."""
of_file, of_evidence, of_code, of_made = map(in_panel, (CHECKPOINT, EVIDENCE, CODE, MADE))


def checkpoint_answers(
    key: Annotated[str | None, of_file("--key", metavar="A.B.C", help="Where in the file the generator is.")] = None,
    raw: Annotated[bool, of_file("--raw", help="Take the raw weights, even if there are averaged (EMA) ones.")] = False,
    trust_pickle: Annotated[
        bool, of_file("--trust-pickle", help="Load a pickle in the usual way, which RUNS the code in it.")
    ] = False,
    spec: Annotated[
        Path | None, of_file("--spec", metavar="FILE.json", help="The whole generator as a spec; inspect drafts one.")
    ] = None,
    image: Annotated[
        str | None, of_unsaid("--image", metavar="CxHxW", help="The images' size, such as 1x28x28.")
    ] = None,
    latent: Latent = None,
    output_activation: Annotated[
        str | None, of_unsaid("--output-activation", metavar="NAME", help=f"At the end: {', '.join(OUTPUT_RANGES)}.")
    ] = None,
    value_range: ValueRange = None,
    activation: Annotated[
        str | None,
        of_unsaid("--activation", metavar="NAME", help="Between the layers: relu, leaky_relu:0.2, elu, gelu, tanh …"),
    ] = None,
    z_dim: ZDim = None,
    classes: Annotated[
        int | None, of_unsaid("--classes", metavar="N", min=0, help="Number of classes; 0 for none.")
    ] = None,
    discriminator: Annotated[
        Path | None,
        of_evidence(
            "--discriminator", metavar="FILE", help="The discriminator of its training. [default: one next to it]"
        ),
    ] = None,
    source: Annotated[
        Path | None,
        of_evidence(
            "--source", metavar="FILE", help="The author's .py or .ipynb, read but not run. [default: those next to it]"
        ),
    ] = None,
    like: Annotated[
        str | None,
        of_evidence(
            metavar="IMAGES", help="Images like its training images: a folder, a file, mnist, fashion-mnist, digits."
        ),
    ] = None,
    recompute_stats: Annotated[
        bool | None,
        of_evidence(
            "--recompute-stats/--no-recompute-stats",
            help="Compute the BatchNorms' running statistics again, for an author who never called eval().",
        ),
    ] = None,
    stats_latents: Annotated[
        int | None,
        of_evidence(
            metavar="N", min=16, help="From how many latents. [default: 4096 for images up to 32x32, then fewer]"
        ),
    ] = None,
    image_stats: Annotated[
        bool | None,
        of_evidence(
            "--image-stats/--no-image-stats",
            help="Of a network that takes images: BatchNorms use each image's own statistics, or the file's.",
        ),
    ] = None,
    pick: Annotated[
        int | None, of_evidence("--pick", metavar="N", min=1, help="Take row N of the sheet of candidates.")
    ] = None,
) -> Answers:
    """The options that say what a checkpoint is, checked. Raises `GanportError`."""
    if stats_latents is not None and not recompute_stats:
        raise GanportError("--stats-latents has no place without --recompute-stats", hint="add --recompute-stats")
    return Answers(
        key=key,
        raw=raw,
        trust_pickle=trust_pickle,
        spec=spec,
        image=None if image is None else parse_image(image),
        latent=None if latent is None else parse_latent(latent),
        output=None if output_activation is None else parse_output(output_activation),
        value_range=None if value_range is None else parse_value_range(value_range),
        activation=None if activation is None else parse_activation(activation),
        z_dim=z_dim,
        n_classes=classes,
        discriminator=discriminator,
        source=source,
        like=like,
        recompute_stats=recompute_stats,
        stats_latents=stats_latents,
        image_stats=image_stats,
        pick=pick,
    )


@answered_by(checkpoint_answers)
def export_answers(
    answers: Answers = Answers(),
    accept: Annotated[bool, of_evidence("--accept", help="Accept the assumptions of the draft.")] = False,
    module: Annotated[
        str | None,
        of_code(
            "--module",
            metavar="CODE[:NAME]",
            help="The generator as code, RUN: file.py[:Class], .ipynb or pkg.mod:factory.",
        ),
    ] = None,
    args: Annotated[
        str | None, of_code("--args", metavar="JSON", help="What NAME is called with: '{\"nz\": 100}' or [100].")
    ] = None,
    z_shape: Annotated[
        str | None, of_code("--z-shape", metavar="SHAPE", help="A latent as forward takes it: D, Dx1x1, [D], 14x512.")
    ] = None,
    inputs: Annotated[
        str | None, of_code("--inputs", metavar="LIST", help="Forward's inputs: z,label or NAME=z,NAME=label.")
    ] = None,
    constant: Annotated[
        list[str] | None,
        of_code("--constant", metavar="NAME=VALUE", help="Fix another input: noise=0, psi=0.7, c=zeros(N,4). Repeats."),
    ] = None,
    output_index: Annotated[
        int | None, of_code("--output-index", metavar="N", min=0, help="Which of forward's outputs, from 0.")
    ] = None,
    output_key: Annotated[
        str | None, of_code("--output-key", metavar="KEY", help="Which key or attribute of forward's output.")
    ] = None,
    noise: Annotated[
        str | None,
        of_code(
            "--noise",
            metavar="zero|fixed",
            help="For random numbers in forward: their mean, or the same for all images.",
        ),
    ] = None,
) -> Answers:
    """Those of `checkpoint_answers`, and those of a generator that comes as code."""
    called = {
        "--args": args,
        "--z-shape": z_shape,
        "--inputs": inputs,
        "--constant": constant or None,
        "--output-index": output_index,
        "--output-key": output_key,
        "--noise": noise,
    }
    if module is None:
        for option, value in called.items():
            if value is not None:
                raise GanportError(f"{option} has no place without --module", hint="--module networks.py:Generator")
        return dataclasses.replace(answers, accept=accept)
    if (name := misplaced(dataclasses.replace(answers, accept=accept))) is not None:
        raise GanportError(f"--{name} has no place beside --module: code needs no draft", hint=f"leave out --{name}")
    if output_index is not None and output_key is not None:
        raise GanportError(
            "--output-index and --output-key name two outputs, expected one", hint="leave out one of them"
        )
    if noise is not None and noise not in NOISES:
        raise GanportError(
            f"--noise must be one of {', '.join(NOISES)}, got {noise!r}",
            hint="zero puts the mean there, fixed the same numbers for every image",
        )
    live = LiveAnswers(
        module=module,
        args=None if args is None else parse_args(args),
        constants=parse_constants(constant or []),
        inputs=None if inputs is None else parse_inputs(inputs),
        z_dim=answers.z_dim,
        z_shape=z_shape,
        n_classes=answers.n_classes,
        output_index=output_index,
        output_key=output_key,
        noise=noise,
    )
    return dataclasses.replace(answers, live=live)


def parse_args(text: str) -> dict[str, object] | list[object]:
    """A JSON object or list. Raises `GanportError`."""
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
