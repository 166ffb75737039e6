"""The table of recipes: each trained on each data set on an equal budget, then measured, then timed.

    python -m lab.recipes --data digits --data fashion-mnist@32 --data folder:emoji@64 \
        --preset default --preset default:augment=auto --preset r3gan --steps 3000 --seed 0 --seed 1 --json recipes.json
    python -m lab.recipes --speed --json recipes.json        on an idle machine; nothing is trained again
    python -m lab.recipes --json recipes.json                the tables, as Markdown

Equal budget: as many images drawn in updates of G (the steps are counted in batches of 64). The record is written after
each row and rows that it holds are not trained again, so the command may be stopped and given again. What failed stays
in the record, with its error. How fast a recipe trains is measured apart from the training (`training.measure`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_serve.terminal import console
from lab import shared
from lab.recipes import record as recipe_record
from lab.recipes.table import tables
from lab.recipes.training import WINDOW_S, WINDOWS, Bench, measure, recipes_of
from lab.recipes.variants import BUDGET_BATCH, Data, parse_data, parse_variant

NAME = "python -m lab.recipes"
STEPS = 3000

app = console.new_app("Train recipes on equal budgets, measure their images and how fast they train.")


@app.command()
def main_command(
    json_file: Annotated[
        list[Path],
        typer.Option("--json", metavar="FILE", help="The record; it is gone on with. Several times to print several."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA[@SIZE]", help="A data set by name, or folder:PATH. Several times."),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:FIELD=VALUE]…", help="A preset, fields of its recipe changed. Several times."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help=f"Updates of G, of {BUDGET_BATCH} images each.", show_default=f"{STEPS}"),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=0, help="Of a training. Several times: each is trained.", show_default="0"),
    ] = None,
    n: Annotated[int | None, typer.Option(metavar="N", min=1, help="Images to measure.", show_default="eval's")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="NAME", help="As gan-train eval takes it.", show_default="auto")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to train and measure.", show_default="auto")
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the data sets known by name lie.")] = None,
    runs: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the runs here.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Train again what failed.")] = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Then time the recipes that the record holds, on --data or on all.")
    ] = False,
    windows: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="With --speed: windows of each.", show_default=f"{WINDOWS}"),
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="SECONDS",
            help="With --speed: length of one.",
            show_default=f"{WINDOW_S:g}",
        ),
    ] = None,
) -> None:
    """Train recipes on equal budgets, measure their images and how fast they train.

    Prints the record's tables as Markdown; with --json alone, it does nothing else.

    \b
    Examples:
      python -m lab.recipes --data digits --preset default --preset r3gan --steps 500 --json recipes.json
      python -m lab.recipes --speed --json recipes.json
      python -m lab.recipes --json recipes.json --json more.json
    """
    trains = bool(preset)
    if trains and not data:
        raise GanportError("--preset needs --data: what to train on", hint="for example --data digits")
    if data and not (trains or speed):
        raise GanportError(
            "--data needs --preset, to train, or --speed, to time", hint="--json alone prints the tables"
        )
    for_training = {
        "--steps": steps, "--seed": seed, "--n": n, "--features": features, "--runs": runs, "--retry": retry or None,
    }  # fmt: skip
    _refuse(for_training, trains, "--data and --preset")
    _refuse({"--windows": windows, "--window": window_s}, speed, "--speed")
    _refuse({"--device": device, "--root": root}, trains or speed, "--preset or --speed")
    if window_s is not None:
        shared.check_window(window_s)
    sets = list({found.text: found for found in map(parse_data, data or ())}.values())
    variants = [parse_variant(text) for text in dict.fromkeys(preset or ())]
    if not (trains or speed):
        console.show(
            tables(recipe_record.join([(file, recipe_record.read(file)) for file in json_file])).removesuffix("\n")
        )
        return
    if len(json_file) > 1:
        raise GanportError(f"one --json is written, got {len(json_file)}", hint="several are for printing alone")
    [file] = json_file
    check_outputs({}, {"--json": file})
    record = recipe_record.read_or_empty(file) if trains else recipe_record.read(file)
    if speed and not trains:
        sets = _timed(record, sets)
    shared.require("training recipes")
    if trains:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(
                file, describe(), steps or STEPS, n, features or "auto", device or "auto", root, runs or Path(scratch),
                retry,
            )  # fmt: skip
            for data_set in sets:
                bench.run(data_set, variants, list(dict.fromkeys(seed or [0])))
    for data_set in sets if speed else ():
        console.note(f"{data_set.text}: timing")
        around = describe(warns=True)
        made = measure(
            recipe_record.read(file)["rows"], data_set, windows or WINDOWS,
            window_s or WINDOW_S, device or "auto", root, around,
        )  # fmt: skip
        recipe_record.add(file, "speeds", made, around)
    console.show(tables(recipe_record.read(file)).removesuffix("\n"))


def describe(*, warns: bool = False) -> Json:
    """This command's environment. Of absolute paths in the command only the last part is kept."""
    return shared.look_around("recipes", packages=("torch",), warns=warns)


def _timed(record: Json, sets: list[Data]) -> list[Data]:
    """The data sets to time: those asked for, or all that recipes were trained on."""
    trained = dict.fromkeys(row["data"] for row in record["rows"] if row["status"] == "ok")
    chosen = sets or [parse_data(text) for text in trained]
    if not chosen:
        raise GanportError("--speed: the record holds no trained recipe", hint="train some: name --data and --preset")
    for data_set in chosen:
        recipes_of(record["rows"], data_set)
    return chosen


def _refuse(options: Mapping[str, object], wanted: bool, what: str) -> None:
    """Raises `GanportError` for an option that would be ignored."""
    given = [name for name, value in options.items() if value not in (None, [])]
    if given and not wanted:
        raise GanportError(f"{given[0]} needs {what}", hint=f"add {what}, or leave {given[0]} out")
