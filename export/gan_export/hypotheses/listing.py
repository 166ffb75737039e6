"""Whole generators that a file may be: the open choices of its drafts, tied as an author ties them.

A hypothesis is a draft with a value for everything that is open, and what that costs: how unusual it is to write, in
nats (1 is e times as rare). The costs of activations and outputs were counted on generators of 70 repositories, each
counted once: of 57 GANs 54 end in tanh, 3 in a sigmoid; of 49 without BatchNorm 35 have ReLU throughout, 10 LeakyReLU
0.2, 3 LeakyReLU 0.1, one 0.01.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gan_core.spec.layers import Activation, BatchNorm, Conv, ConvTranspose, LabelOneHot, Linear, Reshape, Upsample
from gan_export.draft import Choice, Draft, Evidence
from gan_export.understanding.edit import with_values

Value = Any

ACTIVATIONS: tuple[tuple[dict[str, Any], float], ...] = (
    ({"name": "relu", "slope": None}, 0.0),
    ({"name": "leaky_relu", "slope": 0.2}, 1.1),
    ({"name": "leaky_relu", "slope": 0.01}, 3.4),
    ({"name": "leaky_relu", "slope": 0.1}, 2.7),
    ({"name": "leaky_relu", "slope": 0.3}, 5.0),
    ({"name": "leaky_relu", "slope": 0.05}, 5.5),
    ({"name": "gelu", "slope": None}, 4.5),
    ({"name": "elu", "slope": None}, 4.5),
    ({"name": "silu", "slope": None}, 4.5),
    ({"name": "tanh", "slope": None}, 4.5),
    ({"name": "selu", "slope": None}, 5.0),
    ({"name": "softplus", "slope": None}, 6.0),
    ({"name": "sigmoid", "slope": None}, 6.0),
    ({"name": "identity", "slope": None}, 5.5),
)
"""What all open hidden activations may be, and what it costs."""
OUTPUTS: tuple[tuple[dict[str, Any], float], ...] = (
    ({"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}, 0.0),
    ({"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}, 2.8),
    ({"name": "identity", "slope": None, "value_range": [-1.0, 1.0]}, 4.5),
    ({"name": "identity", "slope": None, "value_range": [0.0, 1.0]}, 4.5),
)
LAWS = (("normal", 0.0), ("uniform", 3.0), ("uniform01", 8.5))
"""U(0, 1) is rarer than anything that is drawn unasked: statistics or the author's code must speak for it."""
EPS = ((1e-5, 0.0), (0.8, 2.5), (1e-3, 5.0))
MODES: tuple[tuple[dict[str, Any], float], ...] = (
    ({"mode": "nearest", "align_corners": False}, 0.0),
    ({"mode": "bilinear", "align_corners": False}, 2.0),
    ({"mode": "bilinear", "align_corners": True}, 3.0),
)
MERGES = (("z_label", 0.0), ("label_z", 0.5))
PRODUCTS = (("multiply", 0.0), ("add", 1.0))
"""How a label as wide as z is joined with it: of the code that a search for either found, a third adds it."""
EVEN, OTHER = 1.0, 6.0
"""What a value costs that none of these lists has, where the file suggests it, and where nothing does."""
UNTIED = 2
"""How many other values are tried in one place alone."""
UNLIKE = 6.5
"""What it costs to do otherwise than the same file shows elsewhere."""
FAMILY = 6.9
"""What a known family's code has against another value: 1000 : 1."""
LIKELY_FAMILY = 3.0
"""What one has whose keys and shapes other code has, too."""
UNKNOWN = 2.0
"""What the file's numbering or a usual end has against another value."""
BARE_FIRST = 0.7
"""What it costs that nothing stands between the first linear layer and the image it becomes, and what something costs:
both are usual."""


COPIED: dict[str, tuple[Value, float]] = {"activation": ACTIVATIONS[1], "eps": EPS[1]}
"""What stands in a generator that begins as PyTorch-GAN's DCGAN does, which many have copied, and what anything else
costs more: of three that were found all have this eps, two this slope."""
COPIED_COST = 1.0


@dataclass(frozen=True)
class Option:
    """One way in which one aspect may be written: a value for each of its choices."""

    words: str
    values: tuple[Value, ...]
    cost: float


