"""What one image of a spec may cost: checked when the spec is made, before a module is built or an image drawn.

A few hundred bytes can describe a network that no machine runs (twelve doublings, a label of a billion classes). The
limits leave room for generators that exist: 1024 x 1024 with 64 channels, 512 x 512 with 512, 1,000 classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gan_core.fields import Shape, SpecError
from gan_core.spec.layer import Layer


@dataclass(frozen=True)
class Budget:
    """The most of each that a spec may ask for.

    layers      layers
    parameters  numbers that the layers own (8 GiB of float32)
    numbers     numbers that a layer makes of one sample (512 MiB of float32)
    total       numbers that all layers make of one sample
    pixels      height times width of the image
    products    multiplications with an addition, for one image
    """

    layers: int = 2_000
    parameters: int = 1 << 31
    numbers: int = 1 << 27
    total: int = 1 << 30
    pixels: int = 1 << 22
    products: int = 1 << 42


BUDGET = Budget()
HINT = "is it a generator's? check the sizes, or give the network's own code: --module file.py:Class"


def check_layers(layers: Sequence[Layer]) -> None:
    """Raises `SpecError` when there are more layers, or they own more numbers, than `BUDGET` allows."""
    _check("the spec has", len(layers), BUDGET.layers, "layers")
    owned = sum(math.prod(shape) for layer in layers for shape in layer.tensors().values())
    _check("the layers own", owned, BUDGET.parameters, "numbers")


def check_shape(index: int, layer: Layer, before: Shape, after: Shape) -> int:
    """Raises `SpecError` when a layer makes more of one sample than `BUDGET` allows; returns its products."""
    _check(f"layer {index} ({layer.kind}) makes", math.prod(after), BUDGET.numbers, "numbers of one image")
    products = layer.products(before)
    _check(f"layer {index} ({layer.kind}) takes", products, BUDGET.products, "products for one image")
    return products


def check_image(shapes: Sequence[Shape], products: int) -> None:
    """Raises `SpecError` when one image of these shapes takes more than `BUDGET` allows."""
    _check("the layers make", sum(map(math.prod, shapes)), BUDGET.total, "numbers of one image")
    _check("the layers take", products, BUDGET.products, "products for one image")
    _check("the image has", math.prod(shapes[-1][1:]), BUDGET.pixels, "pixels")


def _check(subject: str, found: int, most: int, what: str) -> None:
    if found > most:
        raise SpecError(f"{subject} {found:,} {what}, at most {most:,} are allowed", hint=HINT)
