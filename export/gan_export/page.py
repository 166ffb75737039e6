"""The sheet of candidates as one page: HTML and CSS in one file, pictures inlined; no script, nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

import gan_core
from gan_core.arrays import U8
from gan_core.printable import printable
from gan_export.asking import Candidate
from gan_export.assumptions import code_of
from gan_export.hypotheses.judging import percent
from gan_export.identify import Identified
from gan_export.inspection import Advice, Kind, export_command, facts_of, headline

MAX_SIDE = 256
"""Pixels of an image in the page; larger ones are made smaller."""
STYLE = """
:root { --paper: #fbfaf8; --card: #fff; --ink: #1c1b1a; --soft: #6b6762; --rule: #e4e0da; --mark: #1565c0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161514; --card: #201f1d; --ink: #ece8e2; --soft: #a39d95; --rule: #3a3733; --mark: #6db3ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
ol { list-style: none; margin: 0; padding: 0; }
li { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem; margin: .8rem 0; }
.likely { color: var(--mark); margin-left: .6rem; font-variant-numeric: tabular-nums; }
.strip { display: flex; flex-wrap: wrap; gap: 4px; margin: .6rem 0; }
.strip img { width: calc(10% - 3.6px); min-width: 3rem; height: auto; background: #000; image-rendering: pixelated; }
pre { margin: .5rem 0 0; padding: .5rem .7rem; border-radius: 6px; background: var(--paper); }
pre, dd { white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .85rem/1.4 ui-monospace, monospace; }
dl { margin: 0; display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; }
dt, .soft, footer { color: var(--soft); }
dd { margin: 0; }
footer { margin-top: 3rem; font-size: .875rem; }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } .strip img { width: calc(20% - 4px); }
}
"""


def page_of(identified: Identified, advice: Advice, candidates: Sequence[Candidate]) -> str:
    """The whole page. Every text from the file is escaped."""
    name = _text(identified.reading.path.name)
    rows = [_row(identified, one) for one in candidates]
    if identified.draft is not None:
        code = export_command(identified, "--module", code_of(identified.reading))
        rows.append(f"<li><h3>None of these</h3><p>Give the network's own code.</p>{_command(code)}</li>")
    title = "What it may be" if len(candidates) > 1 else "What it generates"
    leads = {Kind.EXPORT: "Everything is settled.", Kind.LOOK: "Take the row whose images are right."}
    lead = leads.get(advice.kind, advice.why)
    parts = [
        f"<h1>{name}</h1>\n{_pairs(facts_of(identified))}",
        f"<h2>{title}</h2>\n<p>{_text(lead)}</p>\n<ol>\n" + "\n".join(rows) + "\n</ol>",
        _evidence(identified),
        f"<footer>gan-export inspect, ganport {gan_core.__version__}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{name} · ganport</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main>\n</body>\n</html>\n"
    )


def _row(identified: Identified, one: Candidate) -> str:
    picked = ("--pick", str(one.number)) if one.number else () if one.likelihood else ("--no-recompute-stats",)
    likely = "" if not one.number else f'<span class="likely">{_text(percent(one.likelihood))}</span>'
    images = "".join(_image(pixels, seed) for seed, pixels in enumerate(one.pixels))
    return (
        f"<li><h3>{one.number or (1 if one.likelihood else '')}{likely}</h3><p>{_text(one.words)}</p>"
        f'<div class="strip">{images}</div>{_command(export_command(identified, *picked))}</li>'
    )


def _image(pixels_HWC: U8, seed: int) -> str:
    height, width, channels = pixels_HWC.shape
    picture = Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    data = io.BytesIO()
    picture.save(data, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return f'<img alt="Seed {seed}" width="{width}" height="{height}" src="{uri}">'


def _evidence(identified: Identified) -> str:
    """The choices, each with its evidence and why, and what is said of the file as a whole."""
    draft = identified.draft
    if draft is None:
        return ""
    rows = "".join(
        f'<dt>{_text(choice.evidence)}</dt><dd>{_text(headline(choice))}<p class="soft">{_text(choice.reason)}</p></dd>'
        for choice in draft.choices
    )
    notes = "".join(f"<p>{_text(note)}</p>" for note in draft.notes)
    return f"<h2>What the weights do not carry</h2>\n<dl>{rows}</dl>\n{notes}"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in pairs) + "</dl>"


def _command(line: str) -> str:
    return f"<pre><code>{_text(line)}</code></pre>"


def _text(text: str) -> str:
    """`text` for HTML: markup and unsafe characters written out."""
    return html.escape(printable(text))
