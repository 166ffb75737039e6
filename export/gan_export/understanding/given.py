"""A spec given by the user (`--spec`, usually a draft that was written out and edited) and the weights it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Draft
from gan_export.understanding.candidates import find_chains
from gan_export.understanding.units import COUNTER, Unit, units_of


def draft_with_spec(tensors: Mapping[str, Tensor], spec: GeneratorSpec | Any) -> Draft:
    """The draft of a spec (or the JSON object of one) with the weights of `tensors`; nothing in it is left open.

    Weights go to the spec's layers by order and shape: each layer that owns tensors takes the next module of the file
    that has just these. Raises `GanportError` when the spec does not read, when a layer finds no weights that fit, and
    when weights are left over.
    """
    if not isinstance(spec, GeneratorSpec):
        spec = GeneratorSpec.from_json(spec)
    ours = {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)}
    if spec.tensors() == ours:
        return Draft(spec, spec.by_layer(tensors), family="given")
    units = units_of(tensors)
    failure: GanportError | None = None
    for order in _orders(units):
        try:
            return Draft(spec, _matched(spec, order), family="given")
        except GanportError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _orders(units: list[Unit]) -> Iterator[list[Unit]]:
    """File order first; then the order in which the units chain, should the file's keys be sorted."""
    embeddings = [unit for unit in units if unit.kind == "embedding"]
    body = [unit for unit in units if unit.kind != "embedding"]
    yield embeddings + body
    chains, _ = find_chains(units)
    for chain in chains:
        yield embeddings + [step.unit for step in chain.steps]


def _matched(spec: GeneratorSpec, units: list[Unit]) -> tuple[dict[str, Tensor], ...]:
    weights: list[dict[str, Tensor]] = []
    waiting = list(units)
    for index, layer in enumerate(spec.layers):
        wanted = layer.tensors()
        if not wanted:
            weights.append({})
            continue
        if not waiting:
            raise GanportError(
                f"layer {index} ({layer.kind}) of the spec wants {_shapes(wanted)}, the file holds no more weights",
                hint=f"the file has {len(units)} modules with weights, the spec wants more",
            )
        unit = waiting.pop(0)
        if unit.shapes != wanted:
            raise GanportError(
                f"layer {index} ({layer.kind}) of the spec wants {_shapes(wanted)}, "
                f"the file's next, {unit.name or 'the root'}, has {_shapes(unit.shapes)}",
                hint="edit the spec's layers so that they take the file's weights in order",
            )
        weights.append(dict(unit.tensors))
    if waiting:
        raise GanportError(
            f"{waiting[0]} is left over, the spec names no layer for it",
            hint=f"{len(waiting)} of the file's {len(units)} modules have no layer in the spec",
        )
    return tuple(weights)


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
