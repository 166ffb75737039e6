"""The command `gan-train`: training, and its cache. `eval` and `report` are in `gan_trainer.cli_eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from gan_core.errors import MissingPackageError
from gan_core.printable import bytes_text, shell_line
from gan_core.process import keep_freed_memory, rest_idle_threads
from gan_serve.terminal import console
from gan_serve.terminal.commands import named_once
from gan_serve.terminal.console import EXIT_INTERRUPTED
from gan_trainer.cli_eval import eval_command, report_command
from gan_trainer.config import Limit, TrainRequest
from gan_trainer.presets import PRESETS
from gan_trainer.settings import RECIPE, RUN, Settings, merged
from gan_trainer.settings_file import load_settings
from gan_trainer.terminal import Bar, TrainingGroup, launched, refuse_options, run_job, with_settings

if TYPE_CHECKING:
    from gan_trainer.loop import Outcome
    from gan_trainer.rundir import RunDir
import difflib
import math

from gan_core.errors import GanportError
from gan_trainer.data import store
from gan_trainer.data.cache import CACHE_VARIABLE, default_cache_dir

NAME = "gan-train"

app = console.new_app(cls=TrainingGroup, subcommand_metavar="| COMMAND [ARGS]...")


@app.callback(invoke_without_command=True)
@with_settings
def train(
    ctx: typer.Context,
    place: Annotated[str | None, typer.Argument(metavar="DATA", hidden=True)] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Take settings from a file: a run's run.yaml, or the run's folder. Options override them.",
            rich_help_panel=RUN,
        ),
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Print the presets and exit.", rich_help_panel=RECIPE)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as one line of JSON.", rich_help_panel=RUN)
    ] = False,
    **options: Unpack[Settings],
) -> int:
    """Train a GAN on images; the generator to export is FOLDER/g.pt.

    A preset sets everything; any other option overrides its part. Defaults are those of the preset `default`. Prints
    the path of g.pt; losses and progress go to stderr. The folder also gets the log, sample pictures, loss curves, an
    animation, and run.yaml, which --config reads. Ctrl-C saves, --resume continues. Processes of torchrun train one
    GAN together, one GPU each.

    \b
    Examples:
      gan-train                               handwritten digits
      gan-train fashion-mnist --size 32 --minutes 10
      gan-train photos/ --preset dcgan64 --out runs/photos
      gan-train --resume --out runs/photos --epochs 20
      gan-train photos/ --task upscale --scale 4 --size 128
      gan-train --config runs/photos --lr 1e-4 --out runs/slower
      gan-train eval --ckpt runs/photos/g.pt
      gan-train report runs/photos
      torchrun --nproc-per-node 4 --no-python gan-train photos/
    """
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return 0
    if list_presets:
        console.show(presets_table())
        return 0
    data: Any = options.get("data")
    asked: Settings = {**options, "data": named_once(place, data, "--data")}
    request = TrainRequest.of(asked if config is None else merged(load_settings(config), asked))
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("torch", "train", NAME) from error
    from gan_trainer import session
    from gan_trainer.devices import resolve
    from gan_trainer.distributed import join, read_launch

    launch = read_launch() if launched() else None
    keep_freed_memory()
    with join(launch, resolve(request.device, request.ngpu, None if launch is None else launch.local_rank)) as peers:
        run, outcome = session.train(request, Bar(), peers, console.with_progress)
        # Inside: torchrun ends all processes as soon as one has ended with an exit code.
        return print_outcome(run, outcome, as_json)


def print_outcome(run: RunDir, outcome: Outcome, as_json: bool) -> int:
    """Says how a training ended, and what to type next. Returns the exit code."""
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
    console.note(f"trained {outcome.step:,} steps ({outcome.images:,} images) in {outcome.minutes:.1f} minutes")
    console.note(f"next: {NAME} report {shell_line([str(run.path)])}")
    console.note(f"      gan-export {shell_line([str(run.generator)])}")
    return 0


app.command("eval")(eval_command)
app.command("report")(report_command)


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
    batch, lr = console.Column("batch", right=True, drop=3), console.Column("lr", drop=2)
    length, what = console.Column("trains for", drop=1), console.Column("what", fit="wrap", least=24)
    return console.table(("preset", "network", batch, lr, length, what), rows)


@app.command("cache")
def cache_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="With --clear: only these, by name or its beginning.", show_default=False),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the content of the cache.")] = False,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Set the size limit of the cache: 20GB, 500MB, none. Beyond it, the least recently "
            "used entries are deleted first. "
            f"[default: {store.limit_text(store.DEFAULT_LIMIT)}]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content as JSON.")] = False,
) -> int:
    """List what the cache keeps, clear it, or set its limit.

    It keeps decoded data sets, downloads, and the classifiers of gan-train eval; all of it is made
    again when it is needed.

    \b
    Examples:
      gan-train cache
      gan-train cache --clear digits
      gan-train cache --limit 20GB
    """
    folder = default_cache_dir()
    if folder is None:
        raise GanportError("there is no cache: no home folder", hint=f"{CACHE_VARIABLE} names another folder")
    if names and not clear:
        raise GanportError("names say what to clear", hint=f"gan-train cache --clear {names[0]}")
    wanted = None if limit is None else store.parse_size(limit)
    kept = store.kept_in(folder)
    if clear:
        cleared = kept if not names else [each for name in names for each in _named(name, kept)]
        for each in cleared:
            each.delete()
        freed = sum(each.size for each in set(cleared))
        console.note(f"note: cleared {len(set(cleared))} of {len(kept)}, {bytes_text(freed)}")
    if wanted is not None:
        store.write_limit(folder, wanted)
        store.keep_within(folder, but=folder)
    _show(folder, as_json)
    return 0


def _named(name: str, kept: list[store.Kept]) -> list[store.Kept]:
    found = [each for each in kept if each.name == name or each.name.startswith(f"{name}-")]
    if not found:
        near = difflib.get_close_matches(name, [each.name for each in kept], n=1, cutoff=0.3)
        raise GanportError(
            f"nothing in the cache is called {name}",
            hint=f"did you mean {near[0]}?" if near else "gan-train cache lists what there is",
        )
    return found


def _show(folder: Path, as_json: bool) -> None:
    kept, limit = store.kept_in(folder), store.read_limit(folder)
    total = sum(each.size for each in kept)
    if as_json:
        things = [{"kind": each.kind, "name": each.name, "bytes": each.size, "used": each.used} for each in kept]
        found = {"folder": str(folder), "bytes": total, "limit": None if math.isinf(limit) else limit, "kept": things}
        console.show_json(found)
        return
    if kept:
        rows = [(store.KINDS[each.kind], each.name, bytes_text(each.size), store.age_text(each.used)) for each in kept]
        console.show(console.table(("what", console.Column("name", fit="line"), "size", "used"), rows, right=(2,)))
    console.show(f"{bytes_text(total)} in {folder}, limit {store.limit_text(limit)}")


def main() -> None:
    """The entry point."""
    rest_idle_threads()
    if launched():
        run_job(app, NAME)
    console.run(app, NAME)


if __name__ == "__main__":  # torchrun -m gan_trainer.cli
    main()
