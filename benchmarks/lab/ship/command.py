"""A checkpoint becomes a model that ships: exported, measured beside its other forms and a damaged one, written down.

    python -m lab.ship --ckpt runs/garments/g.pt --data fashion-mnist \
        --out serve_cli/gan_serve/models/fashion-mnist.onnx --json benchmarks/results/default-model.json \
        --card docs/models.md

File, record and card are written together, at the end, so that they tell of the same weights. Nothing is written when
an export is not proved, when the file is too large, or when the damaged generator does not measure clearly worse.
"""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_bench.record import dumps
from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_core.files.atomic import write_bytes, write_text
from gan_core.interface import with_interface
from gan_serve.terminal import console
from lab import shared
from lab.ship.variants import DAMAGED, SHIPPED, Variant, export_all, open_source, with_class_names
from lab.training_command import training_command

if TYPE_CHECKING:
    from gan_export.source import Source
    from gan_trainer.evaluation import Evaluator
from typing import TYPE_CHECKING

from gan_core.printable import bytes_text

if TYPE_CHECKING:
    from gan_trainer.evaluation.results import Evaluation

NAME = "python -m lab.ship"
SCHEMA = 1
CLEARLY_WORSE = 2.0
"""How many times the distance of the worst export the damaged generator must have, at least."""

app = console.new_app("Make a checkpoint into a model that ships.")


@app.command()
def main_command(
    ckpt: Annotated[Path, typer.Option(metavar="FILE", help="A run's g.pt.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="The file that ships: weights saved as float16.")],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="Where the record goes.")],
    card_page: Annotated[
        Path | None, typer.Option("--card", metavar="FILE.md", help="Put the facts between this page's marks.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DATA", help="As gan-train. [default: the training's]")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="As gan-train.")] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help="As gan-train eval.")] = "auto",
    n: Annotated[int | None, typer.Option(metavar="N", help="Images to measure. [default: eval's]")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where torch measures.")] = "auto",
    command: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The gan-train command. [default: from the checkpoint]")
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The machine it was trained on. [default: this one]")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="A sentence about the training for the card.")] = "",
    max_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="The largest file that may ship.")] = 2_000_000,
) -> None:
    """Make a checkpoint into a model that ships: the file, its record, its card.

    \b
    Example:
      python -m lab.ship --ckpt g.pt --out faces.onnx --json faces.json
    """
    check_outputs({"--ckpt": ckpt}, {"--out": out, "--json": json_file, "--card": card_page})
    if out.suffix != ".onnx":
        raise GanportError(f"--out ends in .onnx, got {out}", hint=f"--out {out.with_suffix('.onnx')}")
    if card_page is not None:
        held_card(card_page, out.stem)
    try:
        from gan_trainer.evaluation import Evaluator
    except ImportError as error:
        raise MissingPackageError("torch", "export", "making a model that ships") from error
    from gan_trainer.data import open_dataset

    source = open_source(ckpt)
    said = command or training_command(source.training)
    c, size, _ = source.interface.image
    name = data or source.training.get("data", {}).get("name", "")
    dataset = open_dataset(name, size=size, channels=c, root=root)
    source = with_class_names(source, dataset)
    before = shared.look_around("ship", warns=False)
    evaluator = Evaluator(dataset, features, n=n, device=device)
    with tempfile.TemporaryDirectory(prefix="ganport-ship-") as scratch:
        shipped, rows = measure(source, ckpt, evaluator, Path(scratch), out.stem, max_bytes)
    _check_damage(rows)
    first = next(row for row in rows if row["variant"] == SHIPPED)
    record: Json = {
        "schema": SCHEMA,
        "environment": before,
        "note": note,
        "training": source.training | {"command": said, "trained_on": trained_on or _machine(source.training, before)},
        "generator": {
            "name": source.name,
            "weights": source.weights,
            "parameters": None if source.spec is None else source.spec.parameters,
            "z_dim": source.interface.z_dim,
            "image": list(source.interface.image),
            "classes": list(source.interface.class_names),
        },
        "shipped": {key: first[key] for key in ("file", "sha256", "size_bytes")},
        "rows": rows,
    }
    text = card(record, _in_repository(json_file))
    if card_page is not None:
        write_card(card_page, out.stem, text)
    write_bytes(out, shipped)
    write_text(json_file, dumps(record))
    console.show_path(out)


