"""The rows of `lab.recipes`: recipes trained on equal budgets, what they draw measured, and how fast each trains.

The images/s of a row's own training depend on what ran beside it in those hours. `measure` gives every recipe of a data
set a process of its own (`lab.loops.worker`), all but one stand still, and each round takes a window of each
(`lab.loops.taking_turns`), after steps that do not count. Nothing is reported, drawn or saved meanwhile. images/s are
those drawn in updates of G, which budgets are counted in: five steps of D for one of G show what they cost.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_bench.environment import load_average
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_serve.terminal import console
from gan_trainer.recipes import Recipe
from lab import shared
from lab.checkerboard import checkerboard
from lab.loops.messages import Train
from lab.loops.taking_turns import Loop, take_turns
from lab.recipes import record as recipe_record
from lab.recipes.variants import Data, Variant, name_of, steps_of


@dataclass(frozen=True)
class Bench:
    """Trains and measures row by row, and adds each to the record in `file`. `environment` is this command's."""

    file: Path
    environment: Json
    steps: int
    n: int | None
    features: str
    device: str
    root: Path | None
    runs: Path
    retry: bool

    def run(self, data: Data, variants: list[Variant], seeds: list[int]) -> None:
        """The rows of one data set that the record lacks, one seed after the other."""
        # All train on the same images, which the data decide: a preset for RGB takes grey ones as they are.
        rows = recipe_record.read_or_empty(self.file)["rows"]
        dataset = check_images(rows, data, self.root)
        recipes = [variant.recipe(dataset.channels, dataset.size) for variant in variants]
        planned = [(recipe, self._key(data, recipe, seed)) for seed in seeds for recipe in recipes]
        if all(self._held(*one) for one in planned):
            console.note(f"{data.text}: nothing left to do")
            return
        from gan_trainer.evaluation import Evaluator

        evaluator = Evaluator(dataset, self.features, n=self.n, device=self.device)
        _check_features(rows, data, evaluator.info)
        for recipe, key in planned:
            if self._held(recipe, key):
                continue
            console.note(f"{data.text}: {key['variant']}, seed {key['seed']}")
            row = key | self._row(data, recipe, key["seed"], evaluator)
            recipe_record.add(self.file, "rows", row, self.environment)

    def _key(self, data: Data, recipe: Recipe, seed: int) -> Json:
        return {"data": data.text, "variant": name_of(recipe.to_json()), "budget_steps": self.steps, "seed": seed}

    def _held(self, recipe: Recipe, key: Json) -> bool:
        """Whether the record has the row. Raises `GanportError` when it has the name for another recipe."""
        record = recipe_record.read_or_empty(self.file)
        recipe_record.check_recipes([*record["rows"], key | {"recipe": recipe.to_json()}])
        found = recipe_record.find(record, key)
        return found is not None and not (self.retry and found["status"] == "failed")

    def _row(self, data: Data, recipe: Recipe, seed: int, evaluator: Any) -> Json:
        import torch

        from gan_trainer.config import Limit, TrainRequest
        from gan_trainer.evaluation.generators import as_generator
        from gan_trainer.networks.generator import load_generator
        from gan_trainer.session import train
        from gan_trainer.terminal import Bar

        class Fixed(TrainRequest):
            """A request for a recipe as it is."""

            def recipe(self, channels: int | None = None) -> Recipe:  # noqa: ARG002
                return recipe

        steps = steps_of(recipe, self.steps)
        common = {"recipe": recipe.to_json(), "steps": steps, "threads": torch.get_num_threads()}
        out = Path(tempfile.mkdtemp(prefix=f"{recipe.name}-", dir=_made(self.runs)))
        limit = Limit("steps", steps)
        request = Fixed(data=data.name, seed=seed, limit=limit, out=out, root=self.root, device=self.device)
        try:
            run, outcome = train(request, Bar())
            if outcome.interrupted:
                raise KeyboardInterrupt
            checkpoint = load_generator(run.generator)
            evaluation = evaluator.evaluate(checkpoint)
            drawn = as_generator(checkpoint, evaluator.device)
            pixels_NHWC = evaluator.draw(drawn, 0, evaluator.labels_for(drawn.contract))
        except (GanportError, JobError) as error:
            console.note(f"failed: {error}")
            return common | {"status": "failed", "error": shared.without_folders(str(error))}
        log = run.read_log()
        return common | {
            "status": "ok",
            "recipe": checkpoint.training["recipe"],
            "generator_parameters": checkpoint.spec.parameters,
            "images_per_s": statistics.median(line["images_per_s"] for line in log),
            "minutes": round(outcome.minutes, 3),
            "device": checkpoint.training["device"],
            "noticed": sorted({key for line in log for key in line.get("noticed", ())}),
            "distance": round(evaluation.metrics.distance, 4),
            "floor": round(evaluation.floor.distance, 4),
            "features": f"{evaluation.features.id} {evaluation.features.hash}",
            "evaluation": evaluation.to_json(),
            "checkerboard": round(checkerboard(pixels_NHWC), 3),
            "checkerboard_real": round(checkerboard(evaluator.dataset.pixels_NHWC[evaluator.reference]), 3),
        }


