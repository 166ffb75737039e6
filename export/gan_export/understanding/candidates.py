"""All candidates of a chain, ranked, each with what its structure rests on."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

from gan_core.errors import GanportError
from gan_core.spec.generator_spec import SpecError
from gan_export.draft import Choice, Draft, Evidence, Structure
from gan_export.understanding.chaining import Break, Chain, Chainer, orders
from gan_export.understanding.drafting import draft_chain
from gan_export.understanding.geometry import SIZE_COSTS, Geometry, geometries, invents
from gan_export.understanding.heads import Head, Told, heads
from gan_export.understanding.registered import Registered
from gan_export.understanding.rules import UNLISTED
from gan_export.understanding.units import Unit, needs_code
from gan_export.understanding.ways import Ways

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
    embeddings = [unit for unit in units if unit.kind == "embedding"]
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
    if alone:
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
