"""The command `gan-train`: training. `eval` and `report` are in `gan_trainer.cli_eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_core.errors import GanportError, MissingPackageError
from gan_core.latents import SEED_LIMIT
from gan_core.printable import shell_line
from gan_core.process import keep_freed_memory, rest_idle_threads
from gan_serve.terminal import console
from gan_serve.terminal.console import EXIT_INTERRUPTED
from gan_trainer.cli_eval import eval_command, report_command
from gan_trainer.config import Limit, TrainRequest
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES
from gan_trainer.presets import PRESETS
from gan_trainer.terminal import Bar, launched, run_job

if TYPE_CHECKING:
    from gan_trainer.loop import Outcome
    from gan_trainer.rundir import RunDir

NAME = "gan-train"

app = console.new_app()


@app.callback(invoke_without_command=True)
def train(
    ctx: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="digits, mnist, fashion-mnist, cifar10, celeba, or a folder: of images (any depth), or of idx files. "
            "[default: digits]",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A recipe, see --list-presets. [default: default]", show_default=False),
    ] = None,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="Print the presets and exit.")] = False,
    arch: Annotated[str | None, typer.Option(metavar="|".join(ARCHITECTURES), help="The networks.")] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help=f"Side of the images: {', '.join(map(str, SIZES))}.")
    ] = None,
    channels: Annotated[int | None, typer.Option(metavar="1|3", help="1 for grey, 3 for RGB.")] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", help="ngf and ndf of DCGAN; 64 is the tutorials' width.")
    ] = None,
    z_dim: Annotated[int | None, typer.Option(metavar="N", help="Components of a latent.")] = None,
    conditional: Annotated[
        bool | None,
        typer.Option(
            "--conditional/--no-conditional",
            help="Train G and D on the classes of the data too: gan-gen --class then chooses one.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The run's folder. [default: runs/DATA-ARCHSIZE, a new one]", show_default=False
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Train this many batches in all.")] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Train this many passes over the data in all.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(metavar="N", help="Train for this long in all.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Adam's learning rate, of both networks.")] = None,
    lr_d: Annotated[
        float | None, typer.Option(metavar="RATE", help="Adam's learning rate of D, where it differs.")
    ] = None,
    n_critic: Annotated[int | None, typer.Option(metavar="N", help="Steps of D for one of G.")] = None,
    penalty_weight: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Weight of the gradient penalty: λ of wgan-gp, γ of r3gan.")
    ] = None,
    penalty_every: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="The gradient penalty only this often, and as many times as heavy."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="none|auto|NAMES",
            help="What D sees images through: flip, colour, translation, cutout, with commas. auto: translation, "
            "cutout, and colour for RGB.",
        ),
    ] = None,
    ema: Annotated[
        bool | None,
        typer.Option("--ema/--no-ema", help="Export an average of the weights, or the last ones.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of weights, latents and order. [default: 0]", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to train.")] = "auto",
    ngpu: Annotated[int, typer.Option(metavar="N", min=1, help="Share each batch among the first N CUDA devices.")] = 1,
    amp: Annotated[
        str,
        typer.Option(
            metavar="auto|off|bf16",
            help="Compute convolutions in bfloat16. auto: on a GPU that has it in hardware; off for a tutorial's "
            "preset.",
        ),
    ] = "auto",
    compiled: Annotated[
        str,
        typer.Option("--compile", metavar="auto|off|on", help="Compile both networks with torch.compile. auto: off."),
    ] = "auto",
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="On one CUDA device, launch each step as one graph.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads. [default: torch's choice]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out (or the newest of its name).")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the data sets known by name lie, looked up first.")
    ] = None,
    report_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="A line in log.jsonl, g.pt and last.pt this often.")
    ] = None,
    sample_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="A picture of the fixed latents this often.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write losses and samples for TensorBoard too, to FOLDER/tensorboard.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one line of JSON.")] = False,
) -> int:
    """Train a GAN on images; the generator to export is FOLDER/g.pt.

    A preset sets everything; any option beside it overrides its part. Prints the path of g.pt; losses and progress
    go to stderr. The folder also gets the log, sample pictures, loss curves and an animation. Ctrl-C saves, --resume
    goes on. Processes that torchrun starts train one GAN together, a GPU each.

    \b
    Examples:
      gan-train                                               handwritten digits, no download
      gan-train --data fashion-mnist --size 32 --minutes 10
      gan-train --data photos/ --preset dcgan64 --out runs/photos
      gan-train --resume --out runs/photos --epochs 20
      torchrun --nproc-per-node 4 --no-python gan-train --data photos/
      gan-train eval --ckpt runs/photos/g.pt
      gan-train report runs/photos
    """
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return 0
    if list_presets:
        console.show(presets_table())
        return 0
    if seed is not None and not 0 <= seed < SEED_LIMIT:
        raise GanportError(f"--seed must lie in 0 … 2**53 - 1, got {seed}", hint="any whole number from 0 will do")
    request = TrainRequest(
        data=data, preset=preset, ema=ema, seed=seed, limit=Limit.of(steps=steps, epochs=epochs, minutes=minutes),
        out=out, resume=resume, root=root, device=device, ngpu=ngpu, tensorboard=tensorboard, amp=amp,
        compiled=compiled, cuda_graphs=cuda_graphs,
        changes={
            "arch": arch, "size": size, "channels": channels, "width": width, "z_dim": z_dim,
            "conditional": conditional, "batch_size": batch_size, "lr_g": lr, "lr_d": lr if lr_d is None else lr_d,
            "n_critic": n_critic, "penalty_weight": penalty_weight, "penalty_every": penalty_every,
            "augment": augment, "report_every": report_every, "sample_every": sample_every,
        },
    )  # fmt: skip
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("torch", "train", NAME) from error
    from gan_trainer import session
    from gan_trainer.devices import resolve
    from gan_trainer.distributed import join, read_launch

    launch = read_launch() if launched() else None
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with join(launch, resolve(device, ngpu, None if launch is None else launch.local_rank)) as peers:
        run, outcome = session.train(request, Bar(), peers, console.with_progress)
        # Inside: torchrun ends all processes as soon as one has ended with an exit code.
        return print_outcome(run, outcome, as_json)


def print_outcome(run: RunDir, outcome: Outcome, as_json: bool) -> int:
    """Says how a training ended. Returns the exit code."""
    if outcome.interrupted:
        console.note(f"interrupted at step {outcome.step}, saved")
        console.note(f"hint: go on with {NAME} --resume --out {shell_line([str(run.path)])}")
        return EXIT_INTERRUPTED
    if as_json:
        console.show_json(
            {
                "checkpoint": str(run.generator),
                "run": str(run.path),
                "step": outcome.step,
                "images": outcome.images,
                "minutes": round(outcome.minutes, 3),
                **outcome.numbers,
            }
        )
    else:
        console.show_path(run.generator)
    return 0


app.command("eval")(eval_command)
app.command("report")(report_command)


def refuse_options(ctx: typer.Context) -> None:
    """Raises `GanportError` for what a subcommand would not see: several processes, an option of training before it."""
    if launched():
        raise GanportError(
            f"{NAME} {ctx.invoked_subcommand} runs in one process, this is one of torchrun's",
            hint="start it without torchrun; where there is none, unset RANK and WORLD_SIZE",
        )
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
                str(Limit.of(steps=recipe.steps, epochs=recipe.epochs)),
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
