"""All candidates of a chain, ranked, each with what its structure rests on."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch

from gan_core.errors import GanportError
from gan_core.spec.generator_spec import SpecError
from gan_export.draft import Choice, Draft, Evidence, Structure
from gan_export.understanding.chaining import Break, Chain, Chainer, orders
from gan_export.understanding.drafting import draft_chain
from gan_export.understanding.geometry import (
    LARGEST,
    SIZE_COSTS,
    End,
    Geometry,
    Paths,
    advance,
    endings,
    geometries,
    invents,
)
from gan_export.understanding.heads import Head, Told, heads
from gan_export.understanding.registered import Registered
from gan_export.understanding.rules import UNLISTED, Rule
from gan_export.understanding.slots import activation
from gan_export.understanding.units import Unit, needs_code
from gan_trainer.networks.generator import build_layer

MOST_WAYS = 320
"""Ways through one stretch that are listed; where there are more, the likeliest, and the list is said to be cut."""

Rules = tuple[Rule | None, ...]
_Onward = tuple[float, Rules, End | None]
_NO_END: _Onward = (math.inf, (), None)


class Ways:
    """The ways of sizing `chain` that end at an image of `size` or, when None, of a plausible one: for the statistics,
    which judge a stretch from BatchNorm to BatchNorm at a time.

    Nothing is left out but what cannot be: every stride up to the kernel, every padding below it, every output padding,
    upsampling by 2, 3 and 4 before a convolution; of several convolutions in one stretch, at most one takes a rule that
    nobody is known to have written.
    """

    def __init__(self, chain: Chain, registered: Registered, size: int | None) -> None:
        self.chain, self.registered, self.size = chain, registered, size
        self._ends: dict[tuple[int, int, bool], _Onward] = {}

    def through(self, before: Rules, stop: int) -> tuple[list[Geometry], bool]:
        """The geometries that begin with the rules `before` and differ in the steps from there up to `stop`, likeliest
        first, each with the likeliest end behind `stop`; and whether the list was cut."""
        paths: Paths = {self._reached(before): [(sum(rule.cost for rule in before if rule), before)]}
        cut = False
        for index in range(len(before), stop):
            paths = advance(paths, self.chain, index, self.registered, every=True)
            paths, dropped = _kept(paths, len(before))
            cut = cut or dropped
        found: list[Geometry] = []
        for here, ways in paths.items():
            if stop == len(self.chain.steps):
                for end in endings(here, self.chain, self.size):
                    found += [Geometry(way, end.size, cost + end.cost, end.resized) for cost, way in ways]
                continue
            cost_on, rest, last = self._end(stop, here)
            if last:
                found += [Geometry((*way, *rest), last.size, cost + cost_on, last.resized) for cost, way in ways]
        found.sort(key=lambda geometry: geometry.cost)
        return found[:MOST_WAYS], cut or len(found) > MOST_WAYS

    def likeliest(self) -> list[Geometry]:
        """The likeliest way of all, by rules that nobody is known to have written if need be; none when none ends."""
        cost, found, end = self._end(0, 1)
        return [Geometry(found, end.size, cost, end.resized)] if end else []

    def only(self) -> bool:
        """Whether there is one way alone, by all the rules, that ends at such a size."""
        counts = {1: 1}
        for index in range(len(self.chain.steps)):
            onward: dict[int, int] = {}
            for here, count in counts.items():
                paths: Paths = {here: [(0.0, (None,) * index)]}
                for grown, ways in advance(paths, self.chain, index, self.registered, every=True).items():
                    onward[grown] = onward.get(grown, 0) + len(ways) * count
            counts = onward
        return sum(n * len(endings(here, self.chain, self.size)) for here, n in counts.items()) == 1

    def _reached(self, before: Rules) -> int:
        here = 1
        for step, rule in zip(self.chain.steps, before, strict=False):
            here = (step.reshape[-1] if step.reshape else here) * step.shuffle
            if rule is not None:
                here = rule.grow(here, step.unit.shape[-1])
        return here

    def _end(self, index: int, here: int) -> _Onward:
        """(cost, rules, image) of the likeliest way from step `index` on, at `here` x `here`."""
        listed = self._likeliest(index, here, every=False)
        return listed if listed[2] else self._likeliest(index, here, every=True)

    def _likeliest(self, index: int, here: int, *, every: bool) -> _Onward:
        known = self._ends.get((index, here, every))
        if known is not None:
            return known
        best = _NO_END
        if index == len(self.chain.steps):
            for end in endings(here, self.chain, self.size):
                best = min(best, (end.cost, (), end), key=lambda way: way[0])
        else:
            blank: Rules = (None,) * index
            for grown, ways in advance({here: [(0.0, blank)]}, self.chain, index, self.registered, every=every).items():
                cost, way = min(ways, key=lambda way: way[0])
                cost_on, rest, last = self._likeliest(index + 1, grown, every=every) if grown <= LARGEST else _NO_END
                if last and cost + cost_on < best[0]:
                    best = cost + cost_on, (way[-1], *rest), last
        self._ends[index, here, every] = best
        return best


def _kept(paths: Paths, start: int) -> tuple[Paths, bool]:
    """The ways that depart from habit at most once since step `start`, the first `MOST_WAYS`, and whether that cut."""
    ways = [
        (cost, here, way)
        for here, found in paths.items()
        for cost, way in found
        if sum(rule is not None and rule.cost >= UNLISTED for rule in way[start:]) <= 1
    ]
    ways.sort(key=lambda item: item[0])
    kept: Paths = {}
    for cost, here, way in ways[:MOST_WAYS]:
        kept.setdefault(here, []).append((cost, way))
    return kept, len(ways) > MOST_WAYS


MOST = 12
"""Candidates returned."""
MOST_UNITS = 200
"""Modules with weights in a chain; files with more are not searched."""
MARGIN = 4.0
"""Candidates that cost more than the best by more than this are not offered."""


@dataclass(frozen=True)
class Candidate:
    """A structure that chains and ends at a plausible image."""

    chain: Chain
    geometry: Geometry
    head: Head
    image: tuple[int, int, int]

    @property
    def cost(self) -> float:
        return self.geometry.cost + self.head.cost

    @property
    def usual(self) -> bool:
        return self.geometry.usual  # a one-hot label is usual too, and no shape tells it from a longer z

    def describe(self) -> str:
        """One line for people."""
        size = "x".join(map(str, self.image))
        text = self.geometry.describe(self.chain) if self.geometry.size else f"{self.chain.flat} → {size}"
        z = f"z {self.head.z_dim}"
        return f"{z} + {self.head.n_classes} classes, {text}" if self.head.n_classes else f"{z}, {text}"


def find_chains(units: list[Unit], channels: int | None = None) -> tuple[list[Chain], Break]:
    """The chains through `units` (embeddings left aside) in the likeliest order that has any, and, when none has,
    where the first order breaks."""
    body = [unit for unit in units if unit.kind != "embedding"]
    if len(body) > MOST_UNITS:
        return [], Break(0, None, "nothing")
    if any(unit.kind == "unknown" for unit in body):
        return [], Break(-1, None, "nothing")
    first: Break | None = None
    for together in orders(body):
        chainers = [Chainer(order, channels) for order in together]
        chains = [chain for chainer in chainers for chain in chainer.chains()]
        first = first or chainers[0].broke
        if chains:
            return chains, first
    return [], first or Break(0, None, "nothing")


def chain_drafts(
    units: list[Unit],
    chains: list[Chain],
    registered: Registered,
    image: tuple[int, int, int] | None,
    told: Told = Told(),
) -> list[Draft]:
    """Drafts of all candidates, best first. Raises `GanportError` when none ends at a plausible image."""
    embeddings = [_activated(unit, registered) for unit in units if unit.kind == "embedding"]
    if len(embeddings) > 1:
        names = " and ".join(unit.first_key for unit in embeddings[:2])
        raise needs_code(
            f"this is no chain that a spec can say: {names} are two embeddings, at most one label is supported"
        )
    size = image[1] if image else None
    ways = {id(chain): Ways(chain, registered, size) for chain in chains}
    found = [
        Candidate(chain, geometry, head, shape)
        for chain in chains
        for geometry in geometries(chain, registered, size) or ways[id(chain)].likeliest()
        for shape in _images(chain, geometry, image)
        for head in heads(chain.latent, embeddings[0] if embeddings else None, told, chain.steps[0].unit)
    ]
    if not found:
        raise _sizeless(chains, embeddings, image)
    alone = len(found) == 1 and (not found[0].geometry.size or ways[id(found[0].chain)].only())
    found.sort(key=lambda candidate: candidate.cost)
    found = [candidate for candidate in found if candidate.cost <= found[0].cost + MARGIN][:MOST]
    drafts = []
    for candidate in found:
        try:
            draft = _draft(candidate, found, registered, alone=alone)
        except SpecError:
            continue
        others = _Others(candidate, ways[id(candidate.chain)], registered)
        drafts.append(
            replace(
                draft,
                structure=Structure(candidate.cost, 1.0, candidate.usual, candidate.geometry.listed, False, others),
            )
        )
    if not drafts:
        raise _sizeless(chains, embeddings, image)
    return drafts


def _activated(embedding: Unit, registered: Registered) -> Unit:
    """A label's table, with the activation that the author's code has behind it in its rows."""
    value = registered.behind(embedding.name)
    if value is None:
        return embedding
    table = embedding.tensors["weight"]
    module = build_layer(activation(value), tuple(table.shape[1:]))
    with torch.inference_mode():
        rows = module(table.float())
    return replace(embedding, tensors=embedding.tensors | {"weight": rows.clone()})


def _images(chain: Chain, geometry: Geometry, image: tuple[int, int, int] | None) -> list[tuple[int, int, int]]:
    if geometry.size:
        shape = (chain.channels, geometry.size, geometry.size)
        return [shape] if image in (None, shape) else []
    if image is not None:
        return [image] if math.prod(image) == chain.flat else []
    shapes = []
    for channels in (1, 3, 4):
        side = math.isqrt(chain.flat // channels)
        if channels * side**2 == chain.flat and side in SIZE_COSTS:
            shapes.append((channels, side, side))
    return shapes


@dataclass(frozen=True)
class _Others:
    """The variants of one candidate, as `gan_export.draft.Variants`."""

    candidate: Candidate
    ways: Ways
    registered: Registered

    def shared(self, k: int) -> Hashable:
        here = self.candidate
        return id(self.ways), here.head.z_dim, here.head.n_classes, here.geometry.rules[: self._stops(k)[0]]

    def drafts(self, k: int) -> list[Draft]:
        here, (start, stop) = self.candidate, self._stops(k)
        if not here.geometry.size:
            return []
        listed, cut = self.ways.through(here.geometry.rules[:start], stop)
        found = []
        for geometry in listed:
            other = replace(here, geometry=geometry, image=(here.chain.channels, geometry.size, geometry.size))
            choice = Choice(None, "structure", other.describe(), Evidence.WEAK, "")
            try:
                draft = draft_chain(here.chain, geometry, here.head, other.image, self.registered, choice)
            except SpecError:
                continue
            stretch = replace(geometry, rules=geometry.rules[start:stop])
            others = replace(self, candidate=other)
            usual = stretch.usual and not invents(here.chain, geometry, start)
            found.append(
                replace(draft, structure=Structure(other.cost, _factor(stretch), usual, geometry.listed, cut, others))
            )
        return found

    def _stops(self, k: int) -> tuple[int, int]:
        """The steps from behind the BatchNorm before `k` to behind BatchNorm `k`, of those that saw training."""
        steps = self.candidate.chain.steps
        trained = [i + 1 for i, step in enumerate(steps) if step.unit.kind == "batch_norm" and step.unit.trained]
        return trained[k - 1] if k else 0, trained[k] if k < len(trained) else len(steps)


def _factor(stretch: Geometry) -> float:
    """How many times better a stretch must fit than one that everybody writes: three times where nobody is known to."""
    return float(3.0 ** (sum(rule.cost for rule in stretch.rules if rule) / UNLISTED))


def _draft(candidate: Candidate, rivals: list[Candidate], registered: Registered, *, alone: bool) -> Draft:
    value, alternatives = candidate.describe(), [rival.describe() for rival in rivals if rival is not candidate]
    coded = registered.coded([step.unit.name for step in candidate.chain.steps if step.unit.kind == "conv"])
    if coded and not alternatives:
        evidence, reason = Evidence.STRONG, f"as the author's code says: {coded}"
    elif alone:
        evidence, reason = Evidence.PROVED, "shapes allow no other order, strides and paddings that end at a usual size"
    elif candidate.usual and not any(rival.usual for rival in rivals if rival is not candidate):
        evidence = Evidence.STRONG
        reason = "the only usual strides and paddings that end at a usual size"
        if alternatives:
            reason += f"; less usual: {'; '.join(alternatives[:2])}"
    else:
        evidence, reason = Evidence.WEAK, "shapes also allow other strides and paddings"
        if alternatives:
            reason = f"shapes also allow: {'; '.join(alternatives[:2])}"
    structure = Choice(None, "structure", value, evidence, reason)
    return draft_chain(candidate.chain, candidate.geometry, candidate.head, candidate.image, registered, structure)


def _sizeless(chains: list[Chain], embeddings: list[Unit], image: tuple[int, int, int] | None) -> GanportError:
    chain = chains[0]
    if embeddings and not heads(chain.latent, embeddings[0]):
        return needs_code(
            f"{embeddings[0]} is wider than the first layer's input of {chain.latent}: the label is used elsewhere"
        )
    if chain.flat:
        wanted = "x".join(map(str, image)) if image else "a square image of 1, 3 or 4 channels"
        return GanportError(
            f"the last layer gives {chain.flat} numbers, which is not {wanted}",
            hint='give `image`, as in `image="1x28x28"`, or the network\'s own code: `module` file.py:Class',
        )
    if image:
        wanted = "x".join(map(str, image))
        return GanportError(
            f"no strides and paddings make an image of {wanted} of these convolutions",
            hint="check `image`, or give the network's own code: `module` file.py:Class",
        )
    return GanportError(
        "no usual strides and paddings take these convolutions to a usual image size (28, 32, 64 …)",
        hint="give the image's shape, as in `image=\"3x64x64\"`, or the network's own code: `module` file.py:Class",
    )
