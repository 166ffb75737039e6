"""The odds of a reading: trains generators whose truth is known, fits what evidence counts, checks how it turns out.

python -m lab.odds train --data fashion-mnist --data digits --seeds 0:50 --out trained
python -m lab.odds fit --examples trained --examples found --json odds-fit.json --weights weights.json
python -m lab.odds check --examples found --json strangers.json
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.environment import busy_note
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files import atomic, check_outputs
from gan_serve.terminal import console
from lab import shared

NAME = "python -m lab.odds"
STEPS, DATA = 1000, ("digits",)
LIMIT_S = 300.0
MOST_IMAGES = 20_000
CLASSES = 10

app = console.new_app("The odds of a reading: train examples, fit what evidence counts, check how it turns out.")

Examples = Annotated[
    list[Path],
    typer.Option(
        exists=True, file_okay=False, metavar="FOLDER", help="Where NAME.pth and NAME.reference.npz are. Several times."
    ),
]
Record = Annotated[Path, typer.Option("--json", metavar="FILE", help="Write the record here.")]
Limit = Annotated[float, typer.Option("--limit", metavar="SECONDS", min=1.0, help="Processor time for one file.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Write the examples here; those there are kept.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="As gan-train takes it. Several times: in turn.  [default: digits]"),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="FROM:TO", help="Of the generators, without TO.")] = "0:50",
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps for one, at most.")] = STEPS,
) -> None:
    """Train small generators as strangers do, one for each seed, under any names, with what lies beside them.

    \b
    Example:
      python -m lab.odds train --data fashion-mnist --data digits --seeds 0:50 --out trained
    """
    from gan_trainer.data import ImageDataset, open_dataset
    from lab.odds import authors, trained

    first, last = _range(seeds)
    check_outputs({}, {"--out": None})
    held: dict[tuple[str, int], ImageDataset] = {}
    with console.progress(last - first, "generators") as bar:
        for seed in range(first, last):
            bar.update(1)
            name = f"t{seed:03d}"
            if any((out / name).glob("*.reference.npz")):
                continue
            written = authors.write(seed)
            said = (data or DATA)[seed % len(data or DATA)]
            if (said, written.side) not in held:
                held[said, written.side] = open_dataset(said, size=written.side)
            images, labels = trained.images_of(held[said, written.side], written.image[0], MOST_IMAGES, CLASSES)
            made = trained.train(written, seed, images, labels, steps)
            trained.save(made, out, name)
            console.note(f"{name}: {written.kind}, {made.about['loss']}, {made.about['steps']} steps on {said}")


@app.command()
def fit(
    examples: Examples,
    record: Record,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the weights here, as the package has them.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep what was measured here.")] = None,
    limit: Limit = LIMIT_S,
) -> None:
    """Measure every hypothesis of every example, fit what evidence counts, print how often the odds are right.

    \b
    Example:
      python -m lab.odds fit --examples trained --examples found --cache measured --json odds-fit.json
    """
    from lab.odds import fitting
    from lab.odds.examples import find_examples
    from lab.odds.measuring import measure_all

    check_outputs({}, {"--json": record, "--weights": weights})
    found = find_examples(examples)
    outcomes: list[tuple[str, str]] = []
    cases = []
    with console.progress(len(found), "measured") as bar:
        for example, measured in measure_all(found, cache, limit):
            bar.update(1)
            outcomes.append((example.origin, measured.outcome))
            if measured.taken:
                name = f"{example.repository} {example.path}".strip()
                cases.append(fitting.Case(name, example.author, example.origin, measured))
    cases = fitting.weighted(sorted(cases, key=lambda case: case.name))
    if len({case.fold for case in cases}) < 2:
        raise GanportError(f"{len(cases)} files of too few authors can be measured", hint="give more `examples`")
    made = shared.new_record("odds") | {"examples": _examples(outcomes), "author_folds": fitting.FOLDS}
    made |= fitting.summary(cases)
    made["environment"]["note"] = busy_note(made["environment"])
    fitted = fitting.as_json(fitting.fit(cases, fitting.scale_of(cases)))
    made["weights"] = fitted
    if weights is not None:
        atomic.write_text(weights, json.dumps(fitted) + "\n")
    atomic.write_text(record, json.dumps(made, indent=1) + "\n")
    console.note(f"record: {record}")
    console.show(fit_table(made))


@app.command()
def check(
    examples: Examples,
    record: Record,
    limit: Limit = LIMIT_S,
) -> None:
    """Identify every example as a user would, without any answer, and print what came of it.

    \b
    Example:
      python -m lab.odds check --examples found --json strangers.json
    """
    from lab.odds import checking
    from lab.odds.examples import find_examples
    from lab.odds.measuring import side_by_side

    check_outputs({}, {"--json": record})
    found = find_examples(examples)
    rows: list[tuple[str, Json]] = []
    with console.progress(len(found), "identified") as bar:
        for example, done in side_by_side(checking.check, found, limit):
            bar.update(1)
            row = done or {"kind": example.kind, "outcome": checking.TOO_LONG, "seconds": limit}
            rows.append((example.name, example.about | row | {"note": example.note}))
            if row["outcome"] == checking.WRONG:
                console.note(f"{example.name}, {example.repository} {example.path}: {row['outcome']}, {row['says']}")
    files = [row for _, row in sorted(rows, key=lambda item: item[0])]
    made = shared.new_record("odds")
    made["environment"]["note"] = busy_note(made["environment"])
    made |= checking.summary(files)
    rows_of = ",\n  ".join(json.dumps(row) for row in files)
    atomic.write_text(record, f'{json.dumps(made, indent=1)[:-2]},\n "files": [\n  {rows_of}\n ]\n}}\n')
    console.note(f"record: {record}")
    console.show(check_table(made))


def fit_table(made: Json) -> str:
    """The record of `fit` as text."""
    rows = [
        (what, str(row["files"]), str(row["listed"]), str(row["row_1"]), f"{row['negative_log_likelihood']:.2f}")
        for what, row in made["real" if made["real"] else "all"].items()
    ]
    return "\n\n".join(
        (
            console.table(("by", "files", "listed", "row 1", "nats"), rows, right=range(1, 5)),
            _odds_table(made["calibration"]),
            f"wrong at {made['sure']:g} : 1 or more: {len(made['sure_and_wrong'])}",
        )
    )


def check_table(made: Json) -> str:
    """The record of `check` as text."""
    from lab.odds import checking

    total = made["totals"]
    rows = [(k.replace("_", " "), str(n), f"{total['per_cent'][k]:.1f}") for k, n in total["count"].items()]
    parts = [console.table(("of " + str(total["files"]), "files", "%"), rows, right=(1, 2))]
    if made["kinds"]:
        words = [word for word in checking.OUTCOMES if total["count"][word]]
        kinds = [(kind, *(str(count[word]) for word in words)) for kind, count in made["kinds"].items()]
        parts.append(console.table(("kind", *words), kinds, right=range(1, len(words) + 1)))
    parts.append(_odds_table(made["calibration"]))
    for what in ("fields", "evidence"):
        verdicts = [(name, *map(str, count.values())) for name, count in made[what].items() if count["all"]]
        if verdicts:
            parts.append(console.table((what, "all", "right", "near", "wrong"), verdicts, right=range(1, 5)))
    return "\n\n".join(parts)


def _odds_table(calibration: Json) -> str:
    odds = [
        (_bounds(whole), *(str(row[key]) for row in (whole, single) for key in ("all", "right")))
        for whole, single in zip(calibration["whole"], calibration["single"], strict=True)
    ]
    return console.table(("odds", "whole", "right", "single", "right"), odds, right=range(1, 5))


def _bounds(row: Json) -> str:
    if row["to"] is None:
        return f"over {row['from']:g}"
    return f"{row['from']:g} to {row['to']:g}" if row["from"] else "under 1"


def _examples(outcomes: Sequence[tuple[str, str]]) -> Json:
    """origin → what came of measuring: how many; every refusal counts as one."""
    known = ("measured", "settled", "too long")
    found: dict[str, Counter[str]] = {}
    for origin, outcome in outcomes:
        found.setdefault(origin, Counter())[outcome if outcome in known else "refused"] += 1
    return {origin: dict(counts.most_common()) for origin, counts in found.items()}


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise GanportError(f"`seeds` takes FROM:TO, got {text!r}", hint="for example 0:50")
    return int(first), int(last)
