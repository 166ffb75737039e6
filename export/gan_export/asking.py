"""When a draft rests on assumptions: what a person needs to decide.

Beside the target go `NAME.candidates.png` (one row of images for each thing that an open choice may be) and
`NAME.spec.json` (the draft, to edit and pass back with --spec).
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.files.atomic import write_bytes, write_text
from gan_core.golden import inputs
from gan_core.images import to_pixels
from gan_core.latents import check_seeds, default_labels
from gan_core.said import size_text
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.assumptions import CODE, STATISTICS, code_of, describe, describe_value, odds_text, unanswered
from gan_export.draft import Choice, Draft
from gan_export.forensics import fitting
from gan_export.hypotheses.judging import percent
from gan_export.identify import Identified, module_of, source_of
from gan_export.inspection import Kind, advise, export_command
from gan_export.source import as_taken
from gan_export.told import normed
from gan_export.understanding.understand import drafts_with_spec
from gan_serve.terminal import console

MARGIN = 12
GAP = 4
TEXT_SIZE = 15
MIN_SIDE = 64
MIN_WIDTH = 640
INK, PAPER = (20, 20, 20), (255, 255, 255)

IMAGES_A_ROW = 10
MAX_ROWS = 12
LEAST = 2e-4
"""Candidates less likely than this are not shown."""
LATENTS = 256
"""That a row's running statistics are computed again from, at most."""
ELEMENTS = 1 << 25
"""Numbers of the largest layer that are drawn at a time (128 MiB of float32)."""


def contact_sheet(rows: Sequence[tuple[str, U8]], footer: str = "") -> Image.Image:
    """An RGB picture of `rows`: (label, pixels uint8 (n, H, W, C)), one under the other, and a line of text below.

    Images smaller than 64 pixels are enlarged by a whole factor, without smoothing; long labels are wrapped.
    """
    font = ImageFont.load_default(size=TEXT_SIZE)
    strips = [_strip(pixels) for _, pixels in rows]
    width = max(MIN_WIDTH, *(strip.width for strip in strips))
    labels = [_wrapped(label, width, font.getlength) for label, _ in rows]
    line = TEXT_SIZE + GAP
    last = _wrapped(footer, width, font.getlength)
    height = sum(strip.height + len(lines) * line + MARGIN for strip, lines in zip(strips, labels, strict=True))
    height += len(last) * line
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for lines, strip in zip(labels, strips, strict=True):
        for text in lines:
            draw.text((MARGIN, top), text, font=font, fill=INK)
            top += line
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + MARGIN
    for text in last:
        draw.text((MARGIN, top), text, font=font, fill=INK)
        top += line
    return sheet


