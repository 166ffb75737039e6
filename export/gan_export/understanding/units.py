"""A state_dict as a sequence of units: the tensors of one module together, and what its shapes say it is.

Names say where a module sits (`conv_blocks.3`), shapes what it is. Numbers in names say something more: inside an
`nn.Sequential` the modules without tensors (activations, upsamplings, dropout) are numbered too, so a hole between
two numbers is a module that left no tensor, and no hole is the absence of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.spec.layers import Shape

UnitKind = Literal["linear", "conv", "batch_norm", "norm", "layer_norm", "slope", "embedding", "attention", "unknown"]

COUNTER = "num_batches_tracked"
"""Counts training steps; no network reads it in eval mode."""

EMBEDDING_NAME = re.compile(r"emb|label|class|cond", re.IGNORECASE)


OWN_CODE = "give the network's own code: `module` file.py:Class"


def needs_code(message: str) -> GanportError:
    """The error for a network that a spec cannot say, but its own code can."""
    return GanportError(message, hint=OWN_CODE)


@dataclass(frozen=True)
class Unit:
    """The tensors of one module. `name` is its dotted name, empty for the root; `tensors` keep their local names."""

    name: str
    kind: UnitKind
    tensors: dict[str, Tensor]

    @property
    def shape(self) -> Shape:
        """Shape of its first tensor: the weight, where there is one."""
        return tuple(next(iter(self.tensors.values())).shape)

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def bias(self) -> bool:
        return "bias" in self.tensors

    @property
    def trained(self) -> bool:
        """Whether a BatchNorm's statistics are other than those that it starts with: mean 0 and variance 1."""
        return bool((self.tensors["running_mean"] != 0).any() or (self.tensors["running_var"] != 1).any())

    @property
    def first_key(self) -> str:
        local = next(iter(self.tensors))
        return f"{self.name}.{local}" if self.name else local

    def __str__(self) -> str:
        return f"{self.first_key} {list(self.shape)}"


def units_of(tensors: Mapping[str, Tensor]) -> list[Unit]:
    """The units of a state_dict, in the order in which their first tensors come; step counters are dropped."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        prefix, _, local = key.rpartition(".")
        if local != COUNTER:
            groups.setdefault(prefix, {})[local] = tensor
    ordered = ("weight", "bias", "running_mean", "running_var")
    units = []
    for name, group in groups.items():
        known = {local: group[local] for local in ordered if local in group}
        group = known | group
        units.append(Unit(name, _kind(name, group), group))
    return units


def batches_of(tensors: Mapping[str, Tensor]) -> int | None:
    """How many batches its BatchNorms have seen; None where their counters differ, say no number or are missing."""
    found = [tensor for key, tensor in tensors.items() if key.endswith(COUNTER)]
    counts = {int(tensor) for tensor in found if tensor.numel() == 1 and not tensor.is_complex()}
    return counts.pop() if len(counts) == 1 and min(counts) > 0 else None


def _kind(name: str, tensors: Mapping[str, Tensor]) -> UnitKind:
    names = frozenset(tensors)
    if names in ({"running_mean", "running_var"}, {"weight", "bias", "running_mean", "running_var"}):
        return "batch_norm"
    if "weight" not in names or not names <= {"weight", "bias"}:
        return "unknown"
    weight = tensors["weight"]
    if "bias" in names and weight.shape == tensors["bias"].shape:
        return {1: "norm", 3: "layer_norm"}.get(weight.ndim, "unknown")  # type: ignore[return-value]
    if weight.ndim == 1:
        return "slope" if "bias" not in names else "unknown"
    if weight.ndim == 2:
        last = name.rpartition(".")[2]
        return "embedding" if "bias" not in names and EMBEDDING_NAME.search(last) else "linear"
    if weight.ndim == 4 and weight.shape[2] == weight.shape[3]:
        return "conv"
    return "unknown"


@dataclass(frozen=True)
class Gap:
    """How many modules without tensors stand between two units: at least `least`, at most `most` (None: unknown)."""

    least: int = 0
    most: int | None = None

    def room(self, taken: int) -> Gap:
        """What is left of the gap for others when `taken` of its modules are accounted for."""
        return Gap(max(0, self.least - taken), None if self.most is None else max(0, self.most - taken))


def gap_between(before: str, after: str) -> Gap:
    """The gap that the numbers in two dotted names show.

    `main.0` and `main.1` have none between them, `main.1` and `main.3` have one; `block.0.1` and `block.1.0` may have
    any number, since the tail of `block.0` is not seen.
    """
    left, right = before.split("."), after.split(".")
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    if same == len(left) or same == len(right):
        return Gap()
    lead = right[same + 1 :]
    leading = sum(int(part) for part in lead if part.isdecimal())
    if not (left[same].isdecimal() and right[same].isdecimal()):
        return Gap(leading)
    between = int(right[same]) - int(left[same]) - 1
    if between < 0:
        return Gap()
    closed = same + 1 == len(left) and all(part.isdecimal() for part in lead)
    return Gap(between + leading, between + leading if closed else None)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `conv.2` before `conv.10`, and `deconv2` before `deconv10`."""
    pieces = re.findall(r"\d+|[^\d]+", name)
    return tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces)
