"""What happens to a file that a user gives to gan-export, unasked: right, wrong, asked about, or refused."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_export.answers import Answers
from gan_export.draft import Draft
from gan_export.identify import Identified, check_possible, identify
from gan_export.understanding.understand import draft_with_spec
from lab.odds.examples import Example, Reference
from lab.odds.fitting import BINS

RIGHT, WRONG, FIRST = "unasked and right", "unasked and wrong", "row 1"
LISTED, ABSENT, REFUSED, TOO_LONG = "on the sheet", "not on the sheet", "refused", "took too long"
OUTCOMES = (RIGHT, FIRST, LISTED, ABSENT, REFUSED, TOO_LONG, WRONG)


def check(example: Example) -> Json:
    """What identifying this file ends in, as a row of the record."""
    start = time.process_time()
    row: Json = {"outcome": REFUSED, "row": None, "odds": None, "says": "", "doubts": ""}
    try:
        identified = identify(example.checkpoint, Answers())
        check_possible(identified)
    except GanportError as error:
        return row | {"says": _without_path(str(error), example), "seconds": round(time.process_time() - start, 1)}
    row["seconds"] = round(time.process_time() - start, 1)
    draft = identified.draft
    if draft is None:
        return row | {"says": "a checkpoint of ganport's own"}
    truth = example.truth()
    right = truth.drawn_by(_as_saved(identified))
    row |= {"odds": None if draft.odds is None else round(draft.odds, 1), "says": says(draft)}
    row["law"] = draft.spec.interface.latent if example.law in ("", draft.spec.interface.latent) else "wrong"
    if not identified.unanswered and not identified.doubts:
        return row | {"outcome": RIGHT if right else WRONG}
    row["doubts"] = "; ".join(identified.doubts)
    at = 1 if right else _row_of(draft, truth)
    return row | {"outcome": ABSENT if at is None else FIRST if at == 1 else LISTED, "row": at}


def _row_of(draft: Draft, truth: Reference) -> int | None:
    """The number of the row of the sheet that shows the true generator; None where none does."""
    from gan_export.asking import ranked

    drafts = [one.draft for one in draft.ranked]
    return next((one.number for one in ranked(draft) if truth.drawn_by(drafts[one.number - 1])), None)


def _as_saved(identified: Identified) -> Draft:
    """The draft with the running statistics of the file, which its author's network has, too, where others were
    computed."""
    draft = identified.draft
    assert draft is not None
    return draft_with_spec(identified.reading.tensors, draft.spec) if draft.recomputed else draft


def calibration(rows: Sequence[Json]) -> list[Json]:
    """How many of the likeliest generators claim odds in each of `BINS`, and how many of those are right."""
    told = [row for row in rows if row.get("odds") is not None]
    found = []
    for low, high in itertools.pairwise((0.0, *BINS)):
        inside = [row["outcome"] in (RIGHT, FIRST) for row in told if low <= row["odds"] < high]
        found.append({"from": low, "to": high if high < math.inf else None, "all": len(inside), "right": sum(inside)})
    return found


def says(draft: Draft) -> str:
    """What the likeliest reading says of what was open, in words."""
    return draft.ranked[0].words if draft.ranked else ""


def _without_path(message: str, example: Example) -> str:
    return message.replace(f"{example.checkpoint}: ", "").replace(str(example.checkpoint.parent), "")


def totals(rows: Sequence[Json]) -> Json:
    """How many files end in each of `OUTCOMES`, and in per cent; and how many are right in row 1, and on the sheet."""
    count = Counter(row["outcome"] for row in rows)
    first = count[RIGHT] + count[FIRST]
    sums = {"right_in_row_1": first, "right_on_the_sheet": first + count[LISTED]}
    named = {outcome: count[outcome] for outcome in OUTCOMES} | sums
    percent = {name: round(100 * n / max(1, len(rows)), 1) for name, n in named.items()}
    return {"files": len(rows), "count": named, "per_cent": percent}
