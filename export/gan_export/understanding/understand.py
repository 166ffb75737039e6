"""The way in: a cleaned state_dict → drafts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from gan_core.errors import GanportError
from gan_export.draft import Draft
from gan_export.families.registry import family_drafts, near_miss
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.candidates import chain_drafts, find_chains
from gan_export.understanding.listed import listed_drafts
from gan_export.understanding.listed_check import check_containers, keep_listed
from gan_export.understanding.module_tree import Tree
from gan_export.understanding.refusal import check_ends, check_role, check_units, not_a_chain
from gan_export.understanding.registered import Registered
from gan_export.understanding.units import units_of

NEAR = "nearly a known generator"


def draft_candidates(
    tensors: Mapping[str, Tensor],
    *,
    modules: Mapping[str, ModuleInfo] | None = None,
    image: tuple[int, int, int] | None = None,
) -> list[Draft]:
    """The structures that `tensors` may be, best first, at most 13; each loads strictly into its spec's module.

    `tensors` is a cleaned state_dict in file order (float32, CPU, no wrapper prefixes, norms folded); `modules` what
    a pickled module says of its parts, in the order of registration; `image` the (C, H, W) to end at, when known.

    A known family whose structure is settled comes alone. Its choices have strong evidence; every candidate's are as
    `gan_export.understanding.edit` lists them. What is nearly of a family says so in its notes, or in the error's hint.
    A whole module that lists everything in the order in which it runs is read as listed; of others, each draft has what
    the file lists.

    Raises `GanportError` when the file holds no chain of layers from a latent to an image, saying what was seen, and
    when it lists a module that a spec cannot say.
    """
    units = units_of(tensors)
    tree = Tree(tensors, modules or {})
    if tree:
        check_containers(tree)
        listed = listed_drafts(tree, image)
        if listed:
            return listed
    check_units(units)
    known = (
        [draft for draft in family_drafts(tensors) if image in (None, draft.spec.interface.image)]
        if not modules
        else []
    )
    if known and all(choice.evidence.settled for choice in known[0].choices if choice.field == "structure"):
        return known
    near = None if known or modules else near_miss(tensors)
    chains, broke = find_chains(units, image[0] if image else None)
    if not chains:
        if known:
            return known
        check_role(units)
        error = not_a_chain(units, broke, image[0] if image else None)
        raise GanportError(str(error), hint=f"{NEAR}: {near}; {error.hint}") if near else error
    if image is None:
        check_ends(chains[0])
    drafts = chain_drafts(units, chains, Registered(modules), image)
    if near is not None:
        drafts = [replace(draft, notes=(*draft.notes, f"{NEAR}: {near}")) for draft in drafts]
    shapes = [draft.spec.shapes for draft in known]
    found = known + [draft for draft in drafts if draft.spec.shapes not in shapes]
    return keep_listed(found, tree) if tree else found
