"""Orders in which the units of a file may have run, most likely first.

A state_dict lists modules as they were registered, which is nearly always as they run. Two habits break that: all
norms registered after all convolutions (`conv1, conv2, bn1, bn2`), and files that sort their keys (safetensors does).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from gan_export.understanding.units import Unit, natural_key

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
