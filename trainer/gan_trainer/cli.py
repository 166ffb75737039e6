"""The command `gan-train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gan_core.errors import GanportError, MissingPackageError
from gan_core.latents import SEED_LIMIT
from gan_core.printable import shell_line
from gan_core.process import rest_idle_threads
from gan_serve.terminal import console
from gan_serve.terminal.console import EXIT_INTERRUPTED
from gan_trainer import options
from gan_trainer.cli_eval import eval_command
from gan_trainer.cli_report import report_command
from gan_trainer.config import chosen_limit, limit_of
from gan_trainer.launch import launched, read_launch, run_job
from gan_trainer.memory import keep_freed_memory
from gan_trainer.presets import PRESETS
from gan_trainer.request import Request

if TYPE_CHECKING:
    from gan_trainer.loop import Outcome
    from gan_trainer.rundir import RunDir

NAME = "gan-train"

app = console.new_app()


@app.callback(invoke_without_command=True)
def train(
    ctx: typer.Context,
    data: options.Data = None,
    preset: options.Preset = None,
    list_presets: options.ListPresets = False,
    arch: options.Arch = None,
    size: options.Size = None,
    channels: options.Channels = None,
    width: options.Width = None,
    z_dim: options.ZDim = None,
    conditional: options.Conditional = None,
    out: options.Out = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    lr_d: options.LrD = None,
    n_critic: options.NCritic = None,
    penalty_weight: options.PenaltyWeight = None,
    penalty_every: options.PenaltyEvery = None,
    augment: options.Augment = None,
    ema: options.UseEma = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    ngpu: options.Ngpu = 1,
    amp: options.Amp = "auto",
    compiled: options.Compile = "auto",
    cuda_graphs: options.CudaGraphs = True,
    threads: options.Threads = None,
    resume: options.Resume = False,
    root: options.Root = None,
    report_every: options.ReportEvery = None,
    sample_every: options.SampleEvery = None,
    tensorboard: options.Tensorboard = False,
    as_json: options.AsJson = False,
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
    request = Request(
        data=data, preset=preset, arch=arch, size=size, channels=channels, width=width, z_dim=z_dim,
        conditional=conditional, batch_size=batch_size, lr=lr, lr_d=lr_d, n_critic=n_critic,
        penalty_weight=penalty_weight, penalty_every=penalty_every, augment=augment, ema=ema, seed=seed, limit=limit,
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
