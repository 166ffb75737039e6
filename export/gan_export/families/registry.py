"""Every family that is known, what they make of a file, and how a new one is tried.

Another package adds families with entry points of the group "ganport.families": a name, and the subclass of `Family`.
docs/architecture.md shows it on one page.
"""

from __future__ import annotations

import functools
import graphlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from random import Random
from typing import Any

import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.latents import LATENT_LAWS
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec, flat
from gan_core.spec.layers import SpecError
from gan_export.draft import Choice, Draft, Evidence
from gan_export.families import (
    Family,
    Network,
    Shapes,
    biggan,
    dcgan,
    fastgan,
    gfpgan,
    image_to_image,
    joined,
    lucidrains,
    mimicry,
    pggan,
    plain,
    r3gan,
    rosinality,
    stylegan2,
    stylegan3,
    super_resolution,
    u_nets,
)
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding import slots
from gan_export.understanding.edit import replaced
from gan_export.understanding.units import COUNTER
from gan_trainer.networks.generator import build

_log = logging.getLogger(__name__)

GROUP = "ganport.families"
NEAR = 0.8
"""The part of all tensors from which on a file that is no family's is said to be near one."""
_LOOKED_AT, _LEAST_NEAR, _MOST_FAR = 8, 0.01, 0.05
LISTED = 16
"""Convolutions that the words for a structure list one by one."""
MODULES = (
    plain, dcgan, joined, pggan, mimicry, stylegan2, stylegan3, rosinality, lucidrains, biggan, r3gan, fastgan,
    super_resolution, image_to_image, u_nets, gfpgan,
)  # fmt: skip
OWN: tuple[type[Family[Any]], ...] = tuple(
    each
    for module in MODULES
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Family) and each.__module__ == module.__name__
)
"""The families that these modules define."""


@dataclass(frozen=True)
class NearMiss:
    """A family that a file nearly is of: `right` of `total` tensors are as its code has them, `differences` the others
    in words, first to last."""

    family: Family[Any]
    right: int
    total: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.differences) - 3} more" if len(self.differences) > 3 else ""
        return (
            f"{self.right} of {self.total} tensors as in {self.family.source}; {', '.join(self.differences[:3])}{more}"
        )


@functools.cache
def families() -> tuple[Family[Any], ...]:
    """ganport's families and those of entry points, each after the ones whose `before` names it; looked up once.

    One that cannot be loaded is left out with a warning (`logging`). Raises `GanportError` when `before` goes in a
    circle, and when two have the same name.
    """
    return _ordered((*OWN, *_foreign()))


def family_drafts(
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any] | None = None,
    modules: Mapping[str, ModuleInfo] | None = None,
) -> list[Draft]:
    """The drafts of every family that the file matches, the surest first; mostly none or one.

    Takes what `Shapes` has. Raises `RefusedError` when the file is of a family and cannot be exported.
    """
    shapes = Shapes.of(tensors, settings, modules)
    drafts = []
    for family, network in _networks(shapes):
        if network.shapes == shapes:
            if network.refused is not None:
                raise network.refused
            try:
                drafts.append(_draft(family, network, tensors))
            except SpecError:
                continue
    return sorted(drafts, key=lambda draft: not draft.choices[0].evidence.settled)


def is_known(shapes: Shapes) -> bool:
    """Whether a file's keys and shapes are exactly those of a family's network."""
    return any(network.shapes == shapes for _, network in _networks(shapes))


def near_miss(shapes: Shapes) -> NearMiss | None:
    """The family that most of a file's tensors are of, where it is none's; None where nothing is near."""
    found = []
    for family, network in _networks(shapes):
        expected = network.shapes
        union = dict.fromkeys((*expected, *shapes))
        wrong = [key for key in union if expected.get(key) != shapes.get(key)]
        if wrong and len(union) - len(wrong) >= NEAR * len(union):
            words = tuple(_difference(key, expected.get(key), shapes.get(key)) for key in wrong)
            found.append(NearMiss(family, len(union) - len(wrong), len(union), words))
    return max(found, key=lambda near: near.right / near.total, default=None)


def _difference(key: str, expected: L.Shape | None, found: L.Shape | None) -> str:
    if found is None:
        return f"{key} is missing"
    return f"{key} is unexpected" if expected is None else f"{key} is {list(found)}, expected {list(expected)}"


