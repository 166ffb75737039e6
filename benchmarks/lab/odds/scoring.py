"""A reading against the truth: choice by choice, wherever the two specs put their layers.

Two specs of the same weights may differ in where a Reshape stands, or in whether "no activation" is a layer. So both
are read as units, one for each layer with tensors, with what stands between it and the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    LabelEmbedding,
    LabelOneHot,
    Shape,
    Upsample,
)
from gan_export.assumptions import describe_value
from gan_export.draft import STRUCTURE, Choice, Draft, Evidence
from gan_export.forensics.trials import alike, same

Verdict = Literal["right", "near", "wrong"]
FIELDS = ("latent", "activation", "eps", "upsample", "merge", "output", STRUCTURE)
IDENTITY = {"name": "identity", "slope": None}


@dataclass(frozen=True)
class Score:
    """One choice: what it is, what was found, whether that is right, and how sure the reading is of it.

    "near" is a value of another name that makes almost the same network (`trials.alike`).
    """

    field: str
    truth: str
    found: str
    verdict: Verdict
    evidence: str
    odds: float | None


@dataclass(frozen=True)
class Unit:
    """A layer with tensors, its geometry, and what follows it up to the next."""

    geometry: tuple[Any, ...]
    out_shape: Shape
    eps: float | None
    activation: dict[str, Any]
    upsample: tuple[int, str]


def units(spec: GeneratorSpec) -> list[Unit]:
    """The spec as units, in order."""
    found: list[Unit] = []
    starts = [i for i, layer in enumerate(spec.layers) if layer.tensors()]
    for start, stop in zip(starts, [*starts[1:], len(spec.layers)], strict=True):
        layer, rest = spec.layers[start], spec.layers[start + 1 : stop]
        active = [part for part in rest if isinstance(part, Activation) and part.name != "identity"]
        factors = [part for part in rest if isinstance(part, Upsample)]
        geometry: tuple[Any, ...] = (layer.kind,)
        if isinstance(layer, (Conv, ConvTranspose)):
            geometry += (layer.kernel, layer.stride, layer.padding, getattr(layer, "output_padding", 0))
        found.append(
            Unit(
                geometry=geometry,
                out_shape=spec.shapes[stop],
                eps=layer.eps if isinstance(layer, BatchNorm) else None,
                activation={"name": active[0].name, "slope": active[0].slope} if active else IDENTITY,
                upsample=(factors[0].factor, factors[0].mode) if factors else (1, "nearest"),
            )
        )
    return found


def structure(spec: GeneratorSpec) -> tuple[Any, ...]:
    """Latent and label sizes, and every unit's geometry and output shape."""
    parts = [(unit.geometry, unit.out_shape, unit.upsample[0]) for unit in units(spec)]
    return (spec.interface.z_dim, spec.interface.n_classes, *parts)


def score(draft: Draft, truth: GeneratorSpec) -> list[Score]:
    """A score for the structure and, where that is right, one for every choice on the rest of the network."""
    right = structure(draft.spec) == structure(truth)
    found = draft.structure_choice
    scores = [
        Score(
            STRUCTURE, strides(truth), strides(draft.spec), "right" if right else "wrong",
            Evidence.PROVED if found is None else found.evidence, None if found is None else found.odds,
        )
    ]  # fmt: skip
    if not right:
        return scores
    true_units = units(truth)
    for choice in draft.choices:
        if choice.field not in FIELDS[:-1]:
            continue
        true = _true_value(draft, choice, truth, true_units)
        same_one = (
            _ends(choice.value) == _ends(true) if choice.field == "output" else same(choice.field, choice.value, true)
        )
        near = choice.field in ("eps", "activation") and alike(draft, choice, choice.value, true)
        verdict: Verdict = "right" if same_one else "near" if near else "wrong"
        words = describe_value(true), describe_value(choice.value)
        scores.append(Score(choice.field, *words, verdict, choice.evidence, choice.odds))
    return scores


def strides(spec: GeneratorSpec) -> str:
    """The structure in short: "100+10 t4s1p0 t4s2p1 u2 c3s1p1", linears and norms left out."""
    z_dim, classes = spec.interface.z_dim, spec.interface.n_classes
    words: list[str] = [f"{z_dim}+{classes}" if classes else str(z_dim)]
    for layer in spec.layers:
        if isinstance(layer, (Conv, ConvTranspose)):
            words.append(f"{'c' if isinstance(layer, Conv) else 't'}{layer.kernel}s{layer.stride}p{layer.padding}")
        elif isinstance(layer, Upsample):
            words.append(f"u{layer.factor}")
    return " ".join(words)


def _ends(output: dict[str, Any]) -> tuple[Any, ...]:
    return output["name"], tuple(output["value_range"])


def _true_value(draft: Draft, choice: Choice, truth: GeneratorSpec, true_units: list[Unit]) -> Any:
    if choice.layer is None:
        return getattr(truth.interface, choice.field)
    if choice.field == "merge":
        return next(layer for layer in truth.layers if isinstance(layer, (LabelEmbedding, LabelOneHot))).merge
    unit = true_units[sum(bool(layer.tensors()) for layer in draft.spec.layers[: choice.layer + 1]) - 1]
    match choice.field:
        case "eps":
            return unit.eps
        case "upsample":
            return {"mode": unit.upsample[1], "align_corners": False}
        case "output":
            return unit.activation | {"value_range": truth.interface.value_range}
    return unit.activation
