"""`gan-export inspect`: what a checkpoint is, for people and as JSON, and what to do next, by its evidence."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.printable import shell_line
from gan_core.said import size_text
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.assumptions import (
    STATISTICS,
    SURE,
    answers_of,
    assumptions_of,
    code_of,
    describe,
    misfit_of,
    odds_text,
    tie_of,
    unanswered,
)
from gan_export.draft import Choice, Draft
from gan_export.identify import Identified
from gan_export.reading import Reading
from gan_export.survey import Entry
from gan_serve.terminal.commands import with_options
from gan_serve.terminal.layout import Column, state, table, wrap

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
        return Advice(
            Kind.NOT,
            f"the draft is likely wrong: {misfit}; {SETTLES}{other}",
            ("--module", code_of(identified.reading)),
        )
    sizes = _sizes(draft) if any(choice.field == "structure" for choice in asked) else []
    if sizes and answers.image is None:
        why = f"the weights allow images of {', '.join(sizes)}"
        return Advice(Kind.SAY, why, ("--image", "CxHxW"))
    if tie:
        return Advice(
            Kind.NOT, f"the draft is likely wrong: {tie}; {SETTLES}", ("--module", code_of(identified.reading))
        )
    if [choice.field for choice in asked] == [STATISTICS]:
        return Advice(Kind.LOOK, "its author used train mode: the candidates show its images with new statistics")
    if asked and not draft.open_choices:
        why = f"each choice is settled, but not all together ({odds_text(draft)}, under {SURE:.0f} : 1)"
        return Advice(Kind.LOOK, f"{why}: the command shows the candidates, look at them before you --accept")
    if asked:
        open_ones = f"{len(asked)} choice{'s are' if len(asked) > 1 else ' is'} not settled"
        return Advice(Kind.LOOK, f"{open_ones}: the command shows the candidates, look at them before you --accept")
    return Advice(Kind.EXPORT)


def next_command(identified: Identified, advice: Advice) -> str:
    """The command to type next, with the options that were needed to get here."""
    return export_command(identified, *advice.options)


def export_command(identified: Identified, *options: str, verb: str = "onnx") -> str:
    """`gan-export` of the file, with the options that were given; `options` come after them, `--pick` and
    `--module` in the place of those that they answer, too."""
    command = ["gan-export"] + [verb] * (verb != "onnx")
    said, words = identified.answers, [*command, str(identified.reading.path)]
    image = None if said.image is None else size_text(said.image)
    values: dict[str, object] = {"--key": said.key, "--spec": said.spec, "--image": image, "--latent": said.latent}
    values |= {"--output-activation": said.output, "--z-dim": said.z_dim, "--classes": said.n_classes}
    values |= {
        "--discriminator": said.discriminator,
        "--source": said.source,
        "--like": said.like,
        "--pick": None if {"--pick", "--module"} & {*options} else said.pick,
    }
    if said.activation is not None:
        slope = said.activation.get("slope")
        values["--activation"] = f"{said.activation['name']}" + ("" if slope is None else f":{slope:g}")
    of_drafts = ("--spec", "--activation", "--discriminator", "--source", "--like") if "--module" in options else ()
    for option, value in values.items():
        words += [] if value is None or option in of_drafts else [option, str(value)]
    if said.value_range is not None:
        words.append("--value-range={:g},{:g}".format(*said.value_range))
    if identified.draft is not None and identified.draft.recomputed and "--no-recompute-stats" not in options:
        words += [
            "--recompute-stats",
            *([] if said.stats_latents is None else ["--stats-latents", str(said.stats_latents)]),
        ]
    words += ["--no-recompute-stats"] * (said.recompute_stats is False)
    words += [] if said.image_stats is None else ["--image-stats" if said.image_stats else "--no-image-stats"]
    words += ["--raw"] * said.raw + ["--trust-pickle"] * said.trust_pickle
    return shell_line([*words, *options])


def _sizes(draft: Draft) -> list[str]:
    """The image sizes that the structures make, likeliest first, where there are several."""
    found = list(dict.fromkeys(each.spec.interface.image for each in (draft, *draft.rivals)))
    return [] if len(found) < 2 else _several(found)


def _several(images: Sequence[tuple[int, int, int]]) -> list[str]:
    """The first sizes (C, H, W) of `images` in words, and whether there are more."""
    return [*map(size_text, images[:SIZES]), *["…"] * (len(images) > SIZES)]


def render(identified: Identified, advice: Advice) -> str:
    """The page that `gan-export inspect` prints: the file, the network, the evidence, and what to do next."""
    draft = identified.draft
    blocks = [
        _facts(facts_of(identified)),
        _layers(spec_of(identified), _tensors_of(identified)),
    ]
    if draft is not None:
        blocks.append("What the weights do not carry:\n\n" + "\n".join(map(_evidence, draft.choices)))
        blocks += [wrap(note) for note in draft.notes]
    blocks += [wrap(advice.why)] if advice.why else []
    blocks.append(f"next: {next_command(identified, advice)}")
    return "\n\n".join(blocks)


def facts_of(identified: Identified) -> list[tuple[str, str]]:
    """(label, text) of the file and of the generator in it."""
    draft, spec = identified.draft, spec_of(identified)
    facts = [
        *_file_facts(identified.reading),
        ("family", draft.family if draft else "gan-train's own: it says everything itself"),
        ("generates", f"{spec.interface.picture} from {spec.interface.taken}"
         + (f", {spec.interface.latent}" if spec.interface.input is None else "")
         + (f", {spec.interface.n_classes} classes" if spec.interface.n_classes else "")),
        ("size", f"{spec.parameters:,} weights"),
    ]  # fmt: skip
    if draft is not None and draft.fit is not None:
        facts.append(("mismatch", f"{draft.fit:.2g}, the mean over its BatchNorms (0 is perfect, under 0.02 is good)"))
    return facts


def code_command(reading: Reading) -> str:
    """The command that exports a file's network with its own code."""
    key = ["--key", reading.chosen] if reading.chosen and reading.passed_over else []
    return shell_line(["gan-export", str(reading.path), *key, "--module", code_of(reading)])


