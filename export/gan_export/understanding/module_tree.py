"""The modules of a pickled network: their tree, which of them run as listed, and the typed way to ask for a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_core.spec.layers import Shape
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.units import COUNTER


@dataclass(frozen=True)
class Part:
    """A module of the file: its dotted name, its class and numbers, its tensors by local name (no step counter), and
    the per-sample shape that reaches it, None where that is not known."""

    name: str
    info: ModuleInfo
    tensors: Mapping[str, Tensor]
    shape: Shape | None = None

    @property
    def kind(self) -> str:
        return self.info.kind

    @property
    def affine(self) -> bool:
        return "weight" in self.tensors

    def get(self, field: str, *absent: Any) -> Any:
        """A number or text of the module; `absent` is what releases of torch without the field mean."""
        if field not in self.info.settings and not absent:
            raise UnsaidError(f"does not say its {field}")
        return self.info.settings.get(field, *absent)

    def number(self, field: str) -> float:
        value = self.get(field)
        if type(value) not in (int, float):
            raise UnsaidError(f"has {field} {value!r}, expected a number")
        return float(value)

    def whole(self, field: str, *absent: Any) -> int:
        value = self.get(field, *absent)
        if type(value) is not int:
            raise UnsaidError(f"has {field} {value!r}, expected a whole number")
        return value

    def pair(self, field: str, *absent: Any) -> tuple[int, int]:
        """(height, width)."""
        value = self.get(field, *absent)
        pair = tuple(value) if isinstance(value, tuple) else (value, value)
        if len(pair) == 1:
            pair *= 2
        if len(pair) != 2 or any(type(side) is not int for side in pair):
            raise UnsaidError(f"has {field} {value!r}, expected whole numbers for height and width")
        return pair

    def square(self, field: str, *absent: Any) -> int:
        height, width = self.pair(field, *absent)
        if height != width:
            raise UnsaidError(f"has {field} {(height, width)}, expected one whole number for height and width")
        return height

    @property
    def reached_by(self) -> Shape:
        if self.shape is None:
            raise UnsaidError("depends on the size of what reaches it, which the file does not show")
        return self.shape

    def image(self) -> tuple[int, int, int]:
        shape = self.reached_by
        if len(shape) != 3:
            raise UnsaidError(f"takes an image (C, H, W), gets {shape}")
        return shape

    def weight(self, ndim: int) -> Shape:
        shape = tuple(self.tensors["weight"].shape) if "weight" in self.tensors else ()
        if len(shape) != ndim:
            raise UnsaidError(f"has a weight of shape {list(shape)}, expected {ndim} dimensions")
        return shape


class UnsaidError(Exception):
    """What a module computes is not what a spec says: the message goes on from "NAME (CLASS) …"."""


RUNS_ITS_CHILDREN = ("Sequential", "DataParallel", "DistributedDataParallel")
LISTS_ONLY = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
"""Containers that compute nothing themselves: an author's code runs what they hold."""


class Tree:
    """The modules of a pickled network in the order of registration, and the tensors of each.

    believed  whether anything in it is torch's own, as in a pickle; TorchScript's classes are others
    """

    def __init__(self, tensors: Mapping[str, Tensor], modules: Mapping[str, ModuleInfo]) -> None:
        self.modules = dict(modules)
        self.tensors: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, _, local = key.rpartition(".")
            if local != COUNTER:
                self.tensors.setdefault(owner, {})[local] = tensor
        parents = {name.rpartition(".")[0] for name in self.modules if name}
        self.leaves = [name for name in self.modules if name and name not in parents]
        self.inner = [name for name in self.modules if name in parents]
        self.believed = not any(info.cls.startswith("__torch__") for info in self.modules.values())

    def __bool__(self) -> bool:
        return self.believed and bool(self.leaves)

    def part(self, name: str, shape: Shape | None = None) -> Part:
        return Part(name, self.modules[name], self.tensors.get(name, {}), shape)

    def runs_in_order(self, name: str) -> bool:
        """Whether the container `name` runs its children one after the other, and nothing else."""
        info = self.modules.get(name)
        plain = info is not None and info.from_torch and info.kind in RUNS_ITS_CHILDREN and not info.changed
        return plain and name not in self.tensors

    def where(self, name: str) -> str:
        """Where a leaf stands, for people: "between main.1 and main.5", of those that have weights."""
        at = self.leaves.index(name)
        before = next((other for other in reversed(self.leaves[:at]) if other in self.tensors), None)
        after = next((other for other in self.leaves[at + 1 :] if other in self.tensors), None)
        if name in self.tensors or (before is None and after is None):
            return f"at {name}"
        if before is None or after is None:
            return f"after {before}" if before else f"before {after}"
        return f"between {before} and {after}"

    def together(self, before: str, after: str) -> bool:
        """Whether nothing but containers that run their children in order holds both leaves."""
        left, right = before.split("."), after.split(".")
        same = 0
        while left[same] == right[same]:
            same += 1
        inner = [".".join(parts[:n]) for parts in (left, right) for n in range(same, len(parts))]
        return all(self.runs_in_order(name) for name in inner)