def _wrapped(label: str, width: int, measure: Callable[[str], float]) -> list[str]:
    """The label in lines of at most `width` pixels; Pillow's own font has no arrow."""
    lines: list[str] = []
    for word in label.replace("→", "to").split():
        if lines and measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _strip(pixels_NHWC: U8) -> Image.Image:
    """One row of images, GAP pixels apart."""
    n, height, width, channels = pixels_NHWC.shape
    factor = max(1, -(-MIN_SIDE // min(height, width)))
    big = pixels_NHWC.repeat(factor, axis=1).repeat(factor, axis=2)
    strip = np.full((height * factor, n * (width * factor + GAP) - GAP, 3), 255, np.uint8)
    for index in range(n):
        left = index * (width * factor + GAP)
        strip[:, left : left + width * factor] = big[index] if channels == 3 else big[index][..., :1]
    return Image.fromarray(strip)


def ask(identified: Identified, target: Path) -> GanportError:
    """Writes the sheet and the spec beside `target`; the error that asks the user to look at them and decide."""
    draft, ckpt = identified.draft, identified.reading.path
    assert draft is not None
    sheet, spec = target.with_suffix(".candidates.png"), target.with_suffix(".spec.json")
    picture = sheet_of(candidates_of(identified))
    write_bytes(sheet, picture)
    write_text(spec, draft.spec.dumps())
    asked = unanswered(draft)
    together = "" if draft.open_choices else f" all choices together ({odds_text(draft)}); least sure is"
    console.note(f"{ckpt}: the file does not settle{together}")
    for line in _asked_lines(asked):
        console.show(console.wrap(line, first="  ", rest=" " * 6), sys.stderr)
    for note in draft.notes:
        console.show(console.wrap(note, first="  ", rest=" " * 6), sys.stderr)
    console.show_picture(picture, sys.stderr)
    page = target.with_suffix(".candidates.html").name
    console.note(f"  as a page: {export_command(identified, '--html', page, verb='inspect')}")
    advice = advise(identified)
    own = f"give the network's own code, --module {code_of(identified.reading)}, or edit {spec} and pass it with --spec"
    if advice.kind is Kind.NOT:
        return GanportError(
            f"{ckpt}: {'; '.join(identified.doubts)}, expected a draft that fits: its images are likely wrong",
            hint=f"{own}; {sheet} shows what the draft generates, --accept exports it all the same",
        )
    if [choice.field for choice in asked] == [STATISTICS]:
        return GanportError(
            f"{ckpt} holds running statistics that are of no use, expected a generator for eval mode",
            hint=f"look at {sheet}; if row 1 is right, add --recompute-stats, if the last, --no-recompute-stats",
        )
    if _norms_asked(draft):
        return GanportError(
            f"{ckpt} does not say which statistics its BatchNorms use, those of each image or its own",
            hint=f"--image-stats, as the code's test.py does, or --no-image-stats, as with --eval; {sheet} shows both",
        )
    said = f"give {' '.join(advice.options)} if you know it, {advice.why}; else " if advice.kind is Kind.SAY else ""
    return GanportError(
        f"{ckpt} rests on {len(asked)} assumption{'s' * (len(asked) > 1)}, expected a generator that is known",
        hint=f"{said}look at {sheet}; if row 1 is right, add --accept, if another, --pick its number; "
        f"if none is, {own}",
    )


def _norms_asked(draft: Draft) -> bool:
    """Whether it is open, and nothing else is, which statistics the BatchNorms use."""
    return {choice.field for choice in unanswered(draft)} == {"norm"}


def _asked_lines(asked: Sequence[Choice]) -> list[str]:
    """A line for each open choice, those together that are made as one."""
    together: dict[tuple[str, str], list[Choice]] = {}
    for choice in asked:
        together.setdefault((choice.field, choice.reason), []).append(choice)
    lines = []
    for (_, reason), choices in together.items():
        first = choices[0]
        if len(choices) > 1:
            layers = ", ".join(str(choice.layer) for choice in choices)
            lines.append(f"layers {layers} {first.field} {describe_value(first.value)} ({first.evidence}): {reason}")
        else:
            lines.append(f"{describe(first)} ({first.evidence}): {reason}")
    return lines


@dataclass(frozen=True)
class Candidate:
    """One whole generator that the file may be.

    number      for `pick`; 0 where there is nothing to pick from
    likelihood  among all, 0 … 1; 0 for what is shown to compare with, and is none of them
    words       what it says of what is open
    pixels      uint8 (10, H, W, C), of the seeds 0 … 9
    """

    number: int
    likelihood: float
    words: str
    pixels: U8

    @property
    def label(self) -> str:
        """Its line above its images: "3 (4 %): activation relu"."""
        return f"{self.number or 1} ({percent(self.likelihood)}): {self.words}" if self.likelihood else self.words


def candidates_of(identified: Identified) -> list[Candidate]:
    """The whole generators that the file may be, the likeliest first; of a settled one, itself."""
    draft = identified.draft
    if draft is not None and draft.ranked:
        return [*ranked(draft), *_as_it_stands(identified)]
    if draft is not None and _norms_asked(draft):
        each, own = (draw(normed(draft, image_stats)) for image_stats in (True, False))
        return [
            Candidate(0, 0.0, "with the statistics of each image: --image-stats", each),
            Candidate(0, 0.0, "with the running statistics: --no-image-stats", own),
        ]
    source = source_of(identified)
    assert source.spec is not None
    words = "" if draft is None else ", ".join(map(describe, draft.open_choices))
    return [Candidate(0, 1.0, words, _drawn(source.spec, source.module))]


def ranked(draft: Draft) -> list[Candidate]:
    """Those that the odds list; what draws the same pixels as one before it is left out."""
    anew = ", statistics recomputed" if draft.recomputed else ""
    found: list[Candidate] = []
    for number, one in enumerate(draft.ranked, 1):
        if len(found) == MAX_ROWS or (found and one.likelihood < LEAST):
            break
        pixels_NHWC = draw(replace(one.draft, recomputed=min(one.draft.recomputed, LATENTS)))
        if not any(np.array_equal(pixels_NHWC, known.pixels) for known in found):
            words = f"{one.words}{_size(one.draft, draft)}{anew}"
            found.append(Candidate(number, one.likelihood, words, pixels_NHWC))
    return found


def _as_it_stands(identified: Identified) -> list[Candidate]:
    """The likeliest with the running statistics of the file, where those are of no use."""
    draft = identified.draft
    assert draft is not None
    if not any(choice.field == STATISTICS for choice in unanswered(draft)):
        return []
    try:
        plain = fitting(drafts_with_spec(identified.reading.tensors, draft.spec))
    except GanportError:  # its weights were made of the file's
        return []
    words = "the likeliest with the file's own running statistics: --no-recompute-stats"
    return [Candidate(0, 0.0, words, draw(plain))]


def sheet_of(candidates: Sequence[Candidate]) -> bytes:
    """The contact sheet of candidates, as PNG."""
    picture = io.BytesIO()
    rows = [(one.label, one.pixels) for one in candidates]
    contact_sheet(rows, f"none of these: give the network's own code, --module {CODE}").save(picture, "PNG")
    return picture.getvalue()


def _size(other: Draft, draft: Draft) -> str:
    """The image's size, where it is another than the draft's."""
    image = other.spec.interface.image
    return "" if image == draft.spec.interface.image else f", {size_text(image)}"


def draw(draft: Draft, n: int = IMAGES_A_ROW) -> U8:
    """Pixels uint8 (n, H, W, C) of seeds 0 … n - 1, drawn by PyTorch in eval mode."""
    return _drawn(draft.spec, module_of(draft), n)


def _drawn(spec: GeneratorSpec, module: nn.Module, n: int = IMAGES_A_ROW) -> U8:
    seeds = check_seeds(range(n))
    given = [as_taken(torch.from_numpy(inputs(spec.interface, seeds)), spec.interface.input)]
    if spec.interface.n_classes:
        given.append(torch.from_numpy(default_labels(seeds, spec.interface.n_classes)))
    at_once = max(1, ELEMENTS // max(map(math.prod, spec.shapes)))
    batches = zip(*(values.split(at_once) for values in given), strict=True)
    with torch.inference_mode():
        return np.concatenate([to_pixels(module(*batch).numpy(), spec.interface.value_range) for batch in batches])
