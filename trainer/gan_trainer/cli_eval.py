"""`gan-train eval`: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError, MissingPackageError
from gan_core.latents import SEED_LIMIT
from gan_serve.terminal import console
from gan_trainer.evaluation.choices import DEFAULT_N, FEATURES, MIN_N

Models = Annotated[
    list[Path],
    typer.Option(
        "--ckpt",
        "--model",
        metavar="FILE",
        help="A run's g.pt, or an export: .onnx, .ts. Give it again for several in one table.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What gan-train --data takes. [default: what the run that the file lies in was trained on]",
        show_default=False,
    ),
]
Features = Annotated[
    str,
    typer.Option(
        metavar="|".join(FEATURES),
        help="What images are compared by. auto: classifier where the data have labels, else swd.",
    ),
]
N = Annotated[
    int | None,
    typer.Option(
        "--n", metavar="N", min=MIN_N, help=f"Images to draw. [default: half the data, at most {DEFAULT_N:,}]",
        show_default=False,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(metavar="S", help="The first seed: images S … S+N-1.")]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Images drawn at a time.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where torch draws and compares.")]
Provider = Annotated[str, typer.Option(metavar="NAME", help="Where an export runs, as for gan-gen.")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads. [default: every core]")]
Root = Annotated[Path | None, typer.Option(metavar="FOLDER", help="As for gan-train.")]
TrustScript = Annotated[
    bool, typer.Option("--trust-script", help="Run .ts files whatever the program in them does, with your rights.")
]
Keep = Annotated[
    bool, typer.Option("--keep/--no-keep", help="Keep the numbers of a run's g.pt in its folder, for its report.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print every number as JSON.")]


def eval_command(
    ckpt: Models,
    data: Data = None,
    features: Features = "auto",
    n: N = None,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    provider: Provider = "auto",
    threads: Threads = None,
    root: Root = None,
    keep: Keep = True,
    trust_script: TrustScript = False,
    as_json: AsJson = False,
) -> int:
    """Measure how close a generator's images are to the data's.

    Fréchet and kernel distance (lower is better), precision, recall, density and coverage (higher is better), beside
    the same numbers of real images: as good as real. The features are those of a small classifier, trained once on the
    same labelled data and kept, or of Inception (--features inception). Without labels it is the sliced Wasserstein
    distance. Numbers compare only where features and hash are the same; docs/evaluation.md says what each means.

    \b
    Examples:
      gan-train eval --ckpt runs/fashion-mnist-dcgan32/g.pt
      gan-train eval --model g.onnx --model g.int8.onnx --data fashion-mnist
      gan-train eval --model g.onnx --data photos/ --features swd --json
    """
    if not 0 <= seed <= SEED_LIMIT - (n or DEFAULT_N):
        raise GanportError(f"--seed must lie in 0 … 2**53 - 1, less --n, got {seed}", hint="any number from 0 will do")
    if features not in FEATURES:
        raise GanportError(f"no features are called {features!r}", hint=f"features: {', '.join(FEATURES)}")
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("torch", "train", "gan-train eval") from error
    from gan_trainer.evaluation import command, table

    if threads is not None:
        torch.set_num_threads(threads)
    request = command.Request(
        models=tuple(ckpt), data=data, features=features, n=n, seed=seed, batch_size=batch_size, device=device,
        provider=provider, threads=threads, root=root, keep=keep,
        trust_script=trust_script,
    )  # fmt: skip
    found = command.run(request)
    if as_json:
        console.show_json([each.to_json() for each in found] if len(found) > 1 else found[0].to_json())
    else:
        console.show(table.render(found))
    return 0
