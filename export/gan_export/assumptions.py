"""What the reading of a stranger's file rests on, in words: what is asked, what is assumed, what speaks against it."""

from __future__ import annotations

import json
from typing import Any

from gan_core.said import size_text
from gan_core.spec.layers import Conv, ConvTranspose, Linear
from gan_export.answers import Answers
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.evidence import IDENTITY
from gan_export.forensics.statistics import GOOD

AS_YOU_SAID = "as you said"
EVEN = 2.0
"""Odds below which nothing is decided."""
CUSTOM = 20.0
"""How much likelier an activation or eps is where the author has it everywhere else that shows it."""
SURE = 100.0
"""Odds from which a choice is shown by the statistics: what is called strong."""


def unanswered(draft: Draft) -> tuple[Choice, ...]:
    """The open choices that an export must ask about.

    Not asked about, but said: an activation or eps that nothing can show, or that the statistics favour by less than
    they should, where the author did the same wherever it shows (see `_customary`); and the output activation, which is
    tanh in all but a few generators, unless the values before it speak against what is assumed.
    """
    return tuple(choice for choice in draft.open_choices if not _said_only(draft, choice))


def _said_only(draft: Draft, choice: Choice) -> bool:
    if choice.field == "output":
        return choice.odds is None or choice.odds >= SURE
    if choice.field not in ("activation", "eps") or not _customary(draft, choice):
        return False
    return choice.evidence is Evidence.NONE or (choice.odds is not None and choice.odds * CUSTOM >= SURE)


def _customary(draft: Draft, choice: Choice) -> bool:
    """Whether the file shows this value elsewhere, and no other (no activation at all apart). For an eps, one of those
    has to stand behind the same kind of layer: BatchNorm2d(n) behind the first Linear and BatchNorm2d(n, 0.8) behind
    the convolutions is one author's habit that many have copied."""
    shown = [c for c in draft.choices if c.field == choice.field and c.evidence.settled and c.value != IDENTITY]
    if choice.field == "eps":
        kind = _behind(draft, choice)
        if not any(_behind(draft, other) == kind for other in shown):
            return False
    return bool(shown) and all(_text(other.value) == _text(choice.value) for other in shown)


def _behind(draft: Draft, choice: Choice) -> str | None:
    """The kind of the last Linear or convolution in front of a choice's layer."""
    layers = draft.spec.layers[: choice.layer]
    return next((layer.kind for layer in reversed(layers) if isinstance(layer, (Linear, Conv, ConvTranspose))), None)


def assumptions_of(draft: Draft) -> tuple[str, ...]:
    """What neither the file nor its statistics show, one sentence each: "layer 3 eps 0.8 (weak, odds 12 : 1): why".

    These are the open choices, accepted or not worth asking about, and what is only known from a family's code.
    """
    assumed = [choice for choice in draft.choices if not choice.evidence.settled or _habit(choice)]
    return tuple(f"{_head(choice)}: {_why(choice)}" for choice in assumed)


def answers_of(draft: Draft, answers: Answers) -> tuple[str, ...]:
    """What the user said in the place of an assumption."""
    if answers.spec is not None:
        return ("the whole network, as a spec",)
    image = () if answers.image is None else (f"images of {size_text(answers.image)}",)
    return (*image, *(describe(choice) for choice in draft.choices if choice.reason == AS_YOU_SAID))


def doubts_of(draft: Draft) -> tuple[str, ...]:
    """Why the images of `draft` are likely wrong, one sentence each; empty where nothing speaks against it."""
    return tuple(filter(None, (draft.contradiction or misfit_of(draft), tie_of(draft))))


def misfit_of(draft: Draft) -> str:
    """The BatchNorms that nothing fits, while something in the draft is asked about, or in one of no known family is
    open; empty where all fit."""
    bad = [f"{number} by {fit:.2g}" for number, fit in enumerate(draft.fits, 1) if fit > GOOD]
    in_doubt = unanswered(draft) if draft.family != "chain" else draft.open_choices
    if not bad or not in_doubt:
        return ""
    return f"nothing that was tried fits BatchNorm {', '.join(bad)} (a good misfit is under {GOOD:g})"


def tie_of(draft: Draft) -> str:
    """The structures among which nothing decides, where there are three or more; empty otherwise."""
    open_structure = any(c.field == "structure" and (c.odds is None or c.odds < EVEN) for c in unanswered(draft))
    if not open_structure or len(draft.rivals) < 2:
        return ""
    return f"{len(draft.rivals) + 1} structures fit the weights, and nothing tells which is the right one"


def describe(choice: Choice) -> str:
    """A choice for people: "layer 3 eps 0.8", "latent law normal", "layer 7 activation leaky_relu 0.2"."""
    where = "" if choice.layer is None else f"layer {choice.layer} "
    field = {"latent": "latent law"}.get(choice.field, choice.field)
    return f"{where}{field} {describe_value(choice.value)}"


def describe_value(value: Any) -> str:
    """A choice's value for people."""
    if not isinstance(value, dict):
        return str(value)
    words = [str(value.get("name", value.get("mode", value.get("kind", ""))))]
    if "groups" in value:
        words.append(f"of {value['groups']} groups")
    if value.get("slope") is not None:
        words.append(f"{value['slope']:g}")
    if value.get("limits") is not None:
        words.append("({:g}, {:g})".format(*value["limits"]))
    if value.get("align_corners"):
        words.append("(align_corners)")
    if "value_range" in value:
        black, white = value["value_range"]
        words.append(f"in [{black:g}, {white:g}]")
    return " ".join(word for word in words if word) or json.dumps(value)


def odds_text(choice: Choice) -> str:
    """What the statistics say for a choice: "odds 12 : 1"; empty where they say nothing."""
    if choice.odds is None:
        return ""
    return f"odds {f'{choice.odds:.2g}' if choice.odds < 1000 else 'over 1000'} : 1"


def _habit(choice: Choice) -> bool:
    """Whether a settled choice is known from a family's code alone."""
    shown = choice.odds is not None and choice.odds >= SURE
    return choice.evidence is Evidence.STRONG and not shown and choice.reason.startswith("as ")


def _head(choice: Choice) -> str:
    """A structure's value is a line of its own, and goes into the sentence."""
    founded = ", ".join(filter(None, (choice.evidence, odds_text(choice))))
    return f"{'structure' if choice.field == 'structure' else describe(choice)} ({founded})"


def _why(choice: Choice) -> str:
    return f"{choice.value}; {choice.reason}" if choice.field == "structure" else choice.reason


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
