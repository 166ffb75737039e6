"""The way in: a cleaned state_dict → drafts; or, with a spec of the user's, the one draft that it says.

A file that is no generator that a spec can say gets one precise sentence, from names and shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Draft
from gan_export.families import RefusedError, Shapes
from gan_export.families.registry import family_drafts, near_miss
from gan_export.reading.authors_words import Fact
from gan_export.reading.kinds import WHAT, describe_role
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.attention import with_attention
from gan_export.understanding.branches import with_branches, with_label_joined, with_label_table
from gan_export.understanding.candidates import chain_drafts, find_chains
from gan_export.understanding.chaining import Break, Chain
from gan_export.understanding.geometry import SIZE_COSTS
from gan_export.understanding.heads import Told
from gan_export.understanding.listed import check_containers, keep_listed, listed_drafts
from gan_export.understanding.registered import Registered
from gan_export.understanding.units import COUNTER, OWN_CODE, Unit, needs_code, units_of

NEAR = "nearly a known generator"
PICK = 'gan-export inspect lists what the file holds; `key="a.b.c"` picks the generator'

SIGNS: tuple[tuple[str, str], ...] = (
    (r"cross_replica|ccbn|cbn|conditional_?bn|gain\.|gamma_embed|beta_embed", "a network with conditional norms"),
    (
        r"mapping\.|modulat|to_?rgbs?\b|torgb|noise_strength|noise_const|style|adain|input\.const|const_input",
        "a StyleGAN-like network",
    ),
    (
        r"attn|attention|\bquery|\bkey_conv|\bvalue_conv|in_proj_weight|qkv|(^|\.)(theta|phi|snconv1x1_theta)\b",
        "a network with attention",
    ),
    (r"weight_[ih]h_l\d", "a recurrent network"),
    (r"downsample|shortcut|bypass|skip|resid|res_?blocks?\b|c_sc\b|conv_sc|identity_conv", "a residual network"),
)
"""(pattern of keys, what they are a sign of): networks whose forward is no plain sequence."""


REMOVED = "torch.nn.utils.parametrize.remove_parametrizations on each layer, then save again; or "


def draft_candidates(
    tensors: Mapping[str, Tensor],
    *,
    modules: Mapping[str, ModuleInfo] | None = None,
    settings: Mapping[str, Any] | None = None,
    image: tuple[int, int, int] | None = None,
    told: Told = Told(),
    said: Sequence[Fact] = (),
    label_first: bool = False,
) -> list[Draft]:
    """The structures that `tensors` may be, best first, at most 13; each loads strictly into its spec's module.

    `tensors` is a cleaned state_dict in file order (float32, CPU, no wrapper prefixes, norms folded); `modules` what a
    pickled module says of its parts, in the order of registration; `image` the (C, H, W) to end at, when known;
    `told` what is known of the inputs from elsewhere; `settings` the plain values beside the tensors; `said` what the
    author's code says of places; `label_first` whether of two branches the label's values come before z's.

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
        return _candidates(tensors, modules, settings, image, told, said, label_first)
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
    label_first: bool,
) -> list[Draft]:
    units = with_attention(listed_units := units_of(tensors))
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
    if not chains and (branched := with_branches(units, told, label_first=label_first)):
        units, chains, told = branched
    if not chains:
        if known:
            return known
        error = not_a_chain(listed_units, broke, image[0] if image else None)
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


def drafts_with_spec(tensors: Mapping[str, Tensor], spec: GeneratorSpec | Any) -> list[Draft]:
    """The draft of a spec (or the JSON object of one) with the weights of `tensors`; nothing in it is left open. Two
    where two branches are one layer, and the spec does not say whose values come first.

    Weights go to the spec's layers by order and shape: each layer that owns tensors takes the next module of the file
    that has just these. Raises `GanportError` when the spec does not read, when a layer finds no weights that fit, and
    when weights are left over.
    """
    if not isinstance(spec, GeneratorSpec):
        spec = GeneratorSpec.from_json(spec)
    ours = {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)}
    if spec.tensors() == ours:
        return [Draft(spec, spec.by_layer(tensors), family="given")]
    units = with_attention(units_of(tensors))
    try:
        return [_in_some_order(spec, units)]
    except GanportError:
        face = spec.interface
        found = []
        for joined in with_label_joined(units, face.z_dim, face.n_classes):
            with suppress(GanportError):
                found.append(_in_some_order(spec, joined))
        if not found:
            raise
    return found


def _in_some_order(spec: GeneratorSpec, units: list[Unit]) -> Draft:
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


