"""The table of recipes: each trained on each data set on an equal budget, then measured.

    python -m gan_bench.recipes --data digits --data fashion-mnist@32 --data folder:emoji@64 \
        --preset default --preset default:augment=auto --preset r3gan --steps 3000 --json recipes.json

Equal budget: as many images drawn in updates of G (the steps are counted in batches of 64); the time that a recipe
took for it stands beside. The record is written after each row and rows that it holds are not trained again, so the
command may be stopped and given again. What failed stays in the record, with its error.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_bench import environment
from gan_bench.recipe_variants import BUDGET_BATCH, Data, Variant, parse_data, parse_variant
from gan_bench.records import dumps
from gan_serve import console
from gan_serve.atomic import write_text
from gan_serve.errors import GanportError, JobError, MissingPackageError
from gan_serve.outputs import check_outputs

NAME = "python -m gan_bench.recipes"
SCHEMA = 1
Json = dict[str, Any]

app = console.new_app("Train recipes on equal budgets and measure what they draw.")


@app.command()
def main_command(
    data: Annotated[
        list[str], typer.Option(metavar="DATA[@SIZE]", help="A data set by name, or folder:PATH. Several times.")
    ],
    preset: Annotated[
        list[str],
        typer.Option(metavar="NAME[:FIELD=VALUE]…", help="A preset, fields of its recipe changed. Several times."),
    ],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="The record; rows are added to it.")],
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help=f"Updates of G, of {BUDGET_BATCH} images each.")
    ] = 3000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the trainings.")] = 0,
    n: Annotated[int | None, typer.Option(metavar="N", help="Images to measure. [default: eval's]")] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help="As gan-train eval takes it.")] = "auto",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train and measure.")] = "auto",
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the data sets known by name lie.")] = None,
    runs: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the runs here.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Train again what failed.")] = False,
) -> None:
    """Train recipes on equal budgets and measure what they draw. Prints the table as Markdown.

    \b
    Example:
      python -m gan_bench.recipes --data digits --preset default --preset r3gan --steps 500 --json recipes.json
    """
    sets, variants = [parse_data(text) for text in data], [parse_variant(text) for text in preset]
    check_outputs({}, {"--json": json_file})
    record = _open_record(json_file)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("torch", "train", "training recipes") from error
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(record, json_file, steps, seed, n, features, device, root, runs or Path(scratch), retry)
        for data_set in sets:
            bench.run(data_set, variants)
    print(table(record["rows"]), end="")


def _open_record(file: Path) -> Json:
    if not file.exists():
        return {
            "schema": SCHEMA,
            "environment": environment.describe(shlex.join([*NAME.split(), *sys.argv[1:]])),
            "rows": [],
        }
    try:
        record: Json = json.loads(file.read_text("utf-8"))
        if record["schema"] == SCHEMA and isinstance(record["rows"], list):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise GanportError(f"{file} is not a record of {NAME}", hint="name another file")


class Bench:
    """Trains and measures row by row, and writes the record after each."""

    def __init__(
        self,
        record: Json,
        file: Path,
        steps: int,
        seed: int,
        n: int | None,
        features: str,
        device: str,
        root: Path | None,
        runs: Path,
        retry: bool,
    ) -> None:
        self.record, self.file, self.steps, self.seed = record, file, steps, seed
        self.n, self.features, self.device, self.root, self.runs = n, features, device, root, runs
        self.retry = retry

    def run(self, data: Data, variants: list[Variant]) -> None:
        """The rows of one data set that the record lacks."""
        todo = [variant for variant in variants if not self._holds(data, variant)]
        if not todo:
            console.note(f"{data.text}: nothing left to do")
            return
        from gan_trainer.data import open_dataset
        from gan_trainer.evaluation import Evaluator

        channels = todo[0].recipe.channels
        dataset = open_dataset(data.name, size=data.size, channels=channels, root=self.root)
        evaluator = Evaluator(dataset, self.features, n=self.n, device=self.device)
        for variant in todo:
            console.note(f"{data.text}: {variant.text}")
            row = self._key(data, variant) | self._row(data, variant, evaluator)
            self.record["rows"] = [old for old in self.record["rows"] if not _same(old, row)] + [row]
            write_text(self.file, dumps(self.record))

    def _key(self, data: Data, variant: Variant) -> Json:
        return {"data": data.text, "variant": variant.text, "budget_steps": self.steps, "seed": self.seed}

    def _holds(self, data: Data, variant: Variant) -> bool:
        found = [row for row in self.record["rows"] if _same(row, self._key(data, variant))]
        return bool(found) and not (self.retry and found[0]["status"] == "failed")

    def _row(self, data: Data, variant: Variant, evaluator: Any) -> Json:
        from gan_trainer.checkpoint import load_generator
        from gan_trainer.config import Limit
        from gan_trainer.progress import Progress
        from gan_trainer.request import Request
        from gan_trainer.session import train

        class Fixed(Request):
            """A request for a recipe as it is."""

            def recipe(self) -> Any:
                return variant.recipe.override(size=data.size)

        steps = variant.steps(self.steps)
        out = Path(tempfile.mkdtemp(prefix=f"{variant.recipe.name}-", dir=_made(self.runs)))
        limit = Limit("steps", steps)
        request = Fixed(data=data.name, seed=self.seed, limit=limit, out=out, root=self.root, device=self.device)
        common = {"recipe": variant.recipe.to_json(), "steps": steps}
        try:
            run, outcome = train(request, Progress())
        except (GanportError, JobError) as error:
            console.note(f"failed: {error}")
            return common | {"status": "failed", "error": str(error)}
        if outcome.interrupted:
            raise KeyboardInterrupt
        checkpoint = load_generator(run.generator)
        log = run.read_log()
        evaluation = evaluator.evaluate(checkpoint)
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


def _same(row: Json, key: Json) -> bool:
    return all(row[name] == key[name] for name in ("data", "variant", "budget_steps", "seed"))


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GanportError(f"cannot make the folder {folder}: {error.strerror}", hint="name another --runs") from error
    return folder


def table(rows: list[Json]) -> str:
    """Markdown: a table for each data set, budget and kind of features, the best first, what failed last."""
    groups: dict[tuple[str, int, int, str], list[Json]] = {}
    kinds = {row["data"]: row["features"] for row in rows if row["status"] == "ok"}
    for row in rows:
        features = row.get("features", kinds.get(row["data"], "none"))
        groups.setdefault((row["data"], row["budget_steps"], row["seed"], features), []).append(row)
    parts = []
    for (data, steps, seed, features), members in groups.items():
        floor = next((f", real images {row['floor']:g}" for row in members if row["status"] == "ok"), "")
        parts.append(f"### {data}, {steps} updates of G, seed {seed}\n\nDistance on {features}{floor}.\n")
        parts.append("| recipe | distance | images/s | minutes | noticed |\n|---|---:|---:|---:|---|")
        for row in sorted(members, key=lambda row: row.get("distance", float("inf"))):
            if row["status"] == "ok":
                numbers = f"{row['distance']:g} | {row['images_per_s']:.0f} | {row['minutes']:.1f}"
                parts.append(f"| `{row['variant']}` | {numbers} | {', '.join(row['noticed'])} |")
            else:
                parts.append(f"| `{row['variant']}` | failed | | | {row['error']} |")
        parts.append("")
    return "\n".join(parts) + "\n" if parts else ""


def main() -> NoReturn:
    """The entry point."""
    console.run(app, NAME)


if __name__ == "__main__":
    main()
