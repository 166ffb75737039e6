"""What happens to a file that a user gives to gan-export, unasked: right, wrong, asked about, or refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_export.answers import Answers
from gan_export.draft import Draft, Evidence
from gan_export.forensics import fitting
from gan_export.identify import Identified, check_possible, identify
from gan_export.understanding.understand import drafts_with_spec
from lab.odds.examples import Example, Reference
from lab.odds.fitting import calibration
from lab.odds.scoring import FIELDS, score

RIGHT, WRONG, FIRST = "unasked and right", "unasked and wrong", "row 1"
LISTED, ABSENT, REFUSED, TOO_LONG = "on the sheet", "not on the sheet", "refused", "took too long"
STALE = "train-mode statistics"
"""The kind of which nothing may be exported unasked: its author saw other images."""
OUTCOMES = (RIGHT, FIRST, LISTED, ABSENT, REFUSED, TOO_LONG, WRONG)


def check(example: Example) -> Json:
    """What identifying this file ends in, as a row of the record."""
    start = time.process_time()
    row: Json = {"kind": example.kind, "outcome": REFUSED, "row": None, "odds": None, "right": False, "says": ""}
    row |= {"doubts": "", "choices": []}
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
    if (spec := example.spec) is not None:
        row["choices"] = [vars(one) for one in score(draft, spec)]
    row["law"] = draft.spec.interface.latent if example.law in ("", draft.spec.interface.latent) else "wrong"
    row["right"] = right and row["law"] != "wrong"
    if not identified.unanswered and not identified.doubts:
        return row | {"outcome": RIGHT if right and example.kind != STALE else WRONG}
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
    return fitting(drafts_with_spec(identified.reading.tensors, draft.spec)) if draft.recomputed else draft


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


def summary(rows: Sequence[Json]) -> Json:
    """What a record says of `rows`: totals, by kind too; how often claimed odds are right, of whole generators and of
    single choices; and, where the true networks are known, the choices by field and by evidence."""
    kinds = sorted({row["kind"] for row in rows} - {""})
    choices = [choice for row in rows for choice in row.get("choices", ())]
    whole = [(row["odds"], row["right"]) for row in rows if row.get("odds") is not None]
    single = [(choice["odds"], choice["verdict"] != "wrong") for choice in choices if choice["odds"] is not None]
    found: Json = {
        "totals": totals(rows),
        "kinds": {kind: totals([row for row in rows if row["kind"] == kind])["count"] for kind in kinds},
        "calibration": {"whole": calibration(whole), "single": calibration(single)},
        "fields": {field: _verdicts(c for c in choices if c["field"] == field) for field in FIELDS},
        "evidence": {word: _verdicts(c for c in choices if c["evidence"] == word) for word in Evidence},
        "confusion": {},
    }
    for choice in choices:
        if choice["verdict"] != "right":
            told = found["confusion"].setdefault(choice["field"], Counter())
            told[f"{choice['truth']} called {choice['found']}"] += 1
    return found


def _verdicts(choices: Iterable[Json]) -> Json:
    count = Counter(choice["verdict"] for choice in choices)
    return {"all": count.total()} | {verdict: count[verdict] for verdict in ("right", "near", "wrong")}