def check_units(units: list[Unit]) -> None:
    """Raises `GanportError` when the file holds no weights, weights in parts that only code joins, or no images."""
    _check_parts(units)
    if not any(unit.kind in ("linear", "conv") for unit in units):
        names = [".".join(filter(None, (unit.name, name))) for unit in units for name in unit.tensors]
        only = f", only {', '.join(names[:4])}{' …' * (len(names) > 4)}" if names else ""
        raise GanportError(f"it holds no weights of a layer{only}; expected a generator's state_dict", hint=PICK)


def _check_parts(units: list[Unit]) -> None:
    """Weights that are made of others by code that no file holds; what is arithmetic was folded before."""
    mapped = {unit.name.removesuffix(".0") for unit in units if unit.name.endswith(".0") and "base" in unit.tensors}
    for unit in units:
        owner, _, parametrised = unit.name.rpartition(".")
        holder, _, parent = owner.rpartition(".")
        if parent == "parametrizations" or owner == "parametrizations":
            how = "an orthogonal map" if unit.name in mapped else "a function of the author's, or several in a row"
            name = ".".join(filter(None, (holder, parametrised.removesuffix(".0"))))
            raise GanportError(
                f"{name} is made of {unit.first_key} by torch.nn.utils.parametrize: {how}, which no file holds",
                hint=f"{REMOVED}{OWN_CODE}",
            )
        if "weight_orig" in unit.tensors:
            raise needs_code(
                f"{unit.name}.weight is made of {unit.name}.weight_orig by code that no file holds: an equalised "
                "learning rate?"
            )


def check_ends(chain: Chain) -> None:
    """Raises `GanportError` when units chain, but not from a latent to an image: a classifier, an autoencoder."""
    side = _image_side(chain.latent)
    if chain.flat and (
        (side and chain.flat == chain.latent) or (not _image_side(chain.flat) and chain.flat < chain.latent)
    ):
        raise GanportError(
            f"expected a generator, which makes an image of a few numbers; {chain.steps[0].unit.first_key} takes "
            f"{chain.latent} and {chain.steps[-1].unit.first_key} gives {chain.flat}",
            hint=PICK,
        )


def named(tensors: Mapping[str, Tensor], image: tuple[int, int, int] | None) -> GanportError | None:
    """The error that says what network `tensors` are of, where that is no generator of images; None where they may be.

    Rows of a table may be images all the same where the user gives their size.
    """
    report = describe_role(tensors)
    if report.role not in WHAT or (image is not None and report.role == "table"):
        return None
    what, hint = WHAT[report.role]
    return GanportError(
        f"this looks like {what}, expected a generator of images: it {report.reason}", hint, report.role
    )


def not_a_chain(units: list[Unit], broke: Break, channels: int | None = None) -> GanportError:
    """The error for units that do not chain: the tell-tale names where there are any, else where it breaks."""
    keys = [f"{unit.name}.{local}" for unit in units for local in unit.tensors]
    for pattern, sign in SIGNS:
        seen = [key for key in keys if re.search(pattern, key, re.IGNORECASE)]
        if seen:
            return needs_code(f"this is no plain sequence of layers but {sign}: it has {_some(seen)}")
    strange = [unit for unit in units if unit.kind == "unknown"]
    if strange:
        unit = strange[0]
        lacking = _lacking(unit)
        if lacking:
            return GanportError(
                f"{unit.name}.{lacking} is missing, the rest of {unit.name} is there",
                hint="it was saved or converted incompletely: get the whole file, or pick another part with `key`",
            )
        found = ", ".join(f"{local} {list(shape)}" for local, shape in unit.shapes.items())
        return needs_code(f"{unit.name or 'the root'} is no layer that a spec knows: it has {found}")
    if broke.position == 0 and broke.unit is None:
        return needs_code(f"{len(units)} modules with weights, more than any chain that is searched")
    if broke.unit is None:
        return needs_code(
            f"the last layer gives {broke.given}, expected an image of {channels or _or(IMAGE_CHANNELS)} channels"
        )
    return GanportError(
        f"the layers do not chain: {broke.unit} comes after {broke.given}, which it cannot take",
        hint=f"a branch, a skip or another order of layers: {OWN_CODE}",
    )


def _lacking(unit: Unit) -> str:
    """The one tensor that would make `unit` a BatchNorm or a layer with weights; empty when that is not it."""
    names = set(unit.tensors)
    statistics = {"running_mean", "running_var"} - names
    if len(statistics) == 1:
        return statistics.pop()
    return "weight" if names == {"bias"} else ""


def _image_side(n: int) -> str | None:
    for channels in (1, 3):
        side = math.isqrt(n // channels)
        if channels * side**2 == n and side in SIZE_COSTS and side >= 28:
            return f"{channels}x{side}x{side}"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _or(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