def render_unknown(reading: Reading, hint: str = "") -> str:
    """The page for a file that was read and not understood: the file, its tensors, and where the error's `hint` names
    its code, the command with it."""
    rows = [(name, "x".join(map(str, tensor.shape)) or "number") for name, tensor in reading.tensors.items()]
    following = [f"next: {code_command(reading)}"] if "`module`" in hint else []
    return "\n\n".join([_facts(_file_facts(reading)), table(("tensor", "shape"), rows), *following])


def _file_facts(reading: Reading) -> list[tuple[str, str]]:
    return [
        ("file", f"{reading.path} ({reading.size_bytes:,} bytes, {reading.format})"),
        ("sha256", reading.sha256),
        ("weights", f"{reading.which}, {len(reading.tensors)} tensors, from {reading.chosen or 'the whole file'}"),
        *[("", with_options(note)) for note in reading.notes],
        *[("passed over", f"{other.key or 'the file itself'}: {other.why}") for other in reading.passed_over],
    ]


def _layers(spec: GeneratorSpec, stems: Sequence[str]) -> str:
    """The layers, what each makes and, where known, which tensors of the file are its."""
    named = any(stems)
    rows = []
    for index, layer in enumerate(spec.layers):
        words = f"{layer.words()} as {layer.as_}" if layer.as_ else layer.words()
        row = [str(index), words, "x".join(map(str, spec.shapes[index + 1]))]
        rows.append([*row, stems[index]] if named else row)
    columns = [Column("layer", right=True), Column("", fit="cut", least=24), Column("makes")]
    return table([*columns, *[Column("tensors", fit="middle", least=14, drop=1)] * named], rows)


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """(label, text) pairs in two columns, long texts wrapped."""
    return "\n".join(wrap(text, first=f"{label:<12}", rest=" " * 12) for label, text in facts)


def _tensors_of(identified: Identified) -> list[str]:
    """For each layer the name of the module in the file whose tensors it has; empty for layers without."""
    draft = identified.draft
    if draft is None:
        return []
    names = {id(tensor): name.rpartition(".")[0] or name for name, tensor in identified.reading.tensors.items()}
    return [names.get(id(next(iter(owned.values()))), "") if owned else "" for owned in draft.weights]


def headline(choice: Choice) -> str:
    """A choice and its odds, where it has some."""
    return describe(choice) + (f", {odds_text(choice)}" if choice.odds is not None else "")


def _evidence(choice: Choice) -> str:
    """One choice: the evidence, what was chosen, and under it why."""
    evidence = f"{choice.evidence:<8}"
    head = wrap(headline(choice), first=evidence, rest=" " * 8).removeprefix(evidence)
    return f"{state(evidence)}{head}\n{wrap(choice.reason, first=' ' * 10, rest=' ' * 10)}"