def measure(
    source: Source, ckpt: Path, evaluator: Evaluator, folder: Path, stem: str, max_bytes: int
) -> tuple[bytes, list[Json]]:
    """The bytes of the file that ships, and a row for the checkpoint, each export and the damaged generator."""
    from gan_core.files.model_file import sha256_of
    from gan_trainer.evaluation.generators import open_model

    def row(variant: str, path: Path, file: str, options: dict[str, str], damage: str = "") -> Json:
        generator, about = open_model(path, device=evaluator.device, provider="auto")
        generator.contract = with_interface(generator.contract, class_names=source.interface.class_names)
        found = evaluator.evaluate(generator, model=about | {"file": file})
        console.note(f"{variant}: distance {found.metrics.distance:.3f}, real images {found.floor.distance:.3f}")
        return {
            "variant": variant,
            "file": file,
            "sha256": sha256_of(path),
            "size_bytes": path.stat().st_size,
            "options": options,
            "damage": damage,
            "parity": generator.contract.parity or None,
            "evaluation": found.to_json(),
        }

    variants = export_all(source, folder, stem)
    first = next(variants)
    shipped = _checked(first, max_bytes)  # before anything is measured
    rows = [row("checkpoint", ckpt, ckpt.name, {})]
    rows += [row(each.name, each.path, each.path.name, each.options, each.damage) for each in chain([first], variants)]
    return shipped, rows


def _checked(variant: Variant, max_bytes: int) -> bytes:
    content = variant.path.read_bytes()
    if len(content) > max_bytes:
        raise JobError(
            f"{variant.path.name} has {len(content):,} bytes, the most to ship is {max_bytes:,}",
            hint="train a smaller one (--width), or raise --max-bytes",
        )
    return content


def _check_damage(rows: list[Json]) -> None:
    """Raises `JobError` when the damaged generator is not clearly worse than every export."""
    distances = {row["variant"]: _distance(row["evaluation"]) for row in rows}
    worst = max(value for name, value in distances.items() if name != DAMAGED)
    if distances[DAMAGED] < CLEARLY_WORSE * worst:
        raise JobError(
            f"a damaged copy is at distance {distances[DAMAGED]:.3f}, an export at {worst:.3f}: "
            "the evaluation does not see damage, or the model is no better than noise",
            hint="train it further, or measure more images with --n",
        )


def _distance(evaluation: Json) -> float:
    from gan_trainer.evaluation import Evaluation

    return Evaluation.from_json(evaluation).metrics.distance


def _machine(training: Json, here: Json) -> str:
    """This machine, as the one that trained: its GPU or its CPU, by the training's device."""
    hardware = here["hardware"]
    if str(training.get("device", "cpu")).startswith("cuda") and hardware["gpus"]:
        return str(hardware["gpus"][0])
    return f"{hardware['cores_usable']} CPU cores, {hardware['cpu']}"


def _in_repository(file: Path) -> str:
    """The record's path as the card names it: below the repository's root where it lies there."""
    absolute = file.resolve()
    for folder in absolute.parents:
        if (folder / "pyproject.toml").is_file():
            return absolute.relative_to(folder).as_posix()
    return file.name


NAMES = {
    "checkpoint": "the checkpoint, in PyTorch",
    SHIPPED: "**the file that ships** (`--store fp16`)",
    "fp32": "exported in fp32",
    "fp16": "`--precision fp16`",
    "int8": "`--precision int8`",
    "damaged": "damaged",
}


