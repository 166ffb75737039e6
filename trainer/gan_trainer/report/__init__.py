"""One HTML page about a run, whole in itself: `gan-train report`. No torch is needed.

gather   what the run's folder holds, and the run in words
charts   curves as SVG

HTML, CSS and a few lines of script in one file, pictures inlined; nothing is fetched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import gan_core
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.recipes import MAX_ROWS, UNSCALED
from gan_trainer.report.charts import Curve, chart, escape, legend
from gan_trainer.report.gather import Picture, Run, how_it_went, is_number, next_commands, what_was_trained

LOSSES = (("loss_d", "loss of D"), ("loss_g", "loss of G"))
SCORES = (("d_x", "D(x), real images"), ("d_g_z1", "D(G(z)), before D's step"), ("d_g_z2", "D(G(z)), after it"))
SAME_LATENTS = "Images of the same latents, as the training went on."
SAME_IMAGES = "Images that it was not trained on: reduced, by bicubic interpolation, by the upscaler, and the original."
PSNR = (("psnr_db", "the upscaler"), ("bicubic_psnr_db", "bicubic interpolation"))
RANDOM = "The real images were chosen at random."
PLACE = ("step", "epoch", "images", "minutes")

Group = tuple[str, tuple[tuple[str, str], ...], tuple[float, float] | None]
"""A chart's title, the names and labels of its curves, and its vertical range, where that is fixed."""


