"""`gan-train eval` and `gan-train report`: their options, what they do and print."""

from __future__ import annotations

import contextlib
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_core.contract import Contract
from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.atomic import write_text
from gan_core.latents import SEED_LIMIT
from gan_core.printable import printable, shell_line
from gan_serve.terminal import console
from gan_trainer.data import check_still_there, open_dataset
from gan_trainer.evaluation.results import DEFAULT_N, FEATURES, MIN_N, Evaluation
from gan_trainer.networks.architectures import SIZES
from gan_trainer.rundir import RunDir

if TYPE_CHECKING:
    from gan_core.fields import Json
    from gan_serve.runtime.generator import Generator
    from gan_trainer.data import ImageDataset
    from gan_trainer.evaluation.generators import ShardSet

WIDTH = 80
RARE = 0.2
"""A class is called rare when it has less than this share of what it has in the data."""


def eval_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="A run's g.pt, an export (.onnx, .ts), or a folder of shards of gan-gen. Several make one table.",
            show_default=False,
        ),
    ] = None,
    ckpt: Annotated[
        list[Path] | None,
        typer.Option(
            "--ckpt",
            "--model",
            metavar="FILE",
            help="The same as an option; give it again for several.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="As for gan-train --data. [default: the training data of the run in whose folder the file is]",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            metavar="|".join(FEATURES),
            help="How images are compared. auto: classifier if the data have labels, else swd.",
        ),
    ] = "auto",
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            min=MIN_N,
            help=f"Images to generate. [default: half the data, at most {DEFAULT_N:,}]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="The first seed: images S … S+N-1.")] = 0,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images per batch.")] = 64,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where torch generates and compares.")
    ] = "auto",
    provider: Annotated[str, typer.Option(metavar="NAME", help="Where an export runs, as for gan-gen.")] = "auto",
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads. [default: every core]")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="As for gan-train.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep the numbers of a run's g.pt in its folder, for its report.")
    ] = True,
    trust_script: Annotated[
        bool, typer.Option("--trust-script", help="Run .ts files without checking their program, with your rights.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
) -> int:
    """Measure how close a generator's images are to the data's.

    Fréchet and kernel distance (lower is better), precision, recall, density and coverage (higher is better), next to
    the same numbers of real images. The features are those of a small classifier, trained once on the same labelled
    data and kept, or of Inception (--features inception). Without labels it is the sliced Wasserstein distance. You
    can compare numbers only if features and hash are the same; docs/evaluation.md says what each means.

    Upscalers are measured by PSNR, beside bicubic interpolation: on images that their training left out, or on others.

    \b
    Examples:
      gan-train eval runs/fashion-mnist-dcgan32/g.pt
      gan-train eval g.onnx g.int8.onnx --data fashion-mnist
      gan-train eval shards/ --data fashion-mnist
      gan-train eval --model g.onnx --data photos/ --features swd --json
    """
    models = [*(files or ()), *(ckpt or ())]
    if not models:
        raise GanportError("eval needs a model", hint="gan-train eval runs/NAME/g.pt, or an export")
    if not 0 <= seed <= SEED_LIMIT - (n or DEFAULT_N):
        raise GanportError(f"--seed must lie in 0 … 2**53 - 1, less --n, got {seed}", hint="any number from 0 will do")
    if features not in FEATURES:
        raise GanportError(f"no features are called {features!r}", hint=f"features: {', '.join(FEATURES)}")
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("torch", "train", "gan-train eval") from error
    from gan_trainer.devices import resolve
    from gan_trainer.evaluation import Evaluator
    from gan_trainer.evaluation.generators import MANIFEST, ShardSet, open_model

    if threads is not None:
        torch.set_num_threads(threads)
    torch_device = resolve(device)
    opened: list[tuple[Generator | ShardSet, Json]] = []
    for path in models:
        if path.is_dir() and any((path / name).is_file() for name in (MANIFEST, "job.json")):
            shards = ShardSet(path)
            opened.append((shards, shards.about))
            continue
        opened.append(
            open_model(
                path, device=torch_device, provider=provider, threads=threads,
                trust_script=trust_script and path.suffix.lower() == ".ts",
            )
        )  # fmt: skip
    if any(generator.contract.interface.input is not None for generator, _ in opened):
        if features != "auto" or seed:
            raise GanportError("`features` and `seed` are for generators of new images", hint="leave them out")
        return _upscalers(models, [generator for generator, _ in opened], data, root, n, as_json)
    sizes = {len(shards) for shards, _ in opened if isinstance(shards, ShardSet)}
    if len(sizes) > 1 or (sizes and n not in (None, *sizes)):
        raise GanportError(
            f"a table is of one number of images: the shards have {', '.join(map(str, sorted(sizes)))}"
            f"{'' if n is None else f', and `n` is {n}'}",
            hint="leave `n` out, and evaluate shards of other numbers in separate commands",
        )
    n = next(iter(sizes), n)
    first = opened[0][0].contract
    for path, (generator, _) in zip(models, opened, strict=True):
        drawn = generator.contract.interface
        if drawn.image != first.interface.image:
            raise GanportError(
                f"{path} generates {drawn.picture} images, {models[0]} {first.interface.picture}",
                hint="evaluate them in separate commands",
            )
    dataset = _dataset(_trained_on(models) if data is None else data, first, root)
    evaluator = Evaluator(
        dataset, features, n=n, batch_size=batch_size, device=torch_device, track=console.with_progress
    )  # fmt: skip
    for generator, _ in opened:
        evaluator.labels_for(generator.contract)
    console.note(f"features: {evaluator.info.id} {evaluator.info.hash}: {evaluator.info.text}")
    found, reported = [], None
    for path, (generator, model) in zip(models, opened, strict=True):
        evaluation = evaluator.evaluate(generator, seed=seed, model=model)
        run = _run_of(path)
        if keep and run is not None and path.name == run.generator.name:
            reported = run
            kept = run.evaluation(evaluation.features.id)
            write_text(kept, evaluation.dumps())
            console.note(f"kept in {kept}")
        found.append(evaluation)
    if as_json:
        console.show_json([each.to_json() for each in found] if len(found) > 1 else found[0].to_json())
    else:
        console.show(render(found))
    console.note(f"next: {_next(models[0], reported)}")
    return 0


def _upscalers(
    models: Sequence[Path], opened: Sequence[Generator | ShardSet], data: str | None, root: Path | None, n: int | None,
    as_json: bool,
) -> int:  # fmt: skip
    from gan_trainer.upscaling import check_alike, measured

    dataset = _dataset(_trained_on(models) if data is None else data, opened[0].contract, root)
    found = measured(check_alike(models, opened), dataset, n or DEFAULT_N)
    rows = [{"file": path.name, **row} for path, row in zip(models, found, strict=True)]
    if as_json:
        console.show_json(rows if len(rows) > 1 else rows[0])
    else:
        cells = [[row["file"], *(f"{row[key]:.2f}" for key in ("psnr_db", "bicubic_psnr_db"))] for row in rows]
        console.show(f"{printable(dataset.name)}: {rows[0]['images']:,} images {rows[0]['which']}")
        console.show(console.table(["", "PSNR, dB", "bicubic"], cells, right=(1, 2)))
    return 0


def _next(model: Path, run: RunDir | None) -> str:
    """What to type after the evaluation of `model`, whose numbers were kept in `run`."""
    if run is not None:
        return f"gan-train report {shell_line([str(run.path)])}"
    if model.is_dir():
        return f"gan-gen --verify --out {shell_line([str(model)])}"
    if model.suffix == ".pt":
        return f"gan-export {shell_line([str(model)])}"
    return f"gan-gen --model {shell_line([str(model)])} --n 25"


def _run_of(model: Path) -> RunDir | None:
    """The run whose folder a model lies in, or None."""
    run = RunDir(model.parent)
    return run if run.config.is_file() else None


def _dataset(data: str, contract: Contract, root: Path | None) -> ImageDataset:
    interface = contract.interface
    if interface.height != interface.width or interface.height not in SIZES:
        raise GanportError(
            f"the model generates {interface.picture} images, data come in squares of {', '.join(map(str, SIZES))}",
            hint="from Python, gan_trainer.evaluation.evaluate takes an ImageDataset of any square size",
        )
    return open_dataset(
        data, size=interface.height, channels=interface.channels, root=root, track=console.with_progress
    )  # fmt: skip


def _trained_on(models: Sequence[Path]) -> str:
    """The data of the run that models lie in; what lies in none is compared with the same."""
    asked: dict[str, Path] = {}
    for run in filter(None, map(_run_of, models)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if isinstance(data := json.loads(run.config.read_text("utf-8")).get("data"), str):
                asked.setdefault(data, run.path)
    if len(asked) != 1:
        none = "nothing says what data to compare with: no run's config.json is next to the model"
        several = f"the models were trained on different data: {', '.join(asked)}"
        raise GanportError(several if asked else none, hint="name them: --data")
    ((data, path),) = asked.items()
    check_still_there(data)
    console.note(f"data: {data}, on which {path} was trained")
    return data


def render(evaluations: Sequence[Evaluation]) -> str:
    """A table of models and, last, real images, and what to know beside it: all of one feature set and data set."""
    first = evaluations[0]
    labels = any(each.of_classes for each in evaluations)
    rows = [(_name_of(each), each.metrics.cells(labels)) for each in evaluations]
    rows.append(("real images", first.floor.cells(labels)))
    header = ["", *rows[0][1]]
    drawn = f"{first.n:,} images of seeds {first.seed} … {first.seed + first.n - 1}"
    if all(each.model.get("kind") == "shards" for each in evaluations):
        drawn = f"{first.n:,} images"
    lines = [
        f"{printable(str(first.data['name']))}, {first.data['size']}x{first.data['size']}: "
        f"{drawn} against {first.n_real:,} real ones",
        _filled(f"features {first.features.id} {first.features.hash}: {first.features.text}"),
        "",
        _narrow([header, *([name, *cells.values()] for name, cells in rows)]),
    ]
    if first.n_floor != first.n:
        text = (
            f"The real images are {first.n_floor:,} against {first.n_floor:,}: their distances are larger than of more"
        )
        lines += ["", _filled(text)]
    return "\n".join([*lines, *_classes(evaluations)])


def _name_of(evaluation: Evaluation) -> str:
    """What a row is headed with."""
    return str(evaluation.model.get("file") or evaluation.model.get("kind") or "model")


def _filled(text: str) -> str:
    return textwrap.fill(printable(text), WIDTH, break_on_hyphens=False)


def _narrow(rows: Sequence[Sequence[str]]) -> str:
    """The table, its first row a header, or the same with rows and columns exchanged: the one that is less wide."""
    shown = [
        console.table(each[0], each[1:], right=range(1, len(each[0]))) for each in (rows, [*zip(*rows, strict=True)])
    ]
    return min(shown, key=lambda text: text.index("\n"))


def _classes(evaluations: Sequence[Evaluation]) -> list[str]:
    """What the classifier says of the classes: how many are right, or which are rare."""
    first = evaluations[0]
    names = first.data["class_names"]
    judged = [(_name_of(each), each.metrics.class_accuracies) for each in evaluations if each.metrics.class_accuracies]
    lines = []
    if judged:
        judged.append(("real images", first.floor.class_accuracies))
        header = ["recognised as its class", *(name for name, _ in judged)]
        shares = zip(names, *(shares or [None] * len(names) for _, shares in judged), strict=True)
        rows = [[name, *("" if share is None else f"{share:.0%}" for share in of)] for name, *of in shares]
        lines += ["", console.table(header, rows, right=range(1, len(header)))]
    for each in evaluations:
        if not each.metrics.class_accuracies:
            pairs = zip(names, each.metrics.class_shares, each.floor.class_shares, strict=False)
            rare = [name for name, share, real in pairs if share < RARE * real]
            lines += ["", printable(f"{_name_of(each)}: hardly any {', '.join(rare)}")] if rare else []
    return lines


def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run: runs/NAME.", show_default=False)],
    other: Annotated[
        Path | None, typer.Argument(metavar="RUN2", help="A second run, to compare with.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="[default: RUN/report.html; for two runs, RUN-and-RUN2.html next to RUN]",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Write one HTML page about a run, or about two side by side.

    It says how the run went, and shows samples, curves, configuration, and the numbers that
    gan-train eval kept. The page holds its pictures and opens from disk, without a network. Its
    path is printed.

    \b
    Examples:
      gan-train report runs/photos
      gan-train report runs/photos runs/slower
      gan-train report runs/photos --out photos.html
    """
    from gan_trainer.report import gather, render

    target = RunDir(run).report if out is None else out
    if other is not None and out is None:
        target = run.parent / f"{run.resolve().name}-and-{other.resolve().name}.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise GanportError(f"a report's name ends in .html, got {target.name}", hint="--out NAME.html")
    runs = [gather.gather(each) for each in (run, other) if each is not None]
    write_text(target, render(*runs))
    console.show_path(target)
    return 0
