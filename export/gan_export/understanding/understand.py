"""The way in: a cleaned state_dict → drafts; or, with a spec of the user's, the one draft that it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Draft
from gan_export.families.family import RefusedError, Shapes
from gan_export.families.registry import family_drafts, near_miss
from gan_export.reading.authors_words import Fact
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.candidates import chain_drafts, find_chains
from gan_export.understanding.chaining import Chain
from gan_export.understanding.heads import Told
from gan_export.understanding.listed import check_containers, keep_listed, listed_drafts
from gan_export.understanding.refusal import check_ends, check_units, named, not_a_chain
from gan_export.understanding.registered import Registered
from gan_export.understanding.units import COUNTER, Unit, units_of

NEAR = "nearly a known generator"


def draft_candidates(
    tensors: Mapping[str, Tensor],
    *,
    modules: Mapping[str, ModuleInfo] | None = None,
    settings: Mapping[str, Any] | None = None,
    image: tuple[int, int, int] | None = None,
    told: Told = Told(),
    said: Sequence[Fact] = (),
) -> list[Draft]:
    """The structures that `tensors` may be, best first, at most 13; each loads strictly into its spec's module.

    `tensors` is a cleaned state_dict in file order (float32, CPU, no wrapper prefixes, norms folded); `modules` what
    a pickled module says of its parts, in the order of registration; `image` the (C, H, W) to end at, when known;
    `told` what is known of the inputs from elsewhere; `settings` the plain values beside the tensors; `said` what the
    author's code says of places.

    A known family whose structure is settled comes alone. Its choices have strong evidence; every candidate's are as
    `gan_export.understanding.edit` lists them. What is nearly of a family says so in its notes, or in the error's hint.
    A whole module that lists everything in the order in which it runs is read as listed; of others, each draft has what
    the file lists.

    Raises `GanportError` when the file holds no chain of layers from a latent to an image, saying what it looks like or
    what was seen, and when it lists a module that a spec cannot say.
    """
    table = named(tensors, image)
    if table is not None and table.code == "embeddings" and image is None:  # a single matrix chains with itself
        raise table
    try:
        return _candidates(tensors, modules, settings, image, told, said)
    except RefusedError:
        raise
    except GanportError as error:
        raise named(tensors, image) or error from None


def _candidates(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, ModuleInfo] | None,
    settings: Mapping[str, Any] | None,
    image: tuple[int, int, int] | None,
    told: Told,
    said: Sequence[Fact],
) -> list[Draft]:
    units = units_of(tensors)
    tree = Registered(tensors, modules or {}, said)
    known = family_drafts(tensors, settings, modules)
    known = [draft for draft in known if image in (None, draft.spec.interface.image)]
    if known and known[0].knows_classes:
        return known[:1]
    if tree:
        check_containers(tree)
        listed = listed_drafts(tree, image)
        if listed:
            return listed
    if tree:
        known = _as_listed(known, tree)
    check_units(units)
    if known and all(choice.evidence.settled for choice in known[0].choices if choice.field == "structure"):
        return known
    near = None if known or modules else near_miss(Shapes.of(tensors))
    chains, broke = find_chains(units, image[0] if image else None)
    if not chains and (tabled := with_label_table(units)):
        units, chains = tabled
    if not chains:
        if known:
            return known
        error = not_a_chain(units, broke, image[0] if image else None)
        raise GanportError(str(error), hint=f"{NEAR}: {near}; {error.hint}") if near else error
    if image is None:
        check_ends(chains[0])
    drafts = chain_drafts(units, chains, tree, image, told)
    if near is not None:
        drafts = [replace(draft, notes=(*draft.notes, f"{NEAR}: {near}")) for draft in drafts]
    shapes = [draft.spec.shapes for draft in known]
    found = known + [draft for draft in drafts if draft.spec.shapes not in shapes]
    return keep_listed(found, tree) if tree else found


def _as_listed(known: list[Draft], tree: Registered) -> list[Draft]:
    """Those of `known` that have all that the file lists; people edit code, so none is no error."""
    try:
        return keep_listed(known, tree)
    except GanportError:
        return []


MOST_CLASSES = 100
"""Classes of a label that a linear layer takes as numbers, one-hot."""
SCALAR_CLASSES = 10
"""Classes assumed of a label that a linear layer takes as one number."""


def with_label_table(units: list[Unit]) -> tuple[list[Unit], list[Chain]] | None:
    """(`units` with the linear layer of a label as an embedding, the chains of the others), where one layer is left
    over that the next takes beside z: a one-hot label through a linear layer is a row of a table."""
    if any(unit.kind == "embedding" for unit in units):
        return None
    for unit in units:
        if unit.kind != "linear" or unit.shape[1] > MOST_CLASSES:
            continue
        others = [other for other in units if other is not unit]
        chains, _ = find_chains(others)
        chains = [chain for chain in chains if chain.latent > unit.shape[0]]
        if chains:
            return [_table_of(unit), *others], chains
    return None


def _table_of(unit: Unit) -> Unit:
    """A linear layer as the table of what it makes of each class."""
    weight = unit.tensors["weight"].float()
    rows = weight.T if weight.shape[1] > 1 else torch.arange(SCALAR_CLASSES)[:, None] * weight.T
    bias = unit.tensors.get("bias")
    return Unit(unit.name, "embedding", {"weight": (rows if bias is None else rows + bias).contiguous()})


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
