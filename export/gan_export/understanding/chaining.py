"""Units in a row: which way round each convolution is, where vectors become images, what the latent is.

The out of one must be the in of the next. That alone tells a convolution (out, in, k, k) from a transposed one
(in, out, k, k) unless both numbers are equal, finds the reshape of a linear's output (C·s² numbers → C channels of
s x s), and the PixelShuffles (C·r² channels → C). Spatial sizes are `geometry`'s.

A state_dict lists modules as they were registered, which is nearly always as they run. Two habits break that: all
norms registered after all convolutions (`conv1, conv2, bn1, bn2`), and files that sort their keys (safetensors does).
So other orders are tried too.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from gan_core.image_input import IMAGE_CHANNELS
from gan_core.spec.layers import Shape
from gan_export.reading.kinds import WIDE
from gan_export.understanding.units import Unit, natural_key

ConvKind = Literal["conv", "conv_transpose"]

SHUFFLES = (2, 3, 4)
MAX_CHAINS = 16
MAX_VISITS = 20_000
"""Units visited in one search; a file that needs more is no chain that anybody wrote."""


@dataclass(frozen=True)
class Step:
    """One unit in its place.

    features  what it makes (a vector's length or an image's channels)
    takes     what it is given
    kinds     for convolutions: the ways round that the channels allow
    reshape   (C, s, s) that the vector before it becomes first, or None
    shuffle   factor of a PixelShuffle before it (1: none)
    size      height and width that it proves where it stands, or None
    """

    unit: Unit
    takes: int
    features: int
    kinds: tuple[ConvKind, ...] = ()
    groups: int = 1
    reshape: Shape | None = None
    shuffle: int = 1
    size: int | None = None

    @property
    def in_trunk(self) -> bool:
        """Whether it carries weights that mix features (a linear or a convolution)."""
        return self.unit.kind in ("linear", "conv")


@dataclass(frozen=True)
class Chain:
    """Steps from a latent of `latent` numbers to `channels` of an image, or to a vector of `flat` numbers.

    `shuffle` is the factor of a PixelShuffle after the last step (1: none); `channels` are counted behind it.
    """

    latent: int
    steps: tuple[Step, ...]
    channels: int = 0
    flat: int = 0
    shuffle: int = 1


@dataclass(frozen=True)
class Break:
    """Where no chain goes on: the unit that takes something else than it is given."""

    position: int
    unit: Unit | None
    given: str


class Chainer:
    """Finds the chains through one order of units; `broke` is the furthest that any got."""

    def __init__(self, units: list[Unit], channels: int | None = None) -> None:
        self.units = units
        self.channels = (channels,) if channels else IMAGE_CHANNELS
        self.broke = Break(-1, None, "nothing")
        self._visits = 0

    def chains(self) -> list[Chain]:
        """All chains, at most `MAX_CHAINS`."""
        found: list[Chain] = []
        for chain in self._extend((), None, 0):
            found.append(chain)
            if len(found) == MAX_CHAINS:
                break
        return found

    def _extend(self, steps: tuple[Step, ...], vector: int | None, channels: int) -> Iterator[Chain]:
        """`vector` numbers or, when None, an image of `channels` (0: the latent, still of any length)."""
        self._visits += 1
        if len(steps) == len(self.units):
            yield from self._finish(steps, vector, channels)
            return
        if self._visits > MAX_VISITS:
            return
        unit = self.units[len(steps)]
        went_on = False
        for step in _placements(unit, vector, channels):
            went_on = True
            if unit.kind == "conv" or step.reshape is not None:
                stays_vector = False
            else:
                stays_vector = unit.kind == "linear" or vector is not None or channels == 0
            yield from self._extend((*steps, step), step.features if stays_vector else None, step.features)
        if not went_on:
            self._note(len(steps), unit, vector, channels)

    def _finish(self, steps: tuple[Step, ...], vector: int | None, channels: int) -> Iterator[Chain]:
        latent = steps[0].takes
        if vector is not None:
            yield Chain(latent, steps, flat=vector)
        elif channels in self.channels:
            yield Chain(latent, steps, channels=channels)
        else:
            for r in SHUFFLES:
                if channels % r**2 == 0 and channels // r**2 in self.channels:
                    yield Chain(latent, steps, channels=channels // r**2, shuffle=r)
                    return
            self._note(len(steps), None, vector, channels)

    def _note(self, position: int, unit: Unit | None, vector: int | None, channels: int) -> None:
        if position > self.broke.position:
            given = f"{vector} numbers" if vector is not None else f"{channels} channels" if channels else "the latent"
            self.broke = Break(position, unit, given)


def _placements(unit: Unit, vector: int | None, channels: int) -> Iterator[Step]:
    """The ways in which `unit` can take what it is given."""
    for takes, features, kinds, groups in _readings(unit):
        size = unit.shape[-1] if unit.kind == "layer_norm" else None
        step = Step(unit, takes, features, kinds, groups, size=size)
        if vector is None and channels == 0:
            if _opens(step):
                yield step
        elif unit.kind == "linear":
            if vector == takes:
                yield step
        elif vector is not None:
            yield from _from_vector(step, vector)
        elif takes in (channels, 0):
            yield replace(step, features=features or channels)
        else:
            for r in SHUFFLES:
                if takes * r**2 == channels:
                    yield replace(step, shuffle=r)


def _opens(step: Step) -> bool:
    """Whether a step can take the latent itself. A convolution of 1 to 4 channels takes an image instead, and one of
    a wide kernel an image and maps of a label."""
    if step.unit.kind == "conv":
        wide = step.kinds == ("conv",) and step.unit.shape[-1] >= WIDE
        return step.groups == 1 and step.takes > max(IMAGE_CHANNELS) and not wide
    return step.unit.kind in ("linear", "batch_norm", "norm")


def _readings(unit: Unit) -> Iterator[tuple[int, int, tuple[ConvKind, ...], int]]:
    """(takes, makes, ways round, groups). A slope of one number takes anything: 0."""
    shape = unit.shape
    match unit.kind:
        case "linear":
            yield shape[1], shape[0], (), 1
        case "conv":
            bias = unit.shapes["bias"][0] if unit.bias else None
            if shape[0] == shape[1]:
                yield shape[0], shape[0], ("conv_transpose", "conv"), 1
                return
            if bias in (None, shape[1]):
                yield shape[0], shape[1], ("conv_transpose",), 1
            if bias in (None, shape[0]):
                yield shape[1], shape[0], ("conv",), 1
                if shape[1] == 1:
                    yield shape[0], shape[0], ("conv",), shape[0]
        case "slope" if shape[0] == 1:
            yield 0, 0, (), 1
        case "batch_norm" | "norm" | "slope" | "layer_norm" | "attention":
            yield shape[0], shape[0], (), 1


def _from_vector(step: Step, vector: int) -> Iterator[Step]:
    if step.unit.kind == "layer_norm":
        if math.prod(step.unit.shape) == vector and len(set(step.unit.shape[1:])) == 1:
            yield replace(step, reshape=step.unit.shape)
        return
    if step.takes == 0:
        yield replace(step, features=vector)
        return
    if step.unit.kind != "conv" and step.takes == vector:
        yield step
        return
    side = math.isqrt(vector // step.takes)
    if side and vector == step.takes * side**2:
        yield replace(step, reshape=(step.takes, side, side))


MAX_GROUPS = 5
"""Top-level names that are permuted at most (5! = 120 orders)."""

TRUNK = ("linear", "conv")


def orders(units: list[Unit]) -> Iterator[list[list[Unit]]]:
    """Permutations of `units`, no two the same: as stored, sorted by number, linears first, by blocks; then each with
    the norms and slopes dealt out behind the weights they fit. What comes together is as likely: shapes tell it apart.
    """
    seen: set[tuple[str, ...]] = set()
    for order in itertools.chain([units], _sorted_orders(units)):
        dealings = [_dealt(order, numbers, first) for numbers, first in ((True, 0), (False, 0), (False, 1))]
        for together in ([order], dealings):
            new = {tuple(unit.name for unit in candidate): candidate for candidate in together}
            if fresh := [candidate for names, candidate in new.items() if names not in seen]:
                seen.update(new)
                yield fresh


def _sorted_orders(units: list[Unit]) -> Iterator[list[Unit]]:
    yield sorted(units, key=lambda unit: natural_key(unit.name))
    yield sorted(units, key=lambda unit: unit.kind != "linear")
    groups: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: natural_key(unit.name)):
        groups.setdefault(unit.name.partition(".")[0], []).append(unit)
    if 1 < len(groups) <= MAX_GROUPS:
        for permutation in itertools.permutations(groups.values()):
            yield [unit for group in permutation for unit in group]


def _dealt(units: list[Unit], numbers: bool, position: int) -> list[Unit]:
    """Norms and slopes behind the linear or convolution they belong to: with `numbers` the one with the same number in
    its name, else the next one, in order and from `position` on, that makes as many features."""
    trunk = [unit for unit in units if unit.kind in TRUNK]
    riders = [unit for unit in units if unit.kind not in TRUNK]
    behind: dict[str, list[Unit]] = {unit.name: [] for unit in trunk}
    for rider in riders:
        index = _partner(rider, trunk, position, behind, numbers)
        if index is None:
            return units
        behind[trunk[index].name].append(rider)
        position = index if rider.kind == "slope" else index + 1
    return [unit for host in trunk for unit in (host, *behind[host.name])]


def _partner(rider: Unit, trunk: list[Unit], position: int, behind: dict[str, list[Unit]], numbers: bool) -> int | None:
    features = rider.shape[0]
    fits = [i for i, host in enumerate(trunk) if features == 1 or features in host.shape[:2] or _blocks(host, features)]
    numbered = [i for i in fits if numbers and _number(trunk[i].name) == _number(rider.name) is not None]
    for i in (*numbered, *(i for i in fits if i >= position)):
        if all(other.kind != rider.kind for other in behind[trunk[i].name]):
            return i
    return None


def _blocks(host: Unit, features: int) -> bool:
    return host.kind == "linear" and features > 1 and host.shape[0] % features == 0


def _number(name: str) -> int | None:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else None