def _networks(shapes: Shapes) -> Iterator[tuple[Family[Any], Network]]:
    for family in families():
        for numbers in family.numbers(shapes):
            try:
                yield family, family.network(numbers)
            except SpecError:
                continue


def _foreign() -> Iterator[type[Family[Any]]]:
    for entry_point in metadata.entry_points(group=GROUP):
        try:
            yield entry_point.load()
        except Exception as error:
            _log.warning("the family %s cannot be loaded: %s: %s", entry_point.value, type(error).__name__, error)


def _ordered(classes: Sequence[type[Family[Any]]]) -> tuple[Family[Any], ...]:
    known = {cls.name: cls() for cls in classes}
    if len(known) < len(classes):
        names = [cls.name for cls in classes]
        twice = next(name for name in names if names.count(name) > 1)
        raise GanportError(f"two families are named {twice}", hint=f"uninstall a package that adds one ({GROUP})")
    after: dict[str, Iterable[str]] = {
        name: {o for o, other in known.items() if name in other.before} for name in known
    }
    try:
        order = tuple(graphlib.TopologicalSorter(after).static_order())
    except graphlib.CycleError as error:
        raise GanportError(
            f"the families {', '.join(error.args[1][1:])} each go before the other",
            hint=f"uninstall a package that adds one ({GROUP})",
        ) from error
    return tuple(known[name] for name in order)


def _draft(family: Family[Any], network: Network, tensors: Mapping[str, Tensor]) -> Draft:
    """The draft of a network whose keys and shapes are the file's. Raises `SpecError` when its layers do not make its
    image."""
    layers = tuple(layer for _, layer in network.layers)
    face = network.interface
    size = face.height if face.input is None or face.input.fixed else f"x{face.input.scale}"
    spec = GeneratorSpec(face, layers, name=f"{family.name}-{size}")
    weights = network.weights(tensors)
    choices = tuple(_choices(family, network))
    known = network.knows_classes
    draft = Draft(spec, weights, choices, family=family.name, notes=network.notes, knows_classes=known)
    return _end_seen(draft) if "output" in network.questions else draft


def _end_seen(draft: Draft) -> Draft:
    """`draft` with its end settled where it has no activation and its images show none.

    A generator that learned with a bounded end makes values far beyond the range before it, for what is nearly black or
    white: in a few trained ones with tanh, 0.37 to 0.96 of the values beyond 0.8 were beyond 1.3, too. One without
    learns the range itself. No trained FastGAN has been looked at.
    """
    choice = next((choice for choice in draft.choices if choice.field == "output"), None)
    if choice is None or choice.value["name"] != "identity":
        return draft
    face = draft.spec.interface
    label = torch.arange(_LOOKED_AT) % face.n_classes if face.n_classes else None
    module = build(draft.spec).eval()
    module.load_state_dict(flat(draft.weights))
    with torch.no_grad():
        image = module(torch.from_numpy(face.latents(range(_LOOKED_AT))), label)
    black, white = face.value_range
    values = ((image - black) / (white - black) * 2 - 1).abs()
    near, far = ((values > bound).double().mean().item() for bound in (0.8, 1.3))
    words = f"of its values, {near:.1%} are beyond 0.8 and {far:.1%} beyond 1.3"
    if near > _LEAST_NEAR and far < _MOST_FAR * near:
        return replaced(draft, replace(choice, evidence=Evidence.STRONG, reason=f"{choice.reason}; {words}"))
    return replaced(draft, replace(choice, reason=f"{choice.reason}, and copies of it have tanh; {words}"))


