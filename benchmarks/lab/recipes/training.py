"""The rows of `lab.recipes`: recipes trained on equal budgets, and what they draw measured."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_bench.environment import without_folders
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_serve.terminal import console
from gan_trainer.recipes import Recipe
from lab.recipes import record as recipe_record
from lab.recipes.speed import check_images
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
        from gan_trainer.networks.checkpoint import load_generator
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
        except (GanportError, JobError) as error:
            console.note(f"failed: {error}")
            return common | {"status": "failed", "error": without_folders(str(error))}
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
