"""What every layer of a spec knows: its JSON fields, the shape it makes, the tensors it owns, the work it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from gan_core.spec.fields import Shape, SpecError, check_fields


@dataclass(frozen=True)
class Layer:
    """Base of all layers. `kind` is the name in JSON.

    Raises `SpecError` on construction for a field of another type or out of its range (`gan_core.spec.fields`).
    """

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self)

    def out_shape(self, shape: Shape) -> Shape:
        """The per-sample shape after this layer. Raises `SpecError` when `shape` does not fit."""
        return shape

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the layer's own tensors, buffers included (without num_batches_tracked)."""
        return {}

    def products(self, shape: Shape) -> int:  # noqa: ARG002
        """Multiplications with an addition that one sample of `shape` takes; elementwise work is not counted."""
        return 0

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {name: value for name, value in values.items() if value is not None or name == "slope"}
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def expect(condition: bool, message: str) -> None:
    """Raises `SpecError(message)` unless `condition` holds."""
    if not condition:
        raise SpecError(
            message,
            hint="correct the layer in the spec; gan-export inspect --out FILE.spec.json writes one to start from",
        )


def expect_image(shape: Shape) -> tuple[int, int, int]:
    """`shape` as (C, H, W). Raises `SpecError` when it is none."""
    expect(len(shape) == 3, f"takes an image (C, H, W), gets {shape}")
    c, h, w = shape
    return c, h, w


def affine_tensors(affine: bool, shape: Shape) -> dict[str, Shape]:
    """weight and bias of a norm, or nothing."""
    return {"weight": shape, "bias": shape} if affine else {}
