"""All ways of sizing a stretch of a chain, for the statistics, which judge one from BatchNorm to BatchNorm at a time.

Nothing is left out but what cannot be: every stride up to the kernel, every padding below it, every output padding,
upsampling by 2, 3 and 4 before a convolution; of several convolutions in one stretch, at most one takes a rule that
nobody is known to have written.
"""

from __future__ import annotations

import math

from gan_export.understanding.chaining import Chain
from gan_export.understanding.geometry import LARGEST, End, Geometry, Paths, advance, endings
from gan_export.understanding.registered import Registered
from gan_export.understanding.rules import UNLISTED, Rule

MOST = 320
"""Ways through one stretch that are listed; where there are more, the likeliest, and the list is said to be cut."""

Rules = tuple[Rule | None, ...]
_Onward = tuple[float, Rules, End | None]
_NO_END: _Onward = (math.inf, (), None)


class Ways:
    """The ways through `chain` that end at an image of `size` or, when None, of a plausible one."""

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
        return found[:MOST], cut or len(found) > MOST

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
    """The ways that depart from habit at most once since step `start`, at most `MOST` of them, and whether that cut."""
    ways = [
        (cost, here, way)
        for here, found in paths.items()
        for cost, way in found
        if sum(rule is not None and rule.cost >= UNLISTED for rule in way[start:]) <= 1
    ]
    ways.sort(key=lambda item: item[0])
    kept: Paths = {}
    for cost, here, way in ways[:MOST]:
        kept.setdefault(here, []).append((cost, way))
    return kept, len(ways) > MOST