def _check_features(rows: list[Json], data: Data, info: Any) -> None:
    """Raises `GanportError` when the same kind of features comes from another network than the rows' of `data`.

    Before the hours of training: their distances could stand in no table with these.
    """
    for row in rows:
        if row["data"] == data.text and row["status"] == "ok":
            kind, digest = row["features"].split(" ")
            if kind == info.id and digest != info.hash:
                raise GanportError(
                    f"the record measures {data.text} by {row['features']}, here it is {info.id} {info.hash}: no "
                    "distances to compare",
                    hint="set GANPORT_CACHE to the folder that keeps that network, or begin another record",
                )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GanportError(f"cannot make the folder {folder}: {error.strerror}", hint="name another --runs") from error
    return folder


WINDOWS = 3
WINDOW_S = 2.0


def recipes_of(rows: list[Json], data: Data) -> dict[str, Json]:
    """Variant → recipe, of the rows of `data` that were trained. Raises `GanportError` where there are none."""
    found = {row["variant"]: row["recipe"] for row in rows if row["data"] == data.text and row["status"] == "ok"}
    if not found:
        known = sorted({row["data"] for row in rows if row["status"] == "ok"})
        raise GanportError(
            f"--speed: the record holds no trained recipe on {data.text}",
            hint=f"it has {', '.join(known)}" if known else "train some: name --preset",
        )
    return found


def measure(
    rows: list[Json], data: Data, windows: int, window_s: float, device: str, root: Path | None, environment: Json
) -> Json:
    """One pass over the recipes that `rows` hold on `data`: the JSON of a speed. Completes `environment`.

    Raises `GanportError` for other images than the rows were trained on, `JobError` when a recipe fails to train.
    """
    from gan_trainer.devices import describe, resolve

    recipes = recipes_of(rows, data)
    on = resolve(device)
    check_images(rows, data, root)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder, ExitStack() as stack:
        common = Train("steps", data.name, str(on), Path(folder), root=root)
        loops = [Loop(variant, replace(common, recipe=recipe)) for variant, recipe in recipes.items()]
        for loop in loops:
            stack.enter_context(loop)
        take_turns(loops, windows, window_s)
        measured = [{"variant": loop.name, "recipe": recipes[loop.name], **loop.to_json()} for loop in loops]
        threads = loops[0].ready.threads
    environment |= {"took_s": round(time.monotonic() - began, 1), "load_average_1m_end": load_average()}
    return {
        "data": data.text, "device": describe(on), "threads": threads, "windows": windows, "window_s": window_s,
        "rows": measured,
    }  # fmt: skip


def check_images(rows: list[Json], data: Data, root: Path | None) -> Any:
    """The data set, decoded. Raises `GanportError` when rows of the same name were trained on other images."""
    from gan_trainer.data import open_dataset

    known = [row for row in rows if row["data"] == data.text and row["status"] == "ok"]
    size, channels = data.size, None
    if known:
        of_rows = known[0]["evaluation"]["data"]
        size, channels = of_rows["size"], of_rows["channels"]
    dataset = open_dataset(data.name, size=size, channels=channels, root=root)
    for row in known:
        fingerprint = row["evaluation"]["data"]["fingerprint"]
        if fingerprint != dataset.fingerprint:
            raise GanportError(
                f"{data.text} holds other images than {row['variant']} was trained on: their digest is "
                f"{dataset.fingerprint[:12]}…, the record's {fingerprint[:12]}…",
                hint="name the same folder, or begin another record",
            )
    console.note(f"{data.text}: {len(dataset):,} images of {dataset.size}x{dataset.size}")
    return dataset