def render_survey(entries: Sequence[Entry], left_out: Sequence[str], folder: Path | None) -> str:
    """The table of `gan-export inspect FOLDER`: each file's kind and what it is, under the folder that it is in."""
    owned = {entry.discriminator for entry in entries}
    columns = [
        Column("file", fit="line", least=18),
        Column("kind"),
        Column("weights", right=True, drop=1),
        Column("what it is", fit="wrap", least=22),
    ]
    rows: list[list[str] | str] = []
    here = folder
    for entry in entries:
        if entry.path.parent != here:
            here = entry.path.parent
            inside = here.relative_to(folder) if folder is not None and here.is_relative_to(folder) else here
            rows.append(f"{inside}/")
        name = "  " * (entry.path in owned) + entry.path.name
        said = "of the generator above" if entry.path in owned else _said(entry)
        rows.append([name, entry.kind, _many(entry.parameters), said])
    parts = (table(columns, rows), "\n".join(map(wrap, left_out)), f"next: {survey_next(entries)}")
    return "\n\n".join(filter(None, parts))


def _many(parameters: int) -> str:
    return "" if not parameters else f"{parameters / 1e6:.2f} M" if parameters >= 1e4 else f"{parameters:,}"


def survey_next(entries: Sequence[Entry]) -> str:
    """The command that goes on with the first generator."""
    likely = next((entry for kind in ("generator", "network") for entry in entries if entry.kind == kind), None)
    return "gan-export inspect FILE" if likely is None else shell_line(["gan-export", "inspect", str(likely.path)])


def _said(entry: Entry) -> str:
    """One entry in words: "z 100, 10 classes → 1x28x28, at netG". Which tensors tell a kind, `inspect FILE` says."""
    inside = f"its discriminator at {entry.discriminator}" if isinstance(entry.discriminator, str) else ""
    if entry.interface is None:
        return ", ".join(filter(None, (re.sub(r" \([^()]*\)", "", entry.said), inside)))
    face = entry.interface
    classes = f", {face.n_classes} classes" if face.n_classes else ""
    makes = f"z {face.z_dim}{classes} → {' or '.join(_several((face.image, *entry.others)))}"
    if face.input is not None:
        makes = f"{face.taken} → {face.picture}"
    parts = (makes, entry.said, inside)
    return ", ".join(filter(None, parts))


def survey_json(entries: Sequence[Entry], left_out: Sequence[str]) -> dict[str, Any]:
    """The same as JSON."""
    files = []
    for entry in entries:
        face, beside = entry.interface, entry.discriminator
        drawn = {} if face is None else {"z_dim": face.z_dim, "classes": face.n_classes, "image": list(face.image)}
        drawn |= {"other_images": [list(image) for image in entry.others]} if entry.others else {}
        own = {"family": entry.family, "parameters": entry.parameters} if entry.parameters else {}
        key = "discriminator" if isinstance(beside, Path) else "discriminator_key"
        pair = {} if beside is None else {key: str(beside)}
        files.append({"file": str(entry.path), "kind": entry.kind, "said": entry.said} | drawn | own | pair)
    return {"files": files, "left_out": list(left_out), "next": survey_next(entries)}


def to_json(identified: Identified, advice: Advice) -> dict[str, Any]:
    """The same as JSON."""
    draft = identified.draft
    return reading_json(identified.reading) | {
        "family": draft.family if draft else "ganport",
        "misfit": draft.fit if draft else None,
        "choices": [
            {
                "layer": choice.layer,
                "field": choice.field,
                "value": choice.value,
                "evidence": str(choice.evidence),
                "odds": choice.odds,
                "reason": choice.reason,
                "alternatives": list(choice.alternatives),
            }
            for choice in (draft.choices if draft else ())
        ],
        "unanswered": [describe(choice) for choice in identified.unanswered],
        "spec": spec_of(identified).to_json(),
        "assumptions": list(assumptions_of(draft)) if draft else [],
        "answers": list(answers_of(draft, identified.answers)) if draft else [],
        "doubts": list(identified.doubts),
        "advice": str(advice.kind),
        "why": advice.why,
        "next": next_command(identified, advice),
    }


def reading_json(reading: Reading) -> dict[str, Any]:
    """What `render_unknown` says, as JSON."""
    return {
        "file": str(reading.path),
        "size_bytes": reading.size_bytes,
        "sha256": reading.sha256,
        "format": reading.format,
        "weights": reading.which,
        "key": reading.chosen,
        "notes": list(reading.notes),
        "passed_over": [{"key": c.key, "tensors": c.tensors, "why": c.why} for c in reading.passed_over],
        "tensors": {name: list(tensor.shape) for name, tensor in reading.tensors.items()},
    }


def spec_of(identified: Identified) -> GeneratorSpec:
    """The spec of what was identified."""
    if identified.draft is not None:
        return identified.draft.spec
    assert identified.reading.ours is not None
    return identified.reading.ours.spec
