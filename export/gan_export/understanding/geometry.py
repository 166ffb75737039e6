"""Strides, paddings and upsamplings by where the size must end: 28, 32, 64 …

A lattice of (step, size): from each size every rule for the step's kernel leads on to another. By habit, the cheapest
paths to every plausible image size are kept (a k-best Viterbi search), so that the work is bounded whatever the file
holds: `geometries`.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass, replace
from typing import NamedTuple

from gan_export.understanding.chaining import Chain
from gan_export.understanding.registered import Registered
from gan_export.understanding.rules import RARE, UNLISTED, Rule, every_rule, rules
from gan_export.understanding.units import Gap, gap_between

SIZE_COSTS = {
    28: 0.0, 32: 0.0, 64: 0.0, 128: 0.3, 96: 0.5, 256: 0.5, 48: 1.0, 512: 1.5, 16: 2.5, 1024: 2.5,
    24: 3.0, 40: 3.0, 56: 3.0, 80: 3.0, 100: 3.0, 112: 3.0, 160: 3.0, 192: 3.0, 200: 3.0, 224: 3.0, 320: 3.0, 384: 3.0,
}  # fmt: skip
"""The image sizes that a candidate may end at, and what each costs."""

RESIZED = 4.0
"""What it costs to end in a resize to `TARGETS` from a size that misses one by at most `MISSED`: of some hundred
repositories one did."""
TARGETS, MISSED = (28, 32, 64), 4
LARGEST = max(SIZE_COSTS)
KEPT = 12
SIZES_KEPT = 48
"""Sizes kept after each step, and paths to each."""
BARE = 0.5
"""What it costs at most to leave out the padding where the layers before have none."""
BAND = 7.0
"""Paths costlier than the cheapest by more than this are not followed."""


@dataclass(frozen=True)
class Geometry:
    """One way of sizing a chain: a rule for every convolution step (None for the others), ending at size x size.

    resized  whether the steps make another size, which a resize without weights takes to that one
    """

    rules: tuple[Rule | None, ...]
    size: int
    cost: float
    resized: bool = False

    @property
    def usual(self) -> bool:
        """Whether every rule in it, and the size, is one that many generators use."""
        known = not self.resized and SIZE_COSTS.get(self.size, 0.0) < RARE
        return known and all(rule is None or rule.cost < RARE for rule in self.rules)

    @property
    def listed(self) -> bool:
        """Whether somebody is known to have written every rule in it."""
        return all(rule is None or rule.cost < UNLISTED for rule in self.rules)

    def describe(self, chain: Chain) -> str:
        """One line for people: `256 k4 s1 p0, 128 k4 s2 p1, 3 k4 s2 p1 → 32x32`."""
        parts = []
        for step, rule in zip(chain.steps, self.rules, strict=True):
            if rule is not None:
                word = "convT" if rule.kind == "conv_transpose" else "conv"
                parts.append(f"{word} k{step.unit.shape[-1]} {rule}")
        return f"{', '.join(parts)} → {'resize to ' if self.resized else ''}{self.size}x{self.size}"


Paths = dict[int, list[tuple[float, tuple[Rule | None, ...]]]]
"""Size → (cost, rules so far), for the paths that reach it."""


def geometries(chain: Chain, registered: Registered, size: int | None = None) -> list[Geometry]:
    """The ways of sizing `chain`, cheapest first, ending at `size` or, when None, at a plausible one."""
    if not any(step.unit.kind == "conv" for step in chain.steps):
        return [Geometry((None,) * len(chain.steps), 0, 0.0)]
    paths: Paths = {1: [(0.0, ())]}
    for index in range(len(chain.steps)):
        paths = _narrowed(advance(paths, chain, index, registered, every=False))
    found = [
        Geometry(way, end.size, cost + end.cost, end.resized)
        for here, ways in paths.items()
        for end in endings(here, chain, size)
        for cost, way in ways
    ]
    return sorted(found, key=lambda geometry: geometry.cost)


class End(NamedTuple):
    """An image size, what it costs, and whether a resize leads to it."""

    size: int
    cost: float
    resized: bool


def endings(here: int, chain: Chain, size: int | None) -> list[End]:
    """What a chain whose last step makes `here` x `here` may end at: `size` or, when None, a plausible one."""
    final = here * chain.shuffle
    if final == size:
        return [End(final, 0.0, False)]
    if size is None and final in SIZE_COSTS:
        return [End(final, SIZE_COSTS[final] + _habit(final, chain.channels), False)]
    near = [end for end in TARGETS if 0 < abs(end - final) <= MISSED and size in (None, end)]
    return [End(end, RESIZED + (0.0 if size else _habit(end, chain.channels)), True) for end in near]


def advance(paths: Paths, chain: Chain, index: int, registered: Registered, *, every: bool) -> Paths:
    """`paths`, taken through the step at `index` by the rules that people write or, with `every`, by all."""
    onward: Paths = {}
    step = chain.steps[index]
    kernel = step.unit.shape[-1]
    options: dict[tuple[bool, bool], list[Rule]] = {}
    before, may_pad = _like_before(chain, index), _may_pad(chain, index)
    for size, ways in paths.items():
        here = (step.reshape[-1] if step.reshape else size) * step.shuffle
        if step.unit.kind != "conv":
            if step.size in (None, here):
                onward.setdefault(here, []).extend((cost, (*way, None)) for cost, way in ways)
            continue
        if (here > 4, here == 1) not in options:
            options[here > 4, here == 1] = _options(chain, index, here, registered, every=every)
        for rule in options[here > 4, here == 1]:
            grown = rule.grow(here, kernel)
            if 1 <= grown <= LARGEST:
                for cost, way in ways:
                    taken = _dearer(rule, _change(way, before, may_pad, rule))
                    onward.setdefault(grown, []).append((cost + taken.cost, (*way, taken)))
    return onward


def _narrowed(paths: Paths) -> Paths:
    """The cheapest `KEPT` paths to each of the `SIZES_KEPT` sizes that are cheapest to reach."""
    kept = {size: heapq.nsmallest(KEPT, ways, key=lambda way: way[0]) for size, ways in paths.items()}
    sizes = heapq.nsmallest(SIZES_KEPT, kept, key=lambda size: kept[size][0][0])
    least = kept[sizes[0]][0][0] if sizes else 0.0
    within = {size: [way for way in kept[size] if way[0] <= least + BAND] for size in sorted(sizes)}
    return {size: ways for size, ways in within.items() if ways}


def _options(chain: Chain, index: int, size: int, registered: Registered, *, every: bool) -> list[Rule]:
    step = chain.steps[index]
    last = index == max(i for i, other in enumerate(chain.steps) if other.unit.kind == "conv")
    before = next((other.unit.name for other in reversed(chain.steps[:index])), None)
    proved = registered.rule(step, before)
    kernel = step.unit.shape[-1]
    if proved is not None:
        found = [proved]
    else:
        found = [
            replace(rule, cost=rule.cost + _orientation(chain, index, rule))
            for kind in step.kinds
            for rule in (every_rule if every else rules)(kind, kernel, size, last=last)
        ]
    known = registered.upsampling(before, step.unit.name)
    if known is not None:
        return [replace(rule, upsample=known) for rule in found]
    if before is None:
        return found
    gap = gap_between(before, step.unit.name)
    mixed = 1.5 if any(other.kinds == ("conv_transpose",) for other in chain.steps[1:]) else 0.0
    doubled = []
    for rule in found:
        spared, spent = _upsample_costs(gap, rule, last=last, index=index)
        spent += 0.0 if gap.most is not None and gap.least >= 2 else mixed
        doubled.append(replace(rule, cost=rule.cost + spared))
        if rule.stride == 1 and (rule.kind == "conv" or rule.cost + spent < 2 * UNLISTED):
            doubled.append(replace(rule, cost=rule.cost + spent, upsample=2))
            if rule.kind == "conv" or not every:
                doubled.append(replace(rule, cost=rule.cost + spent + 3.0, upsample=4))
            if rule.kind == "conv" and every:
                doubled.append(replace(rule, cost=rule.cost + spent + UNLISTED, upsample=3))
    return doubled


def _upsample_costs(gap: Gap, rule: Rule, *, last: bool, index: int) -> tuple[float, float]:
    """(cost of no upsampling before this convolution, cost of one), by the room that the numbering leaves."""
    transposed = 5.0 if rule.kind == "conv_transpose" else 0.0
    drift = 0.02 * index + (0.3 if last else 0.0)
    if gap.most == 0:
        return 0.0, 8.0 + transposed
    if gap.most is not None and gap.least >= 2:
        return (0.0 if transposed else 1.0), drift + transposed
    if gap.most == 1:
        return 0.0, 1.0 + drift + transposed
    return 0.0, 0.5 + drift + transposed


def _orientation(chain: Chain, index: int, rule: Rule) -> float:
    """What it costs to read a square kernel the way round that its neighbours are not."""
    step = chain.steps[index]
    if len(step.kinds) == 1:
        return 3.0 if rule.kind == "conv" and index == 0 else 0.0
    odd = step.unit.shape[-1] % 2 == 1
    told = [other.kinds[0] for other in chain.steps if len(other.kinds) == 1]
    if told:
        refines = odd and rule.kind == "conv"
        return 0.0 if rule.kind in told else 0.5 if refines else 1.5
    usual = "conv" if odd else "conv_transpose"
    return 0.0 if rule.kind == usual else 1.5


def invents(chain: Chain, geometry: Geometry, start: int) -> bool:
    """Whether a step from `start` on has another padding than the last one before of its kernel and stride: one that
    only the size at the end asks for."""
    for index in range(start, len(chain.steps)):
        rule = geometry.rules[index]
        earlier = (geometry.rules[i] for i in _like_before(chain, index)) if rule else ()
        like = next((r for r in earlier if r and rule and (r.kind, r.stride) == (rule.kind, rule.stride)), None)
        if rule and like and (like.padding, like.output_padding) != (rule.padding, rule.output_padding):
            return True
    return False


def _like_before(chain: Chain, index: int) -> list[int]:
    """Earlier steps with the same kernel, the nearest first; the first convolution, on 1x1, is no example."""
    kernel = chain.steps[index].unit.shape[-1]
    earlier = range(index - 1, 0, -1)
    return [i for i in earlier if chain.steps[i].unit.kind == "conv" and chain.steps[i].unit.shape[-1] == kernel]


@functools.lru_cache(4096)
def _dearer(rule: Rule, extra: float) -> Rule:
    return replace(rule, cost=max(0.0, rule.cost + extra)) if extra else rule


def _may_pad(chain: Chain, index: int) -> list[int]:
    """Earlier transposed convolutions that a padding would be usual for: not the first on 1x1, nor k2 s2."""
    convs = [i for i, step in enumerate(chain.steps[:index]) if step.unit.kind == "conv"]
    on_pixel = convs[:1] if convs and chain.steps[convs[0]].reshape is None else []
    return [i for i in convs if i not in on_pixel and chain.steps[i].unit.shape[-1] > 2]


def _change(way: tuple[Rule | None, ...], before: list[int], may_pad: list[int], rule: Rule) -> float:
    """Networks are regular: another stride or padding than the last step of the same kernel had costs a little, and the
    same one in a transposed convolution of the same stride costs no more than that, however rare it is.

    Who leaves out the padding of one transposed convolution leaves it out throughout, whatever the kernel.
    """
    if rule.kind == "conv_transpose":
        earlier = [other for i in may_pad if (other := way[i]) is not None]
        if earlier and all(other.kind == rule.kind and not other.padding for other in earlier):
            bare = not rule.padding and not rule.output_padding
            return BARE - rule.cost if bare and BARE < rule.cost < UNLISTED else 0.0 if bare else 1.0
    alike = [other for i in before if (other := way[i]) is not None and other.kind == rule.kind]
    like = next((other for other in alike if other.stride == rule.stride), None)
    if like is None or rule.kind == "conv":
        like = alike[0] if alike else None
        return 0.5 if like and (like.stride, like.padding) != (rule.stride, rule.padding) else 0.0
    if (like.padding, like.output_padding) == (rule.padding, rule.output_padding):
        return min(0.0, BARE - rule.cost) if rule.cost < UNLISTED else 0.0
    return 0.5


def _habit(size: int, channels: int) -> float:
    """28 is MNIST's size: grey. A colour image of 28x28 is unusual, a grey one of 32x32 or 64x64 is not."""
    return 1.5 if size == 28 and channels != 1 else 0.0
