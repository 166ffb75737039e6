"""A judged draft against the truth: choice by choice, wherever the two specs put their layers.

Two specs of the same weights may differ in where a Reshape stands, or in whether "no activation" is a layer. So both
are read as units, one for each layer with tensors, with what stands between it and the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, BatchNorm, Conv, ConvTranspose, Shape, Upsample
from gan_export.draft import Choice, Draft
from gan_export.forensics.statistics import witnesses
from gan_export.forensics.trials import alike, same, segment_of

Verdict = Literal["right", "near", "wrong"]
IDENTITY = {"name": "identity", "slope": None}


@dataclass(frozen=True)
class Score:
    """One choice: what it is, what was found, whether that is right, and whether anything in the file shows it.

    "near" is a value of another name that makes almost the same network (`candidates.alike`).
    """

    field: str
    truth: Any
    found: Any
    verdict: Verdict
    evidence: str
    traced: bool


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


def structure(spec: GeneratorSpec, up_to: int | None = None) -> tuple[Any, ...]:
    """Latent and label sizes, and every unit's geometry and output shape, of the first `up_to` units."""
    parts = [(unit.geometry, unit.out_shape, unit.upsample[0]) for unit in units(spec)[:up_to]]
    return (spec.interface.z_dim, spec.interface.n_classes, *parts)


def traced_units(draft: Draft) -> int:
    """How many units stand before or at the last BatchNorm that remembers, whose output shapes so leave a trace."""
    last = witnesses(draft)[-1]
    return sum(bool(layer.tensors()) for layer in draft.spec.layers[: last + 1]) - 1


def score(draft: Draft, truth: GeneratorSpec) -> list[Score]:
    """A score for every choice on latent, merge, eps, activation and upsampling, and one for the structure."""
    true_units, count = units(truth), len(witnesses(draft))
    scores: list[Score] = []
    for choice in draft.choices:
        if choice.field not in ("latent", "merge", "eps", "activation", "upsample"):
            continue
        true_value = _true_value(draft, choice, truth, true_units)
        if same(choice.field, choice.value, true_value):
            verdict: Verdict = "right"
        else:
            verdict = "near" if alike(draft, choice, choice.value, true_value) else "wrong"
        traced = segment_of(draft, choice) < count
        scores.append(Score(choice.field, true_value, choice.value, verdict, choice.evidence.value, traced))
    return [*scores, _structure_score(draft, truth)]


def _structure_score(draft: Draft, truth: GeneratorSpec) -> Score:
    found = next((c for c in draft.choices if c.field == "structure"), None)
    shown = traced_units(draft)
    right = structure(draft.spec) == structure(truth)
    traced = right or structure(draft.spec, shown) != structure(truth, shown)
    return Score(
        "structure",
        strides(truth),
        strides(draft.spec),
        "right" if right else "wrong",
        found.evidence.value if found else "proved",
        traced,
    )


def strides(spec: GeneratorSpec) -> str:
    """The structure in short: "t4s1p0 t4s2p1 u2 c3s1p1", linears and norms left out."""
    words: list[str] = []
    for layer in spec.layers:
        if isinstance(layer, (Conv, ConvTranspose)):
            words.append(f"{'c' if isinstance(layer, Conv) else 't'}{layer.kernel}s{layer.stride}p{layer.padding}")
        elif isinstance(layer, Upsample):
            words.append(f"u{layer.factor}")
    return " ".join(words) or "linear"


def _true_value(draft: Draft, choice: Choice, truth: GeneratorSpec, true_units: list[Unit]) -> Any:
    if choice.layer is None:
        return getattr(truth.interface, choice.field)
    before = sum(bool(layer.tensors()) for layer in draft.spec.layers[: choice.layer + 1])
    if choice.field == "merge":
        return "z_label"
    unit = true_units[before - 1]
    if choice.field == "eps":
        return unit.eps
    if choice.field == "upsample":
        return {"mode": unit.upsample[1], "align_corners": False}
    return unit.activation
