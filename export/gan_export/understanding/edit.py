"""Drafts with another value for one choice.

The fields a choice can have, and what their values look like:

    field         layer   value
    activation    index   {"name": "leaky_relu", "slope": 0.2}; no activation is {"name": "identity", "slope": null};
                          some have "limits" too: {"name": "hardtanh", "slope": null, "limits": [0.0, 6.0]}
    output        index   {"name": "tanh", "slope": null, "value_range": [-1.0, 1.0]}: the last activation and the range
    eps           index   0.8
    upsample      index   {"mode": "bilinear", "align_corners": false}
    norm          index   {"kind": "group_norm", "groups": 8, "features": 64, "eps": 1e-5, "affine": true}
    merge         index   "z_label" | "label_z"
    latent        None    "normal" | "uniform"
    value_range   None    [0.0, 1.0]
    structure     None    text: strides, paddings, upsamplings; the other structures are drafts of their own,
                          not values, so this one cannot be edited and has no alternatives

Any other field is a field of the layer (stride, padding …) and is replaced as it stands.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any, TypeVar

from gan_export.draft import Choice, Draft, Evidence
from gan_serve.errors import GanportError
from gan_trainer.layers import Activation, Layer, layer_from_json
from gan_trainer.spec import GeneratorSpec

_T = TypeVar("_T", Layer, GeneratorSpec)


def with_value(
    draft: Draft, choice: Choice, value: Any, *, evidence: Evidence | None = None, reason: str | None = None
) -> Draft:
    """`draft` with `value` for `choice`, which is found by its layer and field (so it may be from an older draft).

    The number of layers and all weights stay; `fit` is forgotten unless nothing in the spec changed. The choice takes
    the new value and, when given, `evidence` and `reason`; the value it had joins its alternatives. Raises
    `GanportError` when the draft has no such choice, and when no network comes of the value.
    """
    current = find_choice(draft, choice.layer, choice.field)
    spec = _edited(draft.spec, current, value)
    if spec.tensors() != draft.spec.tensors():
        raise GanportError(
            f"{_where(current)} cannot become {value!r}: the weights would no longer fit",
            hint="choose one of its alternatives, or edit the whole spec and pass it with --spec",
        )
    others = [other for other in (current.value, *current.alternatives) if other != value]
    unique = tuple(other for i, other in enumerate(others) if other not in others[:i])
    edited = replace(
        current,
        value=value,
        alternatives=unique,
        evidence=current.evidence if evidence is None else evidence,
        reason=current.reason if reason is None else reason,
    )
    choices = tuple(edited if other is current else other for other in draft.choices)
    return replace(draft, spec=spec, choices=choices, fit=draft.fit if spec == draft.spec else None)


def find_choice(draft: Draft, layer: int | None, field: str) -> Choice:
    """The choice of `draft` on `field` of `layer`. Raises `GanportError` when there is none."""
    for choice in draft.choices:
        if choice.layer == layer and choice.field == field:
            return choice
    known = ", ".join(_where(choice) for choice in draft.choices) or "none"
    raise GanportError(f"the draft has no choice {_name(layer, field)}", hint=f"its choices: {known}")


def _edited(spec: GeneratorSpec, choice: Choice, value: Any) -> GeneratorSpec:
    if choice.field == "structure":
        raise GanportError(
            "the structure of a draft cannot be edited", hint="the other structures are candidates of their own"
        )
    if choice.layer is None:
        if choice.field == "value_range":
            value = tuple(value)
        return _replaced(spec, choice, {choice.field: value})
    layer = spec.layers[choice.layer]
    if choice.field == "norm":
        layers = (*spec.layers[: choice.layer], layer_from_json(value), *spec.layers[choice.layer + 1 :])
        return replace(spec, layers=layers)
    fields = dict(value) if isinstance(value, dict) else {choice.field: value}
    value_range = fields.pop("value_range", None)
    if isinstance(layer, Activation):
        limits = fields.get("limits")
        fields = {"features": 1} | fields | {"limits": None if limits is None else tuple(limits)}
    edited = _replaced(layer, choice, fields)
    changed: dict[str, Any] = {"layers": (*spec.layers[: choice.layer], edited, *spec.layers[choice.layer + 1 :])}
    if value_range is not None:
        changed["value_range"] = tuple(value_range)
    return _replaced(spec, choice, changed)


def _replaced(old: _T, choice: Choice, fields: dict[str, Any]) -> _T:
    known = {f.name for f in dataclasses.fields(old)}
    for name in fields:
        if name not in known:
            raise GanportError(f"{_where(choice)}: no field {name!r}", hint=f"fields: {', '.join(sorted(known))}")
    return replace(old, **fields)


def _where(choice: Choice) -> str:
    return _name(choice.layer, choice.field)


def _name(layer: int | None, field: str) -> str:
    return field if layer is None else f"{field} of layer {layer}"
