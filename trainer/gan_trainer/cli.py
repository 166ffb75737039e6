"""The command `gan-train`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_serve import console
from gan_serve.console import EXIT_INTERRUPTED
from gan_serve.cores import rest_idle_threads
from gan_serve.errors import GanportError, MissingPackageError
from gan_serve.latents import SEED_LIMIT
from gan_trainer.cli_eval import eval_command
from gan_trainer.cli_report import report_command
from gan_trainer.config import chosen_limit, limit_of
from gan_trainer.launch import launched, read_launch, run_job
from gan_trainer.memory import keep_freed_memory
from gan_trainer.networks import ARCHITECTURES, SIZES
from gan_trainer.presets import PRESETS

if TYPE_CHECKING:
    from gan_trainer.loop import Outcome
    from gan_trainer.rundir import RunDir

NAME = "gan-train"

app = console.new_app("")

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


@app.callback(invoke_without_command=True)
def train(
    ctx: typer.Context,
    data: Data = None,
    preset: Preset = None,
    list_presets: ListPresets = False,
    arch: Arch = None,
    size: Size = None,
    channels: Channels = None,
    width: Width = None,
    z_dim: ZDim = None,
    conditional: Conditional = None,
    out: Out = None,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    lr: Lr = None,
    lr_d: LrD = None,
    n_critic: NCritic = None,
    penalty_weight: PenaltyWeight = None,
    penalty_every: PenaltyEvery = None,
    augment: Augment = None,
    ema: UseEma = None,
    seed: Seed = None,
    device: Device = "auto",
    ngpu: Ngpu = 1,
    amp: Amp = "auto",
    compiled: Compile = "auto",
    cuda_graphs: CudaGraphs = True,
    threads: Threads = None,
    resume: Resume = False,
    root: Root = None,
    report_every: ReportEvery = None,
    sample_every: SampleEvery = None,
    tensorboard: Tensorboard = False,
    as_json: AsJson = False,
) -> int:
    """Train a GAN on images; the generator to export is FOLDER/g.pt.

    A preset sets everything; any option beside it overrides its part. Prints the path of g.pt; losses and progress
    go to stderr. The folder also gets the log, sample pictures, loss curves and an animation. Ctrl-C saves, --resume
    goes on.

    \b
    Examples:
      gan-train                                               handwritten digits, no download
      gan-train --data fashion-mnist --size 32 --minutes 10
      gan-train --data photos/ --preset dcgan64 --out runs/photos
      gan-train --resume --out runs/photos --epochs 20
      gan-train eval --ckpt runs/photos/g.pt
      gan-train report runs/photos
    """
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return 0
    if list_presets:
        print(presets_table())
        return 0
    limit = chosen_limit(steps, epochs, minutes)
    if seed is not None and not 0 <= seed < SEED_LIMIT:
        raise GanportError(f"--seed must lie in 0 … 2**53 - 1, got {seed}", hint="any whole number from 0 will do")
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("torch", "train", "gan-train") from error
    from gan_trainer import session
    from gan_trainer.devices import resolve
    from gan_trainer.distributed import join

    launch = read_launch()
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    request = session.Request(
        data=data, preset=preset, arch=arch, size=size, channels=channels, width=width, z_dim=z_dim,
        conditional=conditional, batch_size=batch_size, lr=lr, lr_d=lr_d, n_critic=n_critic,
        penalty_weight=penalty_weight, penalty_every=penalty_every, augment=augment, ema=ema,
        seed=seed, limit=limit,
        report_every=report_every, sample_every=sample_every, out=out, resume=resume, root=root,
        device=device, ngpu=ngpu, amp=amp, tensorboard=tensorboard,
        compiled=compiled, cuda_graphs=cuda_graphs,
    )  # fmt: skip
    with join(launch, resolve(device, ngpu, None if launch is None else launch.local_rank)) as peers:
        run, outcome = session.train(request, peers=peers)
        # Inside: torchrun ends all processes as soon as one has ended with an exit code.
        return print_outcome(run, outcome, as_json)


def print_outcome(run: RunDir, outcome: Outcome, as_json: bool) -> int:
    """Says how a training ended. Returns the exit code."""
    if outcome.interrupted:
        console.note(f"interrupted at step {outcome.step}, saved")
        console.note(f"hint: go on with {NAME} --resume --out {shlex.quote(str(run.path))}")
        return EXIT_INTERRUPTED
    if as_json:
        print(
            json.dumps(
                {
                    "checkpoint": str(run.generator),
                    "run": str(run.path),
                    "step": outcome.step,
                    "images": outcome.images,
                    "minutes": round(outcome.minutes, 3),
                    **outcome.numbers,
                }
            )
        )
    else:
        print(run.generator)
    return 0


app.command("eval")(eval_command)
app.command("report")(report_command)


def refuse_options(ctx: typer.Context) -> None:
    """Raises `GanportError` for an option of training that stands before a subcommand, which would not see it."""
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.removeprefix('as_').replace('_', '-')}"
            raise GanportError(
                f"{option} before {ctx.invoked_subcommand} is an option of training",
                hint=f"options of {ctx.invoked_subcommand} come after it: {NAME} {ctx.invoked_subcommand} --help",
            )


def presets_table() -> str:
    """The presets, one a row."""
    rows = []
    for name, (recipe, text) in PRESETS.items():
        colour = {None: "", 1: " grey", 3: " RGB"}[recipe.channels]
        rows.append(
            (
                name,
                f"{recipe.arch} {recipe.size or 'any size'}{colour}",
                str(recipe.batch_size),
                f"{recipe.lr_g:g}",
                str(limit_of(recipe)),
                text,
            )
        )
    return console.table(("preset", "network", "batch", "lr", "trains for", "what"), rows, right=(2,))


def main() -> None:
    """The entry point."""
    rest_idle_threads()
    if launched():
        run_job(app, NAME)
    console.run(app, NAME)


if __name__ == "__main__":  # torchrun -m gan_trainer.cli
    main()
