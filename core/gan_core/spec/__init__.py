"""A generator as data: an interface and a chain of layers (`gan_core.spec.generator_spec.GeneratorSpec`).

One class is all that ganport knows of a kind of layer: its JSON fields, the shape it makes, the tensors it owns, its
work and its module. `Layer` lists what a new kind has to say; nothing else names the kinds one by one. PyTorch is not
imported here: where a layer is built or applied, the caller hands it in.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, ClassVar, NamedTuple

from gan_core.fields import Range, Shape, SpecError, check_fields

RUNNING = "x"
"""The name of the running value: what the layer before made."""

ValueName = Annotated[str, Range(0, 40)]

LAYER_KINDS: dict[str, type[Layer]] = {}
"""Every kind of layer, by its name in JSON. A subclass of `Layer` that has a `kind` is in it."""


class Reach(NamedTuple):
    """Which pixels an output pixel depends on, horizontally and vertically, in pixels of the layer's input.

    first, last  the ends of their row, from the place where the output pixel lies
    step         how far it is from one output pixel to the next
    """

    first: Fraction | int = 0
    last: Fraction | int = 0
    step: Fraction | int = 1


@dataclass(frozen=True)
class Layer:
    """Base of all layers: maps the running value to the next one.

    kind         the name in JSON
    convolves    whether it computes images place by place, so that a processor's cores best draw an image each
    pointwise    whether each place of what it makes depends on that place alone
    named_by     the fields that have the names of the values it takes beside the running one
    as_          a name for what it makes, for later layers; "" for none. In JSON, where it is "as", as every field
                 without a final underscore

    Raises `SpecError` on construction for a field of another type or out of its range (`gan_core.fields`).
    """

    kind: ClassVar[str]
    convolves: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    named_by: ClassVar[tuple[str, ...]] = ()
    as_: ValueName = field(default="", kw_only=True)

    def __init_subclass__(cls) -> None:
        if "kind" in cls.__dict__:
            if cls.kind in LAYER_KINDS:
                raise TypeError(f"two layers of the kind {cls.kind!r}")
            LAYER_KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def classes(self) -> int:
        """Of how many classes it takes the label beside the running value; 0 for none."""
        return 0

    @property
    def replaces(self) -> bool:
        """Whether the first value of `uses` takes the place of the running one."""
        return False

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the values it takes beside the running one."""
        return tuple(getattr(self, name) for name in self.named_by)

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        """The per-sample shape of what it makes of the running value and `uses`. Raises `SpecError` for others."""
        return shape

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the layer's own tensors, buffers included (without num_batches_tracked)."""
        return {}

    def products(self, shape: Shape) -> int:
        """Multiplications with an addition that one sample of `shape` takes; elementwise work is not counted."""
        return 0

    def reach(self) -> Reach | None:
        """Where it looks around a place of an image; None where it looks everywhere, or by the size of the image."""
        return Reach() if self.pointwise else None

    def words(self) -> str:
        """The layer for people, on one line: "conv_transpose 100 → 256, k4 s1 p0"."""
        return self.kind

    def module(self, nn: Any, shape: Shape) -> Any:
        """The module of `nn` (torch.nn) for samples of `shape`, with the tensors of `tensors()`; None to have none.

        By default a dictionary of them, which `apply` gets, each drawn from N(0, 1).
        """
        drawn = {name: nn.init.normal_(nn.Parameter().new_empty(size)) for name, size in self.tensors().items()}
        return nn.ParameterDict({name: nn.Parameter(value) for name, value in drawn.items()}) if drawn else None

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        """What it makes of a batch `x` (N, *shape); beside it the labels, int64 (N,), or the values of `uses`."""
        return module(x)

    def to_json(self) -> dict[str, Any]:
        values = {json_name(f.name): getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "as_"}
        values = {name: value for name, value in values.items() if value is not None or name == "slope"}
        if self.as_:
            values["as"] = self.as_
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def json_name(field_name: str) -> str:
    """A field's name in JSON: `with_` is "with", as Python keeps some words to itself."""
    return field_name.removesuffix("_")


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
