"""A generator is data: `GeneratorSpec`.

The spec is the JSON half of a checkpoint of ours, the draft of a stranger's, and what an artefact carries as
`gan.spec`. `gan_trainer.networks.generator` makes the torch module. No torch here.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

from gan_core.fields import Name, Shape, SpecError, check_fields, shown, types_of
from gan_core.interface import Interface
from gan_core.printable import json_text
from gan_core.spec import RUNNING
from gan_core.spec.layers import Layer, Noise, layer_from_json, layer_kind

__all__ = ["GeneratorSpec", "SpecError"]

_INTERFACE = tuple(types_of(Interface))
SPEC_FIELDS = ("name", *_INTERFACE, "layers")

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_T = TypeVar("_T")


@dataclass(frozen=True)
class GeneratorSpec:
    """A chain of layers from a latent vector, or an image, to an image, and how to feed it.

    Each layer maps the running value to the next; one that has a name ("as") is kept for later layers that ask for it.

    interface  what goes into the first layer, the classes, and the image that the last layer makes
    layers     see `gan_core.spec.layers`; all label layers have the same classes
    name       a short name for people: "dcgan-64", "mlp-28"

    In JSON the fields of the interface stand beside the others. Raises `SpecError` on construction for a field of
    another type or out of its range, when the shapes do not chain from the input to the image, or for an input of
    any size not at the least size and others, when a layer uses a name that no earlier one has, when the input's halo
    is less than the layers reach, and when an image would take more than `gan_core.spec.generator_spec` allows.
    """

    interface: Interface
    layers: tuple[Layer, ...]
    name: Name = "generator"

    def __post_init__(self) -> None:
        check_fields(self)
        check_layers(self.layers)
        labels = {layer.classes for layer in self.layers if layer.classes}
        if len(labels) > 1:
            raise SpecError(
                f"its label layers have {' and '.join(map(str, sorted(labels)))} classes",
                hint="all take the same label",
            )
        n_classes = sum(labels)
        if n_classes != self.interface.n_classes:
            raise SpecError(
                f"n_classes is {self.interface.n_classes}, the layers take {n_classes}",
                hint="n_classes is the label layer's, or 0 without one",
            )
        kinds = {layer.kind for layer in self.layers}
        for field in ("styles", "noise"):
            said = bool(getattr(self.interface, field))
            if said != (field in kinds):
                raise SpecError(
                    f"{field} is {'set' if said else 'not set'}, and there is {'no' if said else 'a'} layer {field!r}",
                    hint=f"{field} is for networks with a layer of that kind",
                )
        self._check_noise()
        check_image(self.shapes, self._shapes_and_products[1])
        if self.shapes[-1] != self.interface.image:
            raise SpecError(
                f"the layers make {self.shapes[-1]}, image is {self.interface.image}",
                hint="correct image, or the layers that make it",
            )
        self._check_input()

    def _check_noise(self) -> None:
        at = 0
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Noise) and layer.at is not None:
                if layer.at != at:
                    raise SpecError(f"layer {index} (noise) at is {layer.at}, expected {at}", hint="maps have no gaps")
                at += layer.height * layer.width
        size = 0 if self.interface.noise_maps is None else self.interface.noise_maps.size
        if size != at:
            raise SpecError(
                f"noise_maps have {size} numbers, the layers take {at}",
                hint="their size is that of all noise layers with at",
            )

    def _check_input(self) -> None:
        taken = self.interface.input
        if taken is None:
            return
        if not taken.fixed:
            least, step = taken.next_side(1), taken.multiple_of
            for height, width in ((least, least), (least + step, least + 2 * step)):
                try:
                    made = self._chain((taken.channels, height, width))[0][-1]
                except SpecError as error:
                    raise SpecError(f"of an input of {width}x{height} {error}", hint=error.hint) from error
                expected = (self.interface.channels, height * taken.scale, width * taken.scale)
                if made != expected:
                    raise SpecError(
                        f"the layers make {made} of an input of {width}x{height}, expected {expected}",
                        hint="correct input: its scale, multiple_of and minimum, or fixed: true for one size only",
                    )
        needed = self.halo
        if taken.halo is not None and (needed is None or taken.halo < needed):
            reach = "the whole image" if needed is None else f"{needed} pixels"
            raise SpecError(f"input's halo is {taken.halo}, the layers reach {reach}", hint="correct it, or null")

    @property
    def halo(self) -> int | None:
        """How far away the input pixels are that an output pixel depends on, in pixels; None where all of them are."""
        first, last, step = Fraction(0), Fraction(0), Fraction(1)
        inputs = (self.interface.input_name, *self.interface.options)
        reached, steps = dict.fromkeys(inputs, (first, last)), dict.fromkeys(inputs, step)
        for layer in self.layers:
            one = layer.reach()
            if one is None:
                return None
            if layer.replaces:
                (first, last), step = reached[layer.uses[0]], steps[layer.uses[0]]
            first, last = first + step * one.first, last + step * one.last
            for name in layer.uses:
                first, last = min(first, reached[name][0]), max(last, reached[name][1])
            step = step * one.step
            if layer.as_:
                reached[layer.as_], steps[layer.as_] = (first, last), step
        return math.ceil(max(-first, last, Fraction(0)))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Per-sample shapes: the input's, then one after each layer (len(layers) + 1)."""
        return self._shapes_and_products[0]

    @property
    def products(self) -> int:
        """Multiplications with an addition that one image takes."""
        return self._shapes_and_products[1]

    @cached_property
    def _shapes_and_products(self) -> tuple[tuple[Shape, ...], int]:
        return self._chain(self.interface.input_shape)

    def _chain(self, shape: Shape) -> tuple[tuple[Shape, ...], int]:
        """The shapes, from an input's of `shape` on, and their products."""
        products = 0
        shapes: list[Shape] = [shape]
        options = {name: option.shape for name, option in self.interface.options.items()}
        named = {self.interface.input_name: shape} | options
        for index, layer in enumerate(self.layers):
            try:
                after = layer.out_shape(shapes[-1], *(_named(named, name) for name in layer.uses))
                if layer.as_:
                    _check_name(layer.as_, named)
                    named[layer.as_] = after
            except SpecError as error:
                raise SpecError(f"layer {index} ({layer.kind}) {error}", hint=error.hint) from error
            products += check_shape(index, layer, shapes[-1], after)
            shapes.append(after)
        return tuple(shapes), products

    def exchanged(self, interface: Interface, layers: tuple[Layer, ...]) -> GeneratorSpec:
        """This spec with others in the place of its layers and interface, of which the caller knows that they have the
        same tensors, labels and sizes: nothing is checked again."""
        made = copy.copy(self)
        made.__dict__.update(interface=interface, layers=layers)
        return made

    def tensors(self) -> dict[str, Shape]:
        """Every tensor the built module loads: "layers.3.weight" → shape."""
        return flat([layer.tensors() for layer in self.layers])

    def by_layer(self, tensors: Mapping[str, _T]) -> tuple[dict[str, _T], ...]:
        """What `flat` made, as it was: for each layer its own names. Raises `KeyError` where one is missing."""
        return tuple(
            {name: tensors[f"layers.{i}.{name}"] for name in layer.tensors()} for i, layer in enumerate(self.layers)
        )

    @property
    def parameters(self) -> int:
        """Trainable numbers (running statistics not counted)."""
        return sum(math.prod(shape) for name, shape in self.tensors().items() if "running_" not in name)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.interface.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }

    def dumps(self) -> str:
        """JSON text with one layer a line, made to be read and edited."""
        values = self.to_json()
        layers = ",\n    ".join(json.dumps(layer) for layer in values.pop("layers"))
        head = ",\n  ".join(f"{json.dumps(k)}: {json_text(v)}" for k, v in values.items())
        return f'{{\n  {head},\n  "layers": [\n    {layers}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, values: Any) -> GeneratorSpec:
        """Reads what `to_json` wrote. Raises `SpecError` naming the field that is missing, unknown or wrong."""
        if not isinstance(values, dict):
            raise SpecError(
                f"a spec must be a JSON object, got {shown(values)}", hint=f"its fields: {', '.join(SPEC_FIELDS)}"
            )
        unknown = set(values) - set(SPEC_FIELDS)
        if unknown:
            raise SpecError(f"unknown spec field {shown(min(unknown))}", hint=f"fields: {', '.join(SPEC_FIELDS)}")
        missing = {"image", "layers", "z_dim" if values.get("input") is None else "input"} - set(values)
        if missing:
            raise SpecError(f"the spec lacks {sorted(missing)[0]!r}", hint=f"fields: {', '.join(SPEC_FIELDS)}")
        layers = values["layers"]
        if not isinstance(layers, list):
            raise SpecError(
                f"layers must be a list of layers, got {shown(layers)}", hint="gan-export inspect --out writes a spec"
            )
        interface = Interface.from_json({name: value for name, value in values.items() if name in _INTERFACE})
        return cls(interface, tuple(map(_layer, range(len(layers)), layers)), values.get("name", cls.name))

    @classmethod
    def loads(cls, text: str | bytes) -> GeneratorSpec:
        """Reads what `dumps` wrote. Raises `SpecError` for text that is no JSON, and as `from_json` does."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise SpecError(
                f"the spec is not JSON: {said}", hint="gan-export inspect writes one to start from"
            ) from error
        return cls.from_json(values)


def flat(weights: Sequence[Mapping[str, _T]]) -> dict[str, _T]:
    """The weights of layers under the names that they have in a built module, as in "layers.3.weight"."""
    return {f"layers.{i}.{name}": value for i, owned in enumerate(weights) for name, value in owned.items()}


def _named(named: Mapping[str, Shape], name: str) -> Shape:
    if name not in named:
        raise SpecError(
            f"uses {shown(name)}, which no layer before it is called", hint=f"names so far: {', '.join(named)}"
        )
    return named[name]


def _check_name(name: str, named: Mapping[str, Shape]) -> None:
    if not _NAME.fullmatch(name) or name in (RUNNING, *named):
        first = next(iter(named))
        taken = f"the running value is x, the input {first}" if name in (RUNNING, first) else "each name is given once"
        raise SpecError(
            f"cannot be called {shown(name)}", hint=f"a name is small letters and digits, as in skip_1; {taken}"
        )


def _layer(index: int, values: Any) -> Layer:
    try:
        return layer_from_json(values)
    except SpecError as error:
        kind = values.get("kind") if isinstance(values, dict) else None
        where = f"layer {index} ({kind})" if layer_kind(kind) else f"layer {index}:"
        raise SpecError(f"{where} {str(error).removeprefix(f'{kind}: ')}", hint=error.hint) from error


@dataclass(frozen=True)
class Budget:
    """The most of each that a spec may ask for, checked when the spec is made, before a module is built.

    A few hundred bytes can describe a network that no machine runs (twelve doublings, a label of a billion classes).
    The limits leave room for generators that exist: 1024 x 1024 with 64 channels, 512 x 512 with 512, 1,000 classes.

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
HINT = "is it a generator's? check the sizes, or give the network's own code: `module=\"file.py:Class\"`"


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
