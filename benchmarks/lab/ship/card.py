"""The facts of a model that ships, as Markdown from its record: docs/models.md holds them between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.atomic import write_text
from gan_serve.gen.outputs import size_text
from lab.ship.variants import SHIPPED

if TYPE_CHECKING:
    from gan_trainer.evaluation.results import Evaluation


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
        ("file", f"{size_text(shipped['size_bytes'])}, sha256 `{shipped['sha256']}`"),
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
        cells = [NAMES[row["variant"]], size_text(row["size_bytes"]), "" if psnr is None else f"{psnr:.0f} dB"]
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
