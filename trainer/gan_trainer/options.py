"""The options of `gan-train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_trainer.networks.architectures import ARCHITECTURES, SIZES

Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="digits, mnist, fashion-mnist, cifar10, celeba, or a folder: of images (any depth), or of idx files. "
        "[default: digits]",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A recipe, see --list-presets. [default: default]", show_default=False),
]
ListPresets = Annotated[bool, typer.Option("--list-presets", help="Print the presets and exit.")]
Arch = Annotated[str | None, typer.Option(metavar="|".join(ARCHITECTURES), help="The networks.")]
Size = Annotated[int | None, typer.Option(metavar="PIXELS", help=f"Side of the images: {', '.join(map(str, SIZES))}.")]
Channels = Annotated[int | None, typer.Option(metavar="1|3", help="1 for grey, 3 for RGB.")]
Width = Annotated[int | None, typer.Option(metavar="N", help="ngf and ndf of DCGAN; 64 is the tutorials' width.")]
ZDim = Annotated[int | None, typer.Option(metavar="N", help="Components of a latent.")]
Conditional = Annotated[
    bool | None,
    typer.Option(
        "--conditional/--no-conditional",
        help="Train G and D on the classes of the data too: gan-gen --class then chooses one.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="The run's folder. [default: runs/DATA-ARCHSIZE, a new one]", show_default=False
    ),
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Train this many batches in all.")]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Train this many passes over the data in all.")]
Minutes = Annotated[float | None, typer.Option(metavar="N", help="Train for this long in all.")]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="Images per step.")]
Lr = Annotated[float | None, typer.Option(metavar="RATE", help="Adam's learning rate, of both networks.")]
LrD = Annotated[float | None, typer.Option(metavar="RATE", help="Adam's learning rate of D, where it differs.")]
NCritic = Annotated[int | None, typer.Option(metavar="N", help="Steps of D for one of G.")]
PenaltyWeight = Annotated[
    float | None, typer.Option(metavar="NUMBER", help="Weight of the gradient penalty: λ of wgan-gp, γ of r3gan.")
]
PenaltyEvery = Annotated[
    int | None, typer.Option(metavar="STEPS", help="The gradient penalty only this often, and as many times as heavy.")
]
Augment = Annotated[
    str | None,
    typer.Option(
        metavar="none|auto|NAMES",
        help="What D sees images through: flip, colour, translation, cutout, with commas. auto: translation, cutout, "
        "and colour for RGB.",
    ),
]
UseEma = Annotated[
    bool | None,
    typer.Option("--ema/--no-ema", help="Export an average of the weights, or the last ones.", show_default=False),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Of weights, latents and order. [default: 0]", show_default=False),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to train.")]
Ngpu = Annotated[int, typer.Option(metavar="N", min=1, help="Share each batch among the first N CUDA devices.")]
Amp = Annotated[
    str,
    typer.Option(
        metavar="auto|off|bf16",
        help="Compute convolutions in bfloat16. auto: on a GPU that has it in hardware; off for a tutorial's preset.",
    ),
]
Compile = Annotated[
    str, typer.Option("--compile", metavar="auto|off|on", help="Compile both networks with torch.compile. auto: off.")
]
CudaGraphs = Annotated[
    bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="On one CUDA device, launch each step as one graph.")
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads. [default: torch's choice]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out (or the newest of its name).")]
Root = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where the data sets known by name lie, looked up first.")
]
ReportEvery = Annotated[
    int | None, typer.Option(metavar="STEPS", help="A line in log.jsonl, g.pt and last.pt this often.")
]
SampleEvery = Annotated[int | None, typer.Option(metavar="STEPS", help="A picture of the fixed latents this often.")]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write losses and samples for TensorBoard too, to FOLDER/tensorboard.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one line of JSON.")]
