"""The modules of a pickled network as a tree, and which of them run in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gan_core.spec.layers import Shape
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.module_part import Part
from gan_export.understanding.units import COUNTER

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
        info = self.modules[name]
        return info.from_torch and info.kind in RUNS_ITS_CHILDREN and not info.changed and name not in self.tensors

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