def card(record: Json, record_name: str) -> str:
    """Two tables and their sentences. `record_name` is the record's path in the repository."""
    training, generator, shipped = record["training"], record["generator"], record["shipped"]
    found = _evaluations(record)[SHIPPED]
    facts = [
        ("network", f"{generator['name']}: {generator['parameters']:,} weights, latent of {generator['z_dim']}"),
        ("file", f"{bytes_text(shipped['size_bytes'])}, sha256 `{shipped['sha256']}`"),
        ("trained on", f"{training['data']['name']}, {training['data']['images']:,} images"),
        ("with", f"`{training['command']}`"),
        ("for", f"{training['steps']:,} steps, {training['images']:,} images, {_minutes(training)}"),
        ("on", f"{training['trained_on']} ({training['speed']})"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts), ""]
    if record["note"]:
        lines += [f"{record['note']}", ""]
    lines += [
        f"How good, by `gan-train eval` ([evaluation.md](evaluation.md)): {found.n:,} images of seeds {found.seed} … "
        f"{found.seed + found.n - 1} against {found.n_real:,} real ones, on features *{found.features.id} "
        f"{found.features.hash}*: {found.features.text}.",
        "",
        *_table(record),
        "",
    ]
    damage = next(row["damage"] for row in record["rows"] if row["damage"])
    lines += [f"PSNR is the proof's, against PyTorch. *Damaged*: {damage}, exported and proved like the others."]
    lines += _classes(record)
    return "\n".join([*lines, "", f"(Record: [{Path(record_name).name}](../{record_name}).)"])


def write_card(page: Path, model: str, text: str) -> None:
    """Puts `text` between the marks of `model` in a page. Raises `GanportError` for a page without them."""
    begin, end = marks(model)
    head, _, tail = _parts(page, model)
    write_text(page, f"{head}{begin}\n{text}\n{end}{tail}")


def held_card(page: Path, model: str) -> str:
    """What stands between the marks of `model`. Raises `GanportError` for a page without them."""
    return _parts(page, model)[1].strip("\n")


def _parts(page: Path, model: str) -> tuple[str, str, str]:
    begin, end = marks(model)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise GanportError(f"{page} lacks the lines {begin!r} and {end!r}", hint="put them where the facts belong")
    head, rest = text.split(begin)
    held, tail = rest.split(end)
    return head, held, tail


def marks(model: str) -> tuple[str, str]:
    """The lines before and after the facts."""
    return f"<!-- {model}: facts, written by python -m lab.ship -->", f"<!-- {model}: end of facts -->"


def _evaluations(record: Json) -> dict[str, Evaluation]:
    from gan_trainer.evaluation.results import Evaluation

    return {row["variant"]: Evaluation.from_json(row["evaluation"]) for row in record["rows"]}


def _table(record: Json) -> list[str]:
    evaluations = _evaluations(record)
    labels = evaluations[SHIPPED].of_classes
    floor = evaluations[SHIPPED].floor.cells(labels)
    lines = [
        "| | size | PSNR | " + " | ".join(floor) + " |",
        "|---|--:|--:|" + "--:|" * len(floor),
    ]
    for row in record["rows"]:
        psnr = (row["parity"] or {}).get("psnr_db")
        cells = [NAMES[row["variant"]], bytes_text(row["size_bytes"]), "" if psnr is None else f"{psnr:.0f} dB"]
        cells += evaluations[row["variant"]].metrics.cells(labels).values()
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, f"| {' | '.join(['real images', '', '', *floor.values()])} |"]


def _classes(record: Json) -> list[str]:
    """How often the shipped file's images of each class are taken for it."""
    found = _evaluations(record)[SHIPPED]
    rates, of_real = found.metrics.class_accuracies, found.floor.class_accuracies
    if not rates:
        return []
    each = [
        f"{name} {rate:.0%} ({real:.0%})"
        for name, rate, real in zip(found.data["class_names"], rates, of_real, strict=True)
        if rate is not None and real is not None
    ]
    return ["", f"Images of each class that the classifier takes for it, and of real ones: {', '.join(each)}."]


def _minutes(training: Json) -> str:
    minutes = float(training["minutes"])
    return f"{minutes:.3g} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
