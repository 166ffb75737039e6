"""Drafts of whole modules, held against what the file lists: nothing is left out, nothing said otherwise.

A network of an author's class runs code that is not in the file, so its draft comes from shapes. What the file lists of
it all the same, each module with its numbers, has to be in the draft.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from gan_core.errors import GanportError
from gan_core.spec import layers as L
from gan_core.spec.layers import Shape, SpecError
from gan_export.draft import Draft
from gan_export.understanding.module_tree import LISTS_ONLY, RUNS_ITS_CHILDREN, Tree
from gan_export.understanding.torch_modules import INERT, OWN_CODE, layers_of


def check_containers(tree: Tree) -> None:
    """Raises `GanportError` for a container of torch's that computes something of its own (an attention, a
    transformer), and for one with a hook."""
    for name in tree.inner:
        info = tree.modules[name]
        composed = info.from_torch and info.kind not in (*RUNS_ITS_CHILDREN, *LISTS_ONLY)
        if info.changed or composed:
            layers_of(tree.part(name))


def check_listed(draft: Draft, tree: Tree) -> None:
    """Raises `GanportError` for the first module that the file lists and `draft` leaves out or has otherwise.

    Between two modules of one `nn.Sequential` the draft must have what is listed, in its order. Elsewhere the order is
    the author's code; there each listed module must be among the draft's layers.
    """
    at = _layers_of_leaves(draft, tree)
    for name in tree.leaves:
        if name in at:
            _check_weights(draft, tree, name, at[name])
    known = [name for name in tree.leaves if name in at]
    done: set[str] = set()
    for before, after in pairwise(known):
        if tree.together(before, after):
            between = tree.leaves[tree.leaves.index(before) + 1 : tree.leaves.index(after)]
            _check_between(draft, tree, between, at[before], at[after])
            done.update(between)
    for name in tree.leaves:
        if name not in done and name not in at and not _lists_only(tree, name):
            for layer in layers_of(tree.part(name, _any_shape(tree, name)), tree.where(name)):
                if not _has(draft, layer):
                    raise _missing(tree, name)


def _layers_of_leaves(draft: Draft, tree: Tree) -> dict[str, int]:
    """Leaf with tensors → index of the draft's layer that has them."""
    owners = {id(tensor): name for name, held in tree.tensors.items() for tensor in held.values()}
    found = {owners.get(id(tensor)): i for i, owned in enumerate(draft.weights) for tensor in owned.values()}
    return {name: index for name, index in found.items() if name in tree.leaves}


def _check_weights(draft: Draft, tree: Tree, name: str, index: int) -> None:
    """A module with weights is the layer that it says, but for a border that the layer took in."""
    here = draft.spec.layers[index]
    listed = layers_of(tree.part(name, draft.spec.shapes[index]), tree.where(name))[-1]
    if isinstance(here, L.LabelEmbedding) and isinstance(listed, L.LabelEmbedding):
        listed = replace(listed, merge=here.merge)
    if isinstance(here, L.Conv) and isinstance(listed, L.Conv) and not listed.padding:
        listed = replace(listed, padding=here.padding, padding_mode=here.padding_mode)
    if listed != here:
        raise _missing(tree, name)


def _check_between(draft: Draft, tree: Tree, names: list[str], before: int, after: int) -> None:
    """The modules `names` without weights are what the draft has between its layers `before` and `after`."""
    drafted = list(range(before + 1, after))
    closing = draft.spec.layers[after]
    for name in names:
        drafted = list(_from_next(draft, drafted))
        shape = draft.spec.shapes[drafted[0] if drafted else after]
        for layer in layers_of(tree.part(name, shape), tree.where(name)):
            if isinstance(layer, L.Reshape):
                continue
            if isinstance(layer, L.Pad) and name == names[-1] and not drafted and _took_in(closing, layer):
                continue
            if not drafted or draft.spec.layers[drafted[0]] != layer:
                raise _missing(tree, name)
            drafted = drafted[1:]
    rest = list(_from_next(draft, drafted))
    if rest:
        found = draft.spec.layers[rest[0]]
        raise GanportError(
            f"the file lists no {found.kind} between {tree.leaves[0]} and its end where the draft has one",
            hint=OWN_CODE,
        )


def _from_next(draft: Draft, drafted: list[int]) -> Iterator[int]:
    """`drafted` from the first layer on that is no reshape and no identity."""
    passed = False
    for index in drafted:
        layer = draft.spec.layers[index]
        nothing = isinstance(layer, L.Reshape) or (isinstance(layer, L.Activation) and layer.name == "identity")
        passed = passed or not nothing
        if passed:
            yield index


def _took_in(layer: L.Layer, pad: L.Pad) -> bool:
    """Whether a convolution's own padding is `pad`."""
    borders = set(pad.borders)
    return isinstance(layer, L.Conv) and borders == {layer.padding} and pad.mode == layer.padding_mode and not pad.value


def _any_shape(tree: Tree, name: str) -> Shape | None:
    """A shape for the modules that only need to be somewhere: whole upsamplings, and reshapes, which leave no layer."""
    return (1, 16, 16) if tree.modules[name].kind.startswith("Upsampl") else None


def _lists_only(tree: Tree, name: str) -> bool:
    info = tree.modules[name]
    return info.from_torch and info.kind in (*LISTS_ONLY, "Flatten", "Unflatten", *INERT)


def _has(draft: Draft, layer: L.Layer) -> bool:
    if isinstance(layer, L.Pad):
        return layer in draft.spec.layers or any(_took_in(other, layer) for other in draft.spec.layers)
    return layer in draft.spec.layers


def _missing(tree: Tree, name: str) -> GanportError:
    return GanportError(
        f"the file lists {tree.modules[name].kind} {tree.where(name)}, which the draft from its shapes does not have",
        hint=OWN_CODE,
    )


def keep_listed(drafts: list[Draft], tree: Tree) -> list[Draft]:
    """Those of `drafts` that have all that the file lists. If none does, raises why the first one fails."""
    kept, wrong = [], None
    for draft in drafts:
        try:
            check_listed(draft, tree)
            kept.append(draft)
        except (GanportError, SpecError) as error:
            wrong = wrong or error
    if not kept and wrong is not None:
        raise wrong
    return kept
