"""Drafts with another value for one choice.

The fields a choice can have, and what their values look like:

    field         layer   value
    activation    index   {"name": "leaky_relu", "slope": 0.2}; no activation is {"name": "identity", "slope": null};
                          some have "limits" too: {"name": "hardtanh", "slope": null, "limits": [0.0, 6.0]}
    output        index   {"name": "tanh", "slope": null, "value_range": [-1.0, 1.0]}: the last activation and the range
    eps           index   0.8
    upsample      index   {"mode": "bilinear", "align_corners": false}
    norm          index   {"kind": "group_norm", "groups": 8, "features": 64, "eps": 1e-5, "affine": true}
    merge         index   "z_label" | "label_z"; "multiply" | "add" where the label is as wide as z
    latent        None    "normal" | "uniform" | "uniform01"
    value_range   None    [0.0, 1.0]
    structure     None    text: strides, paddings, upsamplings; the other structures are drafts of their own,
                          not values, so this one cannot be edited and has no alternatives

Any other field is a field of the layer (stride, padding …) and is replaced as it stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, Layer, Shape, layer_from_json
from gan_export.draft import Choice, Draft, Evidence

_T = TypeVar("_T", Layer, Interface)


def with_value(
    draft: Draft, choice: Choice, value: Any, *, evidence: Evidence | None = None, reason: str | None = None
) -> Draft:
    """`draft` with `value` for `choice`, which is found by its layer and field (so it may be from an older draft).

    The number of layers and all weights stay; `fit` is forgotten unless nothing in the spec changed. The choice takes
    the new value and, when given, `evidence` and `reason`; the value it had joins its alternatives. Raises
    `GanportError` when the draft has no such choice, and when no network comes of the value.
    """
    draft = with_values(draft, (choice,), (value,))
    made = find_choice(draft, choice.layer, choice.field)
    return replaced(draft, replace(made, evidence=evidence or made.evidence, reason=reason or made.reason))


def with_choice(draft: Draft, choice: Choice) -> Draft:
    """`draft` with `choice` in the place of its own on the same layer and field, the spec following its value."""
    return replaced(with_values(draft, (choice,), (choice.value,)), choice)


def replaced(draft: Draft, choice: Choice) -> Draft:
    """`draft` with `choice` in the place of its own on the same layer and field, the spec as it is."""
    place = choice.layer, choice.field
    return replace(draft, choices=tuple(choice if (c.layer, c.field) == place else c for c in draft.choices))


def with_values(draft: Draft, choices: Sequence[Choice], values: Sequence[Any]) -> Draft:
    """`draft` with a value for each of `choices`, as `with_value` sets one."""
    edits = [(find_choice(draft, c.layer, c.field), value) for c, value in zip(choices, values, strict=True)]
    spec = _edited(draft.spec, edits)
    if spec.shapes is not draft.spec.shapes and spec.tensors() != draft.spec.tensors():
        for choice, value in edits:
            if _edited(draft.spec, [(choice, value)]).tensors() != draft.spec.tensors():
                raise GanportError(
                    f"{_where(choice)} cannot become {value!r}: the weights would no longer fit",
                    hint="choose one of its alternatives, or edit the whole spec and pass it as `spec`",
                )
    made = {id(choice): _taken(choice, value) for choice, value in edits}
    found = tuple(made.get(id(choice), choice) for choice in draft.choices)
    return replace(draft, spec=spec, choices=found, fit=draft.fit if spec == draft.spec else None)


def _taken(choice: Choice, value: Any) -> Choice:
    """`choice` with `value`, the value that it had among its alternatives."""
    others = [other for other in (choice.value, *choice.alternatives) if other != value]
    unique = tuple(other for i, other in enumerate(others) if other not in others[:i])
    return replace(choice, value=value, alternatives=unique)


def find_choice(draft: Draft, layer: int | None, field: str) -> Choice:
    """The choice of `draft` on `field` of `layer`. Raises `GanportError` when there is none."""
    for choice in draft.choices:
        if choice.layer == layer and choice.field == field:
            return choice
    known = ", ".join(_where(choice) for choice in draft.choices) or "none"
    raise GanportError(f"the draft has no choice {_name(layer, field)}", hint=f"its choices: {known}")


def _edited(spec: GeneratorSpec, edits: Sequence[tuple[Choice, Any]]) -> GeneratorSpec:
    """`spec` after all of `edits`; the same object where none changes it."""
    layers: list[Layer] = list(spec.layers)
    changed: dict[str, Any] = {}
    for choice, value in edits:
        if choice.field == "structure":
            raise GanportError(
                "the structure of a draft cannot be edited", hint="the other structures are candidates of their own"
            )
        if choice.layer is None:
            changed[choice.field] = tuple(value) if choice.field == "value_range" else value
            continue
        fields = dict(value) if isinstance(value, dict) else {choice.field: value}
        if choice.field == "norm":
            layers[choice.layer] = layer_from_json(value)
            continue
        if (value_range := fields.pop("value_range", None)) is not None:
            changed["value_range"] = tuple(value_range)
        if isinstance(layers[choice.layer], Activation):
            limits = fields.get("limits")
            fields = {"features": 1} | fields | {"limits": None if limits is None else tuple(limits)}
        layers[choice.layer] = _replaced(layers[choice.layer], choice, fields)
    interface = _replaced(spec.interface, edits[0][0], changed) if changed else spec.interface
    if tuple(layers) == spec.layers and interface is spec.interface:
        return spec
    alike = all(
        old is new or _alike(old, new, at) for old, new, at in zip(spec.layers, layers, spec.shapes[:-1], strict=True)
    )
    if alike and (interface is spec.interface or _of_one_size(spec.interface, interface)):
        return spec.exchanged(interface, tuple(layers))  # a search makes thousands, and checking takes most of its time
    return replace(spec, interface=interface, layers=tuple(layers))


@lru_cache(4096)
def _alike(old: Layer, new: Layer, shape: Shape) -> bool:
    """Whether two layers have the same tensors and make the same of `shape`, whatever their numbers are."""
    plain = type(old) is type(new) and not (old.uses or new.uses) and old.as_ == new.as_
    same = plain and (old.classes, old.tensors()) == (new.classes, new.tensors())
    return same and (old.out_shape(shape), old.products(shape)) == (new.out_shape(shape), new.products(shape))


def _of_one_size(old: Interface, new: Interface) -> bool:
    """Whether two interfaces differ in their latents' distribution and their range of values alone."""
    return replace(new, latent=old.latent, value_range=old.value_range) == old


def _replaced(old: _T, choice: Choice, fields: dict[str, Any]) -> _T:
    known = {f.name for f in dataclasses.fields(old)}
    for name in fields:
        if name not in known:
            raise GanportError(f"{_where(choice)}: no field {name!r}", hint=f"fields: {', '.join(sorted(known))}")
    same = all(
        type(value) is type(getattr(old, name)) and value == getattr(old, name) for name, value in fields.items()
    )
    if same:
        return old
    try:
        made: _T = _made(old, tuple(fields), *fields.values())
    except TypeError:  # a value without a hash; what is wrong with it is said here
        made = replace(old, **fields)
    return made


@lru_cache(4096, typed=True)
def _made(old: _T, names: tuple[str, ...], *values: Any) -> _T:
    """`old` with other fields; kept, as a search makes the same few layers, each checked, for thousands of drafts."""
    return replace(old, **dict(zip(names, values, strict=True)))


def _where(choice: Choice) -> str:
    return _name(choice.layer, choice.field)


def _name(layer: int | None, field: str) -> str:
    return field if layer is None else f"{field} of layer {layer}"
