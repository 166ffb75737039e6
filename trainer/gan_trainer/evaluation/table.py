"""Evaluations as a table of models and, last, real images. One table holds one kind of features."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from gan_core.printable import printable
from gan_serve.terminal import console
from gan_trainer.evaluation.results import Evaluation, Metrics

WIDTH = 80
RARE = 0.2
"""A class is called rare when it has less than this share of what it has in the data."""


def render(evaluations: Sequence[Evaluation]) -> str:
    """The table and what to know beside it. All evaluations are of one feature set and data set."""
    first = evaluations[0]
    labels = any(map(has_labels, evaluations))
    forms = columns(first.metrics, labels)
    rows = [[name_of(each), *_cells(each.metrics, forms, labels)] for each in evaluations]
    rows.append(["real images", *_cells(first.floor, forms, labels)])
    lines = [
        f"{printable(str(first.data['name']))}, {first.data['size']}x{first.data['size']}: "
        f"{first.n:,} images of seeds {first.seed} … "
        f"{first.seed + first.n - 1} against {first.n_real:,} real ones",
        _filled(f"features {first.features.id} {first.features.hash}: {first.features.text}"),
        "",
        _narrow([["", *(name for name, _ in forms)], *rows]),
    ]
    if first.n_floor != first.n:
        text = (
            f"The real images are {first.n_floor:,} against {first.n_floor:,}: their distances are larger than of more"
        )
        lines += ["", _filled(text)]
    return "\n".join([*lines, *_classes(evaluations)])


def name_of(evaluation: Evaluation) -> str:
    """What a row is headed with."""
    return str(evaluation.model.get("file") or evaluation.model.get("kind") or "model")


def columns(metrics: Metrics, labels: bool) -> list[tuple[str, str]]:
    """(heading, format) of the columns that these features give; ↓: lower is better, ↑: higher is."""
    if metrics.sliced:
        return [("SWD↓", ".2f"), *((f"{side}px↓", ".2f") for side, _ in metrics.sliced)]
    names = [
        ("Fréchet↓", ".3f"), ("kernel↓", ".4f"), ("±", ".4f"), ("precision↑", ".3f"), ("recall↑", ".3f"),
        ("density↑", ".3f"), ("coverage↑", ".3f"),
    ]  # fmt: skip
    return [*names, ("class right↑", ".1%")] if labels else names


def values(metrics: Metrics, labels: bool) -> list[float | None]:
    """The numbers of a row, in the order of `columns`."""
    if metrics.sliced:
        return [metrics.sliced_mean, *(value for _, value in metrics.sliced)]
    row = [metrics.frechet, metrics.kernel, metrics.kernel_spread, metrics.precision, metrics.recall, metrics.density,
           metrics.coverage]  # fmt: skip
    return [*row, metrics.label_accuracy] if labels else row


def has_labels(evaluation: Evaluation) -> bool:
    """Whether the model was asked for classes and a classifier judged them."""
    return bool(evaluation.model.get("conditional")) and evaluation.features.id == "classifier"


def _cells(metrics: Metrics, forms: list[tuple[str, str]], labels: bool) -> list[str]:
    pairs = zip(values(metrics, labels), forms, strict=True)
    return ["" if value is None else format(value, form) for value, (_, form) in pairs]


def _filled(text: str) -> str:
    return textwrap.fill(printable(text), WIDTH, break_on_hyphens=False)


def _narrow(rows: Sequence[Sequence[str]]) -> str:
    """The table, its first row a header, or the same with rows and columns exchanged: the one that is less wide."""
    shown = [
        console.table(each[0], each[1:], right=range(1, len(each[0]))) for each in (rows, [*zip(*rows, strict=True)])
    ]
    return min(shown, key=lambda text: text.index("\n"))


def _classes(evaluations: Sequence[Evaluation]) -> list[str]:
    """What the classifier says of the classes: how many are right, or which are hardly drawn."""
    first = evaluations[0]
    names = first.data["class_names"]
    judged = [(name_of(each), each.metrics.class_accuracies) for each in evaluations if each.metrics.class_accuracies]
    lines = []
    if judged:
        judged.append(("real images", first.floor.class_accuracies))
        header = ["drawn as and taken for", *(name for name, _ in judged)]
        shares = zip(names, *(shares or [None] * len(names) for _, shares in judged), strict=True)
        rows = [[name, *("" if share is None else f"{share:.0%}" for share in of)] for name, *of in shares]
        lines += ["", console.table(header, rows, right=range(1, len(header)))]
    for each in evaluations:
        if not each.metrics.class_accuracies:
            pairs = zip(names, each.metrics.class_shares, each.floor.class_shares, strict=False)
            rare = [name for name, share, real in pairs if share < RARE * real]
            lines += ["", printable(f"{name_of(each)}: hardly any {', '.join(rare)}")] if rare else []
    return lines
