"""`gan-export inspect`: what a checkpoint is, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    AdaptivePool,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelEmbedding,
    Layer,
    Linear,
    Pad,
    Pool,
    Reshape,
    Upsample,
)
from gan_export.advice import Advice, next_command
from gan_export.assumptions import answers_of, assumptions_of, describe, odds_text
from gan_export.draft import Choice
from gan_export.identify import Identified
from gan_export.reading import Reading
from gan_serve.terminal.console import table, wrap


def render(identified: Identified, advice: Advice) -> str:
    """The page that `gan-export inspect` prints: the file, the network, the evidence, and what to do next."""
    draft = identified.draft
    spec = spec_of(identified)
    c, h, w = spec.image
    parameters = spec.parameters
    facts = [
        *_file_facts(identified.reading),
        ("family", draft.family if draft else "gan-train's own: it says everything itself"),
        ("draws", f"{w}x{h} {'grey' if c == 1 else 'RGB'} from {spec.z_dim} numbers, {spec.latent}"
         + (f", {spec.n_classes} classes" if spec.n_classes else "")),
        ("size", f"{parameters:,} weights"),
    ]  # fmt: skip
    if draft is not None and draft.fit is not None:
        facts.append(("misfit", f"{draft.fit:.2g}, the mean over its BatchNorms (0 is perfect, under 0.02 is good)"))
    blocks = [
        _facts(facts),
        _layers(spec, _tensors_of(identified)),
    ]
    if draft is not None:
        blocks.append("What the weights do not carry:\n\n" + "\n".join(map(_evidence, draft.choices)))
        blocks += [wrap(note) for note in draft.notes]
    blocks += [wrap(advice.why)] if advice.why else []
    blocks.append(f"next: {next_command(identified, advice)}")
    return "\n\n".join(blocks)


def render_unknown(reading: Reading) -> str:
    """The page for a file that was read and not understood: the file and its tensors."""
    rows = [(name, "x".join(map(str, tensor.shape)) or "number") for name, tensor in reading.tensors.items()]
    return f"{_facts(_file_facts(reading))}\n\n{table(('tensor', 'shape'), rows)}"


def _file_facts(reading: Reading) -> list[tuple[str, str]]:
    return [
        ("file", f"{reading.path} ({reading.size_bytes:,} bytes, {reading.format})"),
        ("sha256", reading.sha256),
        ("weights", f"{reading.which}, {len(reading.tensors)} tensors, from {reading.chosen or 'the whole file'}"),
        *[("", note) for note in reading.notes],
        *[("passed over", f"{other.key or 'the file itself'}: {other.why}") for other in reading.candidates],
    ]


def _layers(spec: GeneratorSpec, stems: Sequence[str]) -> str:
    """The layers, what each makes and, where known, which tensors of the file are its."""
    named = any(stems)
    rows = []
    for index, layer in enumerate(spec.layers):
        row = [str(index), describe_layer(layer), "x".join(map(str, spec.shapes[index + 1]))]
        rows.append([*row, stems[index]] if named else row)
    return table(("layer", "", "makes", "tensors") if named else ("layer", "", "makes"), rows, right=[0])


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """(label, text) pairs in two columns, long texts wrapped."""
    return "\n".join(wrap(text, first=f"{label:<12}", rest=" " * 12) for label, text in facts)


def _tensors_of(identified: Identified) -> list[str]:
    """For each layer the name of the module in the file whose tensors it has; empty for layers without."""
    draft = identified.draft
    if draft is None:
        return []
    names = {id(tensor): name.rpartition(".")[0] or name for name, tensor in identified.reading.tensors.items()}
    stems = [""] * len(draft.spec.layers)
    for key, tensor in draft.weights.items():
        stems[int(key.split(".")[1])] = names.get(id(tensor), "")
    return stems


def _evidence(choice: Choice) -> str:
    """One choice: the evidence, what was chosen, and under it why."""
    head = f"{choice.evidence:<8}{describe(choice)}" + (f", {odds_text(choice)}" if choice.odds is not None else "")
    return f"{wrap(head, rest=' ' * 8)}\n{wrap(choice.reason, first=' ' * 10, rest=' ' * 10)}"


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
        "passed_over": [{"key": c.key, "tensors": c.tensors, "why": c.why} for c in reading.candidates],
        "tensors": {name: list(tensor.shape) for name, tensor in reading.tensors.items()},
    }


def spec_of(identified: Identified) -> GeneratorSpec:
    """The spec of what was identified."""
    if identified.draft is not None:
        return identified.draft.spec
    assert identified.reading.ours is not None
    return identified.reading.ours.spec


def describe_layer(layer: Layer) -> str:
    """One layer for people: "conv_transpose 100 → 256, k4 s1 p0"."""
    match layer:
        case Linear():
            return f"linear {layer.in_features} → {layer.out_features}"
        case Conv() | ConvTranspose():
            extra = f" op{layer.output_padding}" if isinstance(layer, ConvTranspose) and layer.output_padding else ""
            extra += f" groups {layer.groups}" if layer.groups > 1 else ""
            extra += f" dilation {layer.dilation}" if layer.dilation > 1 else ""
            sizes = f"k{layer.kernel} s{layer.stride} p{layer.padding}{extra}"
            return f"{layer.kind} {layer.in_channels} → {layer.out_channels}, {sizes}"
        case BatchNorm():
            return f"batch_norm eps {layer.eps:g}"
        case Activation():
            limits = "" if layer.limits is None else " ({:g}, {:g})".format(*layer.limits)
            return layer.name + (f" {layer.slope:g}" if layer.slope is not None else "") + limits
        case Upsample():
            return f"upsample {'to its size' if layer.size else f'x{layer.factor}'} {layer.mode}"
        case Pool() | AdaptivePool():
            sizes = "" if isinstance(layer, AdaptivePool) else ", k{}x{} s{}x{}".format(*layer.kernel, *layer.stride)
            return f"{layer.kind} {layer.mode}{sizes}"
        case Pad():
            return f"pad {layer.mode} {' '.join(map(str, layer.borders))}"
        case LabelEmbedding():
            return f"label_embedding {layer.n_classes} x {layer.dim}, {layer.merge}"
        case Reshape():
            return "reshape"
    return layer.kind