def _choices(family: Family[Any], network: Network) -> Iterator[Choice]:
    layers, interface = [layer for _, layer in network.layers], network.interface

    def choice(index: int | None, field: str, value: Any, values: tuple[Any, ...] = ()) -> Choice:
        sure = network.evidence if network.evidence.settled or field != "structure" else Evidence.STRONG
        evidence = Evidence.WEAK if field in network.questions else sure
        if field in network.said:
            return Choice(index, field, value, Evidence.PROVED, "the file says so")
        others = slots.others(value, values)
        return Choice(index, field, value, evidence, f"as {family.source} has it", others, habit=True)

    words = {"conv": "conv", "conv_transpose": "convT"}
    convs = [
        f"{words[layer.kind]} k{layer.kernel} s{layer.stride} p{layer.padding}"
        for layer in layers
        if isinstance(layer, (L.Conv, L.ConvTranspose))
    ]
    if len(convs) > LISTED:
        runs = [(one, len(list(alike))) for one, alike in itertools.groupby(convs)]
        convs = [f"{count} times {one}" if count > 1 else one for one, count in runs]
    text = ", ".join(convs)
    size = "x".join(map(str, interface.image))
    yield choice(None, "structure", f"{text} → {size}" if text else size)
    if interface.input is None:
        yield choice(None, "latent", interface.latent, LATENT_LAWS)
    if interface.styles is not None:
        yield choice(None, "value_range", list(interface.value_range), ([-1.0, 1.0], [0.0, 1.0]))
        return
    if network.norms:
        first = next(index for index, layer in enumerate(layers) if isinstance(layer, L.BatchNorm))
        yield Choice(first, "norm", layers[first].to_json(), Evidence.WEAK, network.norms, habit=True)
    last = max((index for index, layer in enumerate(layers) if isinstance(layer, L.Activation)), default=None)
    if last is not None and any(layer.tensors() for layer in layers[last + 1 :]):
        last = None  # weights come after it: the network has no output activation
    for index, layer in enumerate(layers):
        if isinstance(layer, L.LabelEmbedding) and layer.merge != "label":
            wide = ("multiply", "add") if layer.merge in ("multiply", "add") else ("z_label", "label_z")
            yield choice(index, "merge", layer.merge, wide)
        elif interface.input is not None and "activation" not in network.questions:
            continue
        elif isinstance(layer, L.BatchNorm):
            yield choice(index, "eps", layer.eps, slots.EPS_VALUES)
        elif isinstance(layer, L.Upsample):
            value = {"mode": layer.mode, "align_corners": layer.align_corners}
            yield choice(index, "upsample", value, slots.UPSAMPLE_VALUES)
        elif isinstance(layer, L.Activation) and index != last:
            yield choice(index, "activation", slots.value_of(layer), slots.ACTIVATION_VALUES)
        elif isinstance(layer, L.Activation):
            value = slots.value_of(layer) | {"value_range": list(interface.value_range)}
            yield choice(index, "output", value, slots.OUTPUT_VALUES)


def check_family(family: Family[Any], *, times: int = 20, seed: int = 0) -> None:
    """Makes `times` random files of `family` (`sample`, by `seed`), and has all families read them.

    Raises `AssertionError` with the numbers when a file is not read back with the same numbers, when `family` makes no
    draft of it or another family comes first, when the draft has other layers or another interface, and when its module
    does not take the weights or draws no image of its size.
    """
    random = Random(seed)
    for _ in range(times):
        numbers = family.sample(random)
        network = family.network(numbers)
        where = f"{family.name} {numbers}"
        tensors = {key: torch.rand(shape) for key, shape in network.shapes.items()}
        assert numbers in list(family.numbers(Shapes.of(tensors))), f"{where}: the shapes give other numbers"
        assert network.refused is None, f"{where}: a sample is refused"
        drafts = family_drafts(tensors)
        assert drafts, f"{where}: no family makes a draft of it"
        first = drafts[0]
        assert first.family == family.name, f"{where}: {first.family} comes first"
        layers = tuple(layer for _, layer in network.layers)
        equal = [draft for draft in drafts if draft.spec.layers == layers]
        assert equal, f"{where}: the draft has other layers"
        assert equal[0].spec.interface == network.interface, f"{where}: the draft has another interface"
        _check_module(equal[0], where)


def _check_module(draft: Draft, where: str) -> None:
    module, interface = build(draft.spec).eval(), draft.spec.interface
    keys = module.load_state_dict(flat(draft.weights), strict=False)
    wrong = [key for key in (*keys.missing_keys, *keys.unexpected_keys) if not key.endswith(COUNTER)]
    assert not wrong, f"{where}: its module takes other weights: {', '.join(wrong)}"
    label = torch.zeros(2, dtype=torch.int64) if interface.n_classes else None
    with torch.no_grad():
        image = module(torch.zeros(2, *interface.input_shape), label)
    assert tuple(image.shape) == (2, *interface.image), f"{where}: it draws {tuple(image.shape)}"