def render(run: Run, other: Run | None = None) -> str:
    """The whole page, of one run or of two beside each other. Every text from a run is escaped."""
    if other is None:
        size_kept = run.config["recipe"].get("scale", 1) == 1
        sections = [
            _header(run),
            _section("Samples", _film(run), f"{SAME_LATENTS if size_kept else SAME_IMAGES}{_rows(run)}"),
            _section("Real and generated", _compared(run), RANDOM),
            _section("Curves", _curves([run])),
            _section("Evaluation", _evaluations(run)),
            _section("Configuration", _configuration(run), what_was_trained(run)),
            _section("Provenance", _facts(list(run.provenance))),
            _section("Next", "".join(f"<pre>{escape(line)}</pre>" for line in next_commands(run))),
        ]
        title = run.name
    else:
        runs = (run, other)
        sections = [
            _beside(_header(each) for each in runs),
            _section("Samples", _beside(_film(each) for each in runs), SAME_LATENTS),
            _section("Real and generated", _beside(_compared(each) for each in runs), RANDOM),
            _section("Curves", _curves(runs)),
            _section("Evaluation", _beside(_evaluations(each) for each in runs)),
            _section("Where they differ", _differences(run, other)),
        ]
        title = f"{run.name} and {other.name}"
    style, script = (files("gan_trainer.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)} · ganport</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + f"\n<footer>gan-train report, ganport {gan_core.__version__}</footer>\n</main>\n"
        + f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _beside(parts: Iterable[str]) -> str:
    """Two parts as columns; nothing where both are empty."""
    columns = [*parts]
    return f'<div class="two">{"".join(f"<div>{each}</div>" for each in columns)}</div>' if any(columns) else ""


def _section(title: str, body: str, lead: str = "") -> str:
    if not body:
        return ""
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section>\n<h2>{escape(title)}</h2>{lead}\n{body}\n</section>"


def _header(run: Run) -> str:
    config, recipe = run.config, run.config["recipe"]
    last = run.log[-1] if run.log else {}
    speeds = [line["images_per_s"] for line in run.log if is_number(line.get("images_per_s"))]
    steps = [line["step"] for line in run.log[-1:] if is_number(line.get("step"))]
    reached = max([*steps, *(step for step, _ in run.samples[-1:])], default=None)
    size, kind = recipe.get("size"), "RGB" if recipe.get("channels") == 3 else "grey"
    tiles = [
        ("data", config.get("data_name")),
        ("images", f"{_grouped(config.get('n_images'))} {kind}, {size}×{size}"),
        ("network", recipe.get("arch")),
        ("recipe", recipe.get("name")),
        ("steps", _grouped(reached)),
        ("minutes", f"{last['minutes']:,.1f}" if is_number(last.get("minutes")) else None),
        ("images/s", _grouped(round(sorted(speeds)[len(speeds) // 2])) if speeds else None),
    ]
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in tiles if value is not None
    )
    told = "".join(f'<p class="told">{escape(text)}</p>' for text in [how_it_went(run)] if text)
    return f'<header>\n<h1>{escape(run.name)}</h1>\n{told}<dl class="tiles">{shown}</dl>\n</header>'


def _rows(run: Run) -> str:
    """What the rows of a sample are, where they are classes."""
    names = run.config.get("class_names")
    if run.config["recipe"].get("conditional") is not True or not isinstance(names, list) or not names:
        return ""
    return f" One row for each class, from the top: {', '.join(map(str, names[:MAX_ROWS]))}."


def _film(run: Run) -> str:
    if not run.samples:
        return ""
    step, picture = run.samples[-1]
    image = _image(picture, f"Generated images at step {step}")
    if len(run.samples) == 1:
        return f"<figure>{image}<figcaption>step {step:,}</figcaption></figure>"
    frames = json.dumps([[at, each.uri] for at, each in run.samples])
    # "<" would let a text end the script element; the base64 and numbers here have none, whatever the file said.
    return (
        f'<figure class="film">{image}<figcaption>'
        '<button type="button" aria-pressed="false" hidden>Play</button>'
        f'<input type="range" min="0" max="{len(run.samples) - 1}" value="{len(run.samples) - 1}" '
        f'aria-label="Step" hidden><output>step {step:,}</output></figcaption>'
        f'<script type="application/json">{frames.replace("<", chr(92) + "u003c")}</script></figure>'
    )


def _compared(run: Run) -> str:
    captions = ("Real", "Generated")
    return "".join(
        f"<figure>{_image(picture, f'A grid of images: {caption.lower()}')}<figcaption>{caption}</figcaption></figure>"
        for picture, caption in zip(run.compared, captions, strict=False)
    ).join(('<div class="pair">', "</div>") if run.compared else ("", ""))


def _image(picture: Picture, alt: str) -> str:
    small = " pixelated" if picture.width < 400 else ""
    return (
        f'<img class="grid{small}" alt="{escape(alt)}" width="{picture.width}" height="{picture.height}" '
        f'src="{picture.uri}">'
    )


def _curves(runs: Sequence[Run]) -> str:
    """A chart of each kind of number; of two runs one for each number, with both in it."""
    log = [line for run in runs for line in run.log]
    known = {*(name for name, _ in (*LOSSES, *SCORES, *PSNR)), *PLACE, "images_per_s", "diversity"}
    unscaled = any(run.config["recipe"].get("loss") in UNSCALED for run in runs)
    others = sorted({name for line in log for name, value in line.items() if is_number(value)} - known)
    groups: list[Group] = [
        ("Losses", LOSSES, None),
        ("PSNR of images that it was not trained on, dB", PSNR, None),
        ("Output of D", SCORES, None) if unscaled else ("Probability of real, as D sees it", SCORES, (0.0, 1.0)),
        ("Images per second", (("images_per_s", "images/s"),), None),
        ("Diversity of the samples", (("diversity", "share of the data's"),), None),
        *((name.replace("_", " "), ((name, name),), None) for name in others),
    ]
    if len(runs) > 1:
        groups = [
            (f"{title}: {label}" if len(columns) > 1 else title, ((name, label),), bounds)
            for title, columns, bounds in groups
            for name, label in columns
        ]
    parts = []
    for title, columns, bounds in groups:
        curves = [
            Curve(label if len(runs) == 1 else run.name, values, [float(line["step"]) for line in run.log])
            for run in runs
            for name, label in columns
            if any(map(math.isfinite, values := [_value(line.get(name)) for line in run.log]))
        ]
        if curves:
            drawn = chart(title, (), curves, bounds=bounds)
            parts.append(f'<figure class="chart"><h3>{escape(title)}</h3><p>{legend(curves)}</p>{drawn}</figure>')
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def _configuration(run: Run) -> str:
    facts = _facts([*_flat(run.config), *_flat(run.config["recipe"])])
    return f"<details><summary>Every setting</summary>{facts}</details>"


def _differences(run: Run, other: Run) -> str:
    """The settings in which two runs differ, as a table."""
    first, second = (dict([*_flat(each.config), *_flat(each.config["recipe"])]) for each in (run, other))
    names = [name for name in dict.fromkeys((*first, *second)) if first.get(name) != second.get(name)]
    if not names:
        return "<p>In no setting.</p>"
    rows = {name: [values.get(name, "not set") for values in (first, second)] for name in names}
    return _table("Settings", (run.name, other.name), rows)


def _evaluations(run: Run) -> str:
    parts = []
    for evaluation, current in run.evaluations:
        generated, real = (each.cells(evaluation.of_classes) for each in (evaluation.metrics, evaluation.floor))
        rows = {"generated": generated.values(), "real images": real.values()}
        info = evaluation.features
        parts.append(
            f"<p>{escape(info.text)} <code>{escape(info.id)} {escape(info.hash)}</code>; "
            f"{evaluation.n:,} images against {evaluation.n_real:,} real ones of "
            f"{escape(str(evaluation.data.get('name', 'the data')))}."
            f"{'' if current else _older(evaluation)}</p>" + _table("Numbers", generated, rows)
        )
    return "".join(parts)


def _table(name: str, columns: Iterable[str], rows: Mapping[str, Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for row, cells in rows.items()
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _older(evaluation: Evaluation) -> str:
    steps = evaluation.model.get("steps")
    at = f" at step {steps:,}" if isinstance(steps, int) else ""
    return f' <strong class="stale">Of an earlier g.pt{at}: evaluate again.</strong>'


def _facts(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _flat(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings as text; the recipe's own are listed after the run's, and those that are not set are left out."""
    found = []
    for name, value in values.items():
        if name == "recipe" or value is None:
            continue
        if name == "limit" and isinstance(value, dict):
            value = " ".join(f"{part:g}" if is_number(part) else str(part) for part in reversed(value.values()))
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found.append(("recipe" if name == "name" else name.replace("_", " "), shown))
    return found


def _value(value: Any) -> float:
    return float(value) if is_number(value) else math.nan


def _grouped(value: Any) -> str | None:
    return f"{value:,}" if is_number(value) else None