@dataclass(frozen=True)
class Aspect:
    """Open choices that an author makes as one, and the ways to make them, the least costly first."""

    name: str
    choices: tuple[Choice, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Hypothesis:
    """A whole generator.

    taken   aspect → what it says there, in words
    places  aspect → (layer, field) of each of its choices
    cost    how unusual it is, in nats
    """

    draft: Draft
    taken: dict[str, str]
    places: dict[str, tuple[tuple[int | None, str], ...]]
    cost: float


def aspects_of(draft: Draft) -> list[Aspect]:
    """What is open in `draft`, but for its structure."""
    open_ones = [choice for choice in draft.choices if not choice.evidence.settled]
    hidden = [choice for choice in open_ones if choice.field == "activation"]
    first = [choice for choice in hidden if before_reshape(draft, choice)]
    body = [choice for choice in hidden if choice not in first]
    found = [_activations(draft, "activation", body, bare=False)] if body else []
    if first:
        found.append(_activations(draft, "first activation", first, bare=True))
    for field, name, values in (
        ("output", "output", OUTPUTS),
        ("eps", "eps", EPS),
        ("upsample", "upsampling", MODES),
        ("merge", "order of z and label", MERGES),
        ("latent", "latent distribution", LAWS),
    ):
        tied = [choice for choice in open_ones if choice.field == field]
        if field == "merge" and tied and tied[0].value in dict(PRODUCTS):
            name, values = "label with z", PRODUCTS
        if tied:
            found.append(_tied(draft, name, tied, values))
    if _copied(draft):
        found = [_favoured(aspect, *COPIED[aspect.name]) if aspect.name in COPIED else aspect for aspect in found]
    norms = [choice for choice in open_ones if choice.field == "eps"]
    if len(norms) > 1:
        found = [_first_norm_apart(aspect) if aspect.name == "eps" else aspect for aspect in found]
    for choice in open_ones:
        if choice.field in ("norm", "value_range"):
            rest = [(value, EVEN) for value in choice.alternatives]
            found.append(_tied(draft, choice.field, [choice], [(choice.value, 0.0), *rest]))
    return found


def cheapest(
    draft: Draft, aspects: Sequence[Aspect], cost: float, most: int
) -> list[tuple[float, Callable[[], Hypothesis]]]:
    """The `most` combinations of the options of `aspects` that cost least on `draft`, whose structure costs `cost`:
    what each costs, and a function that makes it."""
    combined: list[tuple[float, tuple[Option, ...]]] = [(cost, ())]
    for aspect in aspects:
        longer = ((cost + o.cost, (*taken, o)) for cost, taken in combined for o in aspect.options)
        combined = heapq.nsmallest(4 * most, longer, key=lambda pair: pair[0])
    found = [(cost + _unlike(aspects, taken), taken) for cost, taken in combined]
    found.sort(key=lambda pair: pair[0])
    return [(cost, partial(_combination, draft, aspects, taken, cost)) for cost, taken in found[:most]]


def _unlike(aspects: Sequence[Aspect], taken: Sequence[Option]) -> float:
    """What it costs that the first activation is not like the others."""
    named = {aspect.name: option.words for aspect, option in zip(aspects, taken, strict=True)}
    first, others = named.get("first activation"), named.get("activation")
    return UNLIKE if first is not None and others is not None and first not in ("identity", others) else 0.0


def _combination(draft: Draft, aspects: Sequence[Aspect], taken: Sequence[Option], cost: float) -> Hypothesis:
    """`draft` with the options `taken`, one for each of `aspects`."""
    choices = tuple(choice for aspect in aspects for choice in aspect.choices)
    values = [value for option in taken for value in option.values]
    named = {aspect.name: option.words for aspect, option in zip(aspects, taken, strict=True)}
    places = {aspect.name: tuple((c.layer, c.field) for c in aspect.choices) for aspect in aspects}
    return Hypothesis(with_values(draft, choices, values), named, places, cost)


def structure_cost(draft: Draft) -> float:
    """How unusual the sizes, paddings and inputs of `draft` are, in nats."""
    cost = draft.structure.cost if draft.structure else 0.0
    if draft.structure and isinstance(draft.spec.layers[0], LabelOneHot):
        cost -= 4.5  # 110 inputs are 100 and ten classes rather than 110
    return cost


def _activations(draft: Draft, name: str, choices: Sequence[Choice], *, bare: bool) -> Aspect:
    aspect = _tied(draft, name, choices, ACTIVATIONS)
    if not bare:
        return aspect
    options = [
        replace(option, cost=BARE_FIRST)
        if option.words == "identity"
        else replace(option, cost=option.cost + BARE_FIRST)
        for option in aspect.options
    ]
    return replace(aspect, options=tuple(sorted(options, key=lambda option: option.cost)))


def before_reshape(draft: Draft, choice: Choice) -> bool:
    """Whether a choice is of the activation between a linear layer and the image that its numbers become."""
    assert choice.layer is not None
    layers = draft.spec.layers
    around = choice.layer > 0 and isinstance(layers[choice.layer - 1], (Linear, BatchNorm))
    return around and choice.layer + 1 < len(layers) and isinstance(layers[choice.layer + 1], Reshape)


def _tied(draft: Draft, name: str, choices: Sequence[Choice], values: Sequence[tuple[Value, float]]) -> Aspect:
    """All of `choices` with one value, by what is usual, what the file shows elsewhere and what statistics say."""
    field = choices[0].field
    shown = [c.value for c in draft.choices if c.field == field and c.evidence.settled and not _nothing(c.value)]
    if field == "eps":
        kind = _behind(draft, choices[0])
        shown = [
            c.value for c in draft.choices if c.field == field and c.evidence.settled and _behind(draft, c) == kind
        ]
    known = [c for c in draft.choices if c.habit and c.field != "structure"]
    family = FAMILY if any(c.evidence is Evidence.STRONG for c in known) else LIKELY_FAMILY if known else UNKNOWN
    listed = [(value, cost) for value, cost in values]
    for choice in choices:
        for value in (choice.value, *choice.alternatives):
            if not any(_same(value, known) for known, _ in listed):
                listed.append((value, EVEN if value is choice.value else OTHER))
    options = [Option(text_of(value), (value,) * len(choices), cost) for value, cost in listed]
    leaning = [choice.value for choice in choices if choice.odds is not None and choice.evidence is Evidence.WEAK]
    if leaning and all(_same(value, leaning[0]) for value in leaning):
        options = [replace(o, cost=0.0) if _same(o.values[0], leaning[0]) else o for o in options]
    options = [replace(o, cost=o.cost + sum(_against(c, o.values[0], family) for c in choices)) for o in options]
    if shown and all(_same(value, shown[0]) for value in shown):
        options = [replace(o, cost=0.0 if _same(o.values[0], shown[0]) else o.cost + UNLIKE) for o in options]
    options.sort(key=lambda option: option.cost)
    return Aspect(name, tuple(choices), (*options, *_untied(choices, options)))


def _untied(choices: Sequence[Choice], options: Sequence[Option]) -> list[Option]:
    """The likeliest value for all `choices` but one, which has one of the next likely: a rare thing to write."""
    if len(choices) < 2 or choices[0].field not in ("activation", "eps"):
        return []
    found: dict[str, Option] = {}
    for usual in options[:2]:
        for i, choice in enumerate(choices):
            for other in (*options[:UNTIED], *(o for o in options[UNTIED:] if _nothing(o.values[0]))):
                if other is not usual:
                    values = (*usual.values[:i], other.values[i], *usual.values[i + 1 :])
                    words = f"{usual.words}, but {other.words} in layer {choice.layer}"
                    cost = usual.cost + UNLIKE + min(other.cost, 1.0)
                    found.setdefault(str(values), Option(words, values, cost))
    return list(found.values())


def _behind(draft: Draft, choice: Choice) -> str | None:
    """The kind of the last linear layer or convolution in front of a choice's layer: BatchNorm2d(n) behind the first
    Linear and BatchNorm2d(n, 0.8) behind the convolutions is one author's habit that many have copied."""
    layers = draft.spec.layers[: choice.layer]
    return next((layer.kind for layer in reversed(layers) if isinstance(layer, (Linear, Conv, ConvTranspose))), None)


def _against(choice: Choice, value: Value, family: float) -> float:
    """What the statistics, a family or the file's numbering have against another value than a choice's, in nats."""
    if _same(choice.value, value) or choice.evidence is Evidence.NONE:
        return 0.0
    if choice.odds is not None:
        return math.log(max(choice.odds, 1.0))
    return family


def _copied(draft: Draft) -> bool:
    """Whether an upsampling follows a BatchNorm with no activation between."""
    layers = [layer for layer in draft.spec.layers if not (isinstance(layer, Activation) and layer.name == "identity")]
    return any(isinstance(a, BatchNorm) and isinstance(b, Upsample) for a, b in itertools.pairwise(layers))


def _favoured(aspect: Aspect, value: Value, cost: float) -> Aspect:
    """`aspect` with `value` throughout as the usual option, all others costing more; as it is where the file speaks, so
    that `value` does not have its usual `cost`."""
    own = [o for o in aspect.options if o.cost == cost and all(_same(v, value) for v in o.values)]
    if not own:
        return aspect
    options = [replace(o, cost=0.0 if o in own else o.cost + COPIED_COST) for o in aspect.options]
    return replace(aspect, options=tuple(sorted(options, key=lambda option: option.cost)))


def _first_norm_apart(aspect: Aspect) -> Aspect:
    """`aspect`, an eps for all, with the habit that many have copied: 1e-5 in the first, 0.8 in the others."""
    rest = len(aspect.choices) - 1
    cost = next((option.cost for option in aspect.options if option.values[0] == 0.8), OTHER)
    option = Option("1e-05, then 0.8", (1e-5, *(0.8,) * rest), cost)
    return replace(aspect, options=(*aspect.options, option))


def _nothing(value: Value) -> bool:
    return isinstance(value, dict) and value.get("name") == "identity"


def _same(a: Value, b: Value) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        slopes = {"leaky_relu": 0.01, "elu": 1.0}

        def slope(value: Value) -> Value:
            return slopes.get(value.get("name")) if value.get("slope") is None else value["slope"]

        kept = {key: value for key, value in a.items() if key != "slope"} == {
            k: v for k, v in b.items() if k != "slope"
        }
        return kept and slope(a) == slope(b)
    return bool(a == b)


def text_of(value: Value) -> str:
    """A value in a word or two."""
    from gan_export.assumptions import describe_value

    return f"{value:g}" if isinstance(value, float) else describe_value(value)
