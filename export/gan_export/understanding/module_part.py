"""One module of a pickled network: its class, its numbers, its tensors, and the typed way to ask for a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_core.spec.layers import Shape
from gan_export.reading.modules import ModuleInfo


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
