"""What the reading of a stranger's file rests on, in words: what is asked, what is assumed, what speaks against it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gan_core.said import size_text
from gan_export.answers import Answers
from gan_export.draft import Choice, Draft, Evidence
from gan_export.families.stylegan2 import SOURCES
from gan_export.forensics.statistics import GOOD
from gan_export.reading import Reading
from gan_export.reading.authors_code import classes_of

AS_YOU_SAID = "as you said"
STATISTICS = "statistics"
"""The field of the choice that says where running statistics come from."""
EVEN = 2.0
"""Odds below which nothing is decided."""
SURE = 100.0
"""Odds from which a choice is shown by the statistics: what is called strong."""
LISTED_ALIKE = 3
"""So many layers of which the same is assumed are listed one by one."""


def unanswered(draft: Draft) -> tuple[Choice, ...]:
    """The open choices that an export must ask about: all that no odds of 100 : 1 settle, and, where the odds of the
    whole generator are lower, the choice with the least of its own."""
    asked = draft.open_choices
    if asked or draft.odds is None or draft.odds >= SURE:
        return asked
    return tuple(sorted((c for c in draft.choices if c.odds is not None), key=lambda c: c.odds or 0.0)[:1])


def assumptions_of(draft: Draft) -> tuple[str, ...]:
    """What neither the file nor its statistics show, one sentence each: "layer 3 eps 0.8 (weak, odds 12 : 1): why".

    These are the open choices, accepted or not worth asking about, and what is only known from a family's code. What is
    said alike of more than `LISTED_ALIKE` layers is one sentence: "eps 1e-05 in 33 layers (strong): why".
    """
    assumed = [
        choice
        for choice in draft.choices
        if not choice.evidence.settled or (choice.habit and choice.evidence is not Evidence.PROVED)
    ]
    alike: dict[str, list[Choice]] = {}
    for choice in assumed:
        alike.setdefault(_sentence(replace(choice, layer=None)), []).append(choice)
    sentences: list[str] = []
    for first, *others in alike.values():
        if len(others) < LISTED_ALIKE:
            sentences += map(_sentence, (first, *others))
        else:
            sentences.append(_sentence(replace(first, layer=None), f" in {1 + len(others)} layers"))
    return tuple(sentences)


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
    return f"nothing that was tried fits BatchNorm {', '.join(bad)} (a good mismatch is under {GOOD:g})"


def tie_of(draft: Draft) -> str:
    """The structures among which nothing decides, where there are three or more; empty otherwise."""
    open_structure = any(c.field == "structure" and (c.odds is None or c.odds < EVEN) for c in unanswered(draft))
    if not open_structure or len(draft.rivals) < 2:
        return ""
    return f"{len(draft.rivals) + 1} structures fit the weights, and nothing tells which is the right one"


def describe(choice: Choice) -> str:
    """A choice for people: "layer 3 eps 0.8", "latent distribution normal", "layer 7 activation leaky_relu 0.2"."""
    where = "" if choice.layer is None else f"layer {choice.layer} "
    field = {"latent": "latent distribution", "statistics": "running statistics"}.get(choice.field, choice.field)
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


def odds_text(of: Choice | Draft) -> str:
    """The odds of a choice or of a whole generator: "odds 12 : 1"; empty where nothing was weighed."""
    if of.odds is None:
        return ""
    said = f"{of.odds:.2g}" if of.odds < 10 else f"{of.odds:.0f}" if of.odds < 1000 else "over 1000"
    return f"odds {said} : 1"


def _sentence(choice: Choice, where: str = "") -> str:
    """A structure's value is a line of its own, and goes behind the colon."""
    founded = ", ".join(filter(None, (choice.evidence, odds_text(choice))))
    if choice.field == "structure":
        return f"structure ({founded}): {choice.value}; {choice.reason}"
    return f"{describe(choice)}{where} ({founded}): {choice.reason}"


CODE = "FILE.py:CLASS"


def code_of(reading: Reading) -> str:
    """What `--module` is to name, "models/networks.py:Generator": the class that the file names, or else the one in the
    code beside it that has the names of its tensors."""
    info = reading.modules.get("")
    package, _, name = ("" if info is None else info.cls).removeprefix("__torch__.").rpartition(".")
    known = SOURCES.get(info.source) if info is not None else None
    if known is not None:
        return f"{known.split()[1]}:{name}"
    if info is None or info.from_torch or "mangle" in package or not all(map(str.isidentifier, info.cls.split("."))):
        beside = classes_of(reading.saved, reading.path)
        return f"{beside[0][0]}:{beside[0][1]}" if len({cls for _, cls in beside}) == 1 else CODE
    file = "FILE" if package in ("", "__main__", "torch_utils.persistence") else package.replace(".", "/")
    return f"{file}.py:{name}"


def with_code(hint: str, reading: Reading) -> str:
    """`hint` with the name of the network's code, where it is known."""
    code = code_of(reading) if "file.py:Class" in hint else CODE
    return hint if code == CODE else hint.replace("file.py:Class", code)
