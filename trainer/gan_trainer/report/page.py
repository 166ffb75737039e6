"""The page of a run: HTML, CSS and a few lines of script in one file, pictures inlined; nothing is fetched."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import gan_core
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.recipes import MAX_ROWS, UNSCALED
from gan_trainer.report.charts import Curve, chart, escape, legend
from gan_trainer.report.gather import Picture, Run

LOSSES = (("loss_d", "loss of D"), ("loss_g", "loss of G"))
SCORES = (("d_x", "D(x), real images"), ("d_g_z1", "D(G(z)), before D's step"), ("d_g_z2", "D(G(z)), after it"))
SAME_LATENTS = "The same latents, drawn again and again while the training went on."
PLACE = ("step", "epoch", "images", "minutes")


def render(run: Run) -> str:
    """The whole page. Every text from the run is escaped."""
    recipe = run.config["recipe"]
    sections = [
        _header(run),
        _section("Fixed latents", _history(run), f"{SAME_LATENTS}{_rows(run)}"),
        _section("Real and generated", _compared(run)),
        _section("Curves", _curves(run)),
        _section("Evaluation", _evaluations(run)),
        _section("Configuration", _facts([*_flat(run.config), *_flat(recipe)])),
        _section("Provenance", _facts(list(run.provenance))),
    ]
    style, script = (files("gan_trainer.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(run.name)} · ganport</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + f"\n<footer>gan-train report, ganport {gan_core.__version__}</footer>\n</main>\n"
        + f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _section(title: str, body: str, lead: str = "") -> str:
    if not body:
        return ""
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section>\n<h2>{escape(title)}</h2>{lead}\n{body}\n</section>"


def _header(run: Run) -> str:
    config, recipe = run.config, run.config["recipe"]
    last = run.log[-1] if run.log else {}
    speeds = [line["images_per_s"] for line in run.log if _is_number(line.get("images_per_s"))]
    size, kind = recipe.get("size"), "RGB" if recipe.get("channels") == 3 else "grey"
    tiles = [
        ("data", config.get("data_name")),
        ("images", f"{_grouped(config.get('n_images'))} {kind}, {size}×{size}"),
        ("network", recipe.get("arch")),
        ("recipe", recipe.get("name")),
        ("steps", _grouped(last.get("step"))),
        ("minutes", f"{last['minutes']:,.1f}" if _is_number(last.get("minutes")) else None),
        ("images/s", _grouped(round(sorted(speeds)[len(speeds) // 2])) if speeds else None),
    ]
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in tiles if value is not None
    )
    return f'<header>\n<h1>{escape(run.name)}</h1>\n<dl class="tiles">{shown}</dl>\n</header>'


def _rows(run: Run) -> str:
    """What the rows of a sample are, where they are classes."""
    names = run.config.get("class_names")
    if run.config["recipe"].get("conditional") is not True or not isinstance(names, list) or not names:
        return ""
    return f" One row a class, from the top: {', '.join(map(str, names[:MAX_ROWS]))}."


def _history(run: Run) -> str:
    if not run.samples:
        return ""
    step, picture = run.samples[-1]
    image = _image(picture, f"Generated images at step {step}", 'id="sample"')
    if len(run.samples) == 1:
        return f"<figure>{image}<figcaption>step {step:,}</figcaption></figure>"
    frames = json.dumps([[at, each.uri] for at, each in run.samples])
    # "<" would let a text end the script element; the base64 and numbers here have none, whatever the file said.
    return (
        f"<figure>{image}<figcaption>"
        f'<button type="button" id="play" aria-pressed="false" hidden>Play</button>'
        f'<input type="range" id="frame" min="0" max="{len(run.samples) - 1}" value="{len(run.samples) - 1}" '
        f'aria-label="Step" hidden><output id="step" for="frame">step {step:,}</output></figcaption></figure>'
        f'<script type="application/json" id="frames">{frames.replace("<", chr(92) + "u003c")}</script>'
    )


def _compared(run: Run) -> str:
    captions = ("Real", "Generated")
    return "".join(
        f"<figure>{_image(picture, f'A grid of images: {caption.lower()}')}<figcaption>{caption}</figcaption></figure>"
        for picture, caption in zip(run.compared, captions, strict=False)
    ).join(('<div class="pair">', "</div>") if run.compared else ("", ""))


def _image(picture: Picture, alt: str, more: str = "") -> str:
    small = " pixelated" if picture.width < 400 else ""
    return (
        f'<img {more} class="grid{small}" alt="{escape(alt)}" width="{picture.width}" height="{picture.height}" '
        f'src="{picture.uri}">'
    )


def _curves(run: Run) -> str:
    known = {*(name for name, _ in (*LOSSES, *SCORES)), *PLACE, "images_per_s", "diversity"}
    unscaled = run.config["recipe"].get("loss") in UNSCALED
    others = sorted({name for line in run.log for name, value in line.items() if _is_number(value)} - known)
    groups: list[tuple[str, tuple[tuple[str, str], ...], tuple[float, float] | None]] = [
        ("Losses", LOSSES, None),
        ("Output of D", SCORES, None) if unscaled else ("Probability of real, as D sees it", SCORES, (0.0, 1.0)),
        ("Images per second", (("images_per_s", "images/s"),), None),
        ("Diversity of the samples", (("diversity", "share of the data's"),), None),
        *((name.replace("_", " "), ((name, name),), None) for name in others),
    ]
    steps = [float(line["step"]) for line in run.log]
    parts = []
    for title, columns, bounds in groups:
        curves = [
            Curve(label, [_value(line.get(name)) for line in run.log])
            for name, label in columns
            if any(math.isfinite(_value(line.get(name))) for line in run.log)
        ]
        if curves:
            drawn = chart(title, steps, curves, bounds=bounds)
            parts.append(f'<figure class="chart"><h3>{escape(title)}</h3><p>{legend(curves)}</p>{drawn}</figure>')
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def _evaluations(run: Run) -> str:
    parts = []
    for evaluation, current in run.evaluations:
        generated, real = (each.cells(evaluation.of_classes) for each in (evaluation.metrics, evaluation.floor))
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in generated)
        rows = "".join(
            f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells.values())}</tr>'
            for name, cells in (("generated", generated), ("real images", real))
        )
        info = evaluation.features
        parts.append(
            f"<p>{escape(info.text)} <code>{escape(info.id)} {escape(info.hash)}</code>; "
            f"{evaluation.n:,} images against {evaluation.n_real:,} real ones of "
            f"{escape(str(evaluation.data.get('name', 'the data')))}."
            f"{'' if current else _older(evaluation)}</p>"
            '<div class="wide" tabindex="0" role="region" aria-label="Numbers">'
            f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return "".join(parts)


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
            value = " ".join(f"{part:g}" if _is_number(part) else str(part) for part in reversed(value.values()))
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found.append(("recipe" if name == "name" else name.replace("_", " "), shown))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(value: Any) -> float:
    return float(value) if _is_number(value) else math.nan


def _grouped(value: Any) -> str | None:
    return f"{value:,}" if _is_number(value) else None
