"""A generator is data: `GeneratorSpec`.

The spec is the JSON half of a checkpoint of ours, the draft of a stranger's, and what an artefact carries as
`gan.spec`. `gan_trainer.networks.build` makes the torch module. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from gan_core.latents import LatentLaw
from gan_core.printable import json_text
from gan_core.spec.budget import check_image, check_layers, check_shape
from gan_core.spec.fields import MAX_CLASSES, Features, Name, Number, Range, Shape, Side, SpecError, check_fields, shown
from gan_core.spec.layers import LAYER_KINDS, LabelEmbedding, LabelOneHot, Layer, layer_from_json

__all__ = ["GeneratorSpec", "SpecError"]

SPEC_FIELDS = ("name", "z_dim", "latent", "n_classes", "class_names", "image", "value_range", "layers")


@dataclass(frozen=True)
class GeneratorSpec:
    """A chain of layers from a latent vector to an image, and how to feed it.

    z_dim        components of a latent (the first layer's input, before any label)
    latent       law of the components: "normal" N(0, 1) or "uniform" U(-1, 1)
    image        (C, H, W) of the output
    layers       see `gan_core.spec.layers`; at most one label layer
    n_classes    0 without a label layer
    class_names  one per class, or empty
    value_range  the output values of (black, white)
    name         a short name for people: "dcgan-64", "mlp-28"

    Raises `SpecError` on construction for a field of another type or out of its range, when the shapes do not chain
    from (z_dim,) to `image`, and when an image would take more than `gan_core.spec.budget` allows.
    """

    z_dim: Features
    image: tuple[Side, Side, Side]
    layers: tuple[Layer, ...]
    latent: LatentLaw = "normal"
    n_classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    class_names: tuple[Name, ...] = ()
    value_range: tuple[Number, Number] = (-1.0, 1.0)
    name: Name = "generator"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.value_range[0] < self.value_range[1]:
            raise SpecError(
                f"value_range must be (black, white) with black < white, got {self.value_range}",
                hint="as in [-1, 1] or [0, 1]",
            )
        check_layers(self.layers)
        labels = [layer for layer in self.layers if isinstance(layer, (LabelEmbedding, LabelOneHot))]
        if len(labels) > 1:
            raise SpecError("a spec holds at most one label layer", hint="take out the others")
        if (labels[0].n_classes if labels else 0) != self.n_classes:
            raise SpecError(
                f"n_classes is {self.n_classes}, the layers take {labels[0].n_classes if labels else 0}",
                hint="n_classes is the label layer's, or 0 without one",
            )
        if len(self.class_names) not in (0, self.n_classes):
            raise SpecError(
                f"{len(self.class_names)} class names for {self.n_classes} classes",
                hint="class_names has one name a class, or none",
            )
        check_image(self.shapes, self._shapes_and_products[1])
        if self.shapes[-1] != self.image:
            raise SpecError(
                f"the layers make {self.shapes[-1]}, image is {self.image}",
                hint="correct image, or the layers that make it",
            )

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
        products = 0
        shapes: list[Shape] = [(self.z_dim,)]
        for index, layer in enumerate(self.layers):
            try:
                after = layer.out_shape(shapes[-1])
            except SpecError as error:
                raise SpecError(f"layer {index} ({layer.kind}) {error}", hint=error.hint) from error
            products += check_shape(index, layer, shapes[-1], after)
            shapes.append(after)
        return tuple(shapes), products

    def tensors(self) -> dict[str, Shape]:
        """Every tensor the built module loads: "layers.3.weight" → shape."""
        return {
            f"layers.{i}.{name}": shape
            for i, layer in enumerate(self.layers)
            for name, shape in layer.tensors().items()
        }

    @property
    def parameters(self) -> int:
        """Trainable numbers (running statistics not counted)."""
        total = 0
        for name, shape in self.tensors().items():
            if "running_" not in name:
                size = 1
                for side in shape:
                    size *= side
                total += size
        return total

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "z_dim": self.z_dim,
            "latent": self.latent,
            "n_classes": self.n_classes,
            "class_names": list(self.class_names),
            "image": list(self.image),
            "value_range": list(self.value_range),
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
        missing = {"z_dim", "image", "layers"} - set(values)
        if missing:
            raise SpecError(f"the spec lacks {sorted(missing)[0]!r}", hint=f"fields: {', '.join(SPEC_FIELDS)}")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        if not isinstance(fields["layers"], tuple):
            raise SpecError(f"layers must be a list of layers, got {shown(fields['layers'])}", hint="see --spec")
        fields["layers"] = tuple(map(_layer, range(len(fields["layers"])), fields["layers"]))
        return cls(**fields)

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


def _layer(index: int, values: Any) -> Layer:
    try:
        return layer_from_json(values)
    except SpecError as error:
        kind = values.get("kind") if isinstance(values, dict) else None
        where = f"layer {index} ({kind})" if isinstance(kind, str) and kind in LAYER_KINDS else f"layer {index}:"
        raise SpecError(f"{where} {str(error).removeprefix(f'{kind}: ')}", hint=error.hint) from error
