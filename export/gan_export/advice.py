"""What to do with a draft, by its evidence: what a careful friend would type next."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gan_core.printable import shell_line
from gan_export.assumptions import misfit_of, size_text, tie_of, unanswered
from gan_export.draft import Draft
from gan_export.identify import Identified

CODE = "FILE.py:CLASS"
SETTLES = "the network's own code settles it"
SIZES = 4


class Kind(enum.StrEnum):
    """How far a draft is to be trusted."""

    EXPORT = "export"
    """Everything is settled."""
    LOOK = "look first"
    """A few choices are open, and the sheet of candidates shows what they change."""
    SAY = "say more"
    """The file leaves open what the user probably knows."""
    NOT = "do not export"
    """The draft is likely wrong."""


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    kind     how far the draft is to be trusted
    why      one sentence; empty for `EXPORT`
    options  what to add to the command that exports it: ("--image", "3x64x64")
    """

    kind: Kind
    why: str = ""
    options: tuple[str, ...] = ()


def advise(identified: Identified) -> Advice:
    """What to do with what was identified."""
    draft, answers, weights = identified.draft, identified.answers, identified.reading.which
    if draft is None:
        return Advice(Kind.EXPORT)
    asked, misfit, tie = unanswered(draft), draft.contradiction or misfit_of(draft), tie_of(draft)
    if misfit:
        other = "; or --raw, if the statistics are the raw weights'" if weights == "ema" and not answers.raw else ""
        return Advice(Kind.NOT, f"the draft is likely wrong: {misfit}; {SETTLES}{other}", ("--module", CODE))
    sizes = _sizes(draft) if any(choice.field == "structure" for choice in asked) else []
    if sizes and answers.image is None:
        why = f"the weights allow images of {', '.join(sizes)}"
        return Advice(Kind.SAY, why, ("--image", "CxHxW"))
    if tie:
        return Advice(Kind.NOT, f"the draft is likely wrong: {tie}; {SETTLES}", ("--module", CODE))
    if asked:
        open_ones = f"{len(asked)} choice{'s are' if len(asked) > 1 else ' is'} not settled"
        return Advice(Kind.LOOK, f"{open_ones}: it draws the candidates, look at them before you --accept")
    return Advice(Kind.EXPORT)


def next_command(identified: Identified, advice: Advice) -> str:
    """The command to type next, with the options that were needed to get here."""
    known = identified.answers.as_options()
    return shell_line(["gan-export", "onnx", "--ckpt", str(identified.reading.path), *known, *advice.options])


def _sizes(draft: Draft) -> list[str]:
    """The image sizes that the structures make, likeliest first, where there are several."""
    found = list(dict.fromkeys(size_text(each.spec.interface.image) for each in (draft, *draft.rivals)))
    return [] if len(found) < 2 else [*found[:SIZES], *["…"] * (len(found) > SIZES)]
