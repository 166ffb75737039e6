"""A generator is data: `GeneratorSpec`.

The spec is the JSON half of a checkpoint of ours, the draft of a stranger's, and what an artefact carries as
`gan.spec`. `gan_trainer.build` makes the torch module. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gan_serve.latents import LATENT_LAWS, LatentLaw
from gan_serve.printable import json_text
from gan_trainer.layers import LabelEmbedding, LabelOneHot, Layer, Shape, SpecError, layer_from_json

__all__ = ["GeneratorSpec", "SpecError"]

SPEC_FIELDS = ("name", "z_dim", "latent", "n_classes", "class_names", "image", "value_range", "layers")


@dataclass(frozen=True)
class GeneratorSpec:
    """A chain of layers from a latent vector to an image, and how to feed it.

    z_dim        components of a latent (the first layer's input, before any label)
    latent       law of the components: "normal" N(0, 1) or "uniform" U(-1, 1)
    image        (C, H, W) of the output
    layers       see `gan_trainer.layers`; at most one label layer
    n_classes    0 without a label layer
    class_names  one per class, or empty
    value_range  the output values of (black, white)
    name         a short name for people: "dcgan-64", "mlp-28"

    Raises `SpecError` on construction when the shapes do not chain from (z_dim,) to `image`.
    """

    z_dim: int
    image: tuple[int, int, int]
    layers: tuple[Layer, ...]
    latent: LatentLaw = "normal"
    n_classes: int = 0
    class_names: tuple[str, ...] = ()
    value_range: tuple[float, float] = (-1.0, 1.0)
    name: str = "generator"

    def __post_init__(self) -> None:
        if self.latent not in LATENT_LAWS:
            raise SpecError(f"latent must be one of {', '.join(LATENT_LAWS)}, got {self.latent!r}")
        if self.z_dim < 1:
            raise SpecError(f"z_dim must be at least 1, got {self.z_dim}")
        if len(self.image) != 3:
            raise SpecError(f"image must be (C, H, W), got {self.image}")
        if not self.value_range[0] < self.value_range[1]:
            raise SpecError(f"value_range must be (black, white) with black < white, got {self.value_range}")
        labels = [layer for layer in self.layers if isinstance(layer, (LabelEmbedding, LabelOneHot))]
        if len(labels) > 1:
            raise SpecError("a spec holds at most one label layer")
        if (labels[0].n_classes if labels else 0) != self.n_classes:
            raise SpecError(f"n_classes is {self.n_classes}, the layers take {labels[0].n_classes if labels else 0}")
        if len(self.class_names) not in (0, self.n_classes):
            raise SpecError(f"{len(self.class_names)} class names for {self.n_classes} classes")
        if self.shapes[-1] != self.image:
            raise SpecError(f"the layers make {self.shapes[-1]}, image is {self.image}")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Per-sample shapes: the input's, then one after each layer (len(layers) + 1)."""
        shapes: list[Shape] = [(self.z_dim,)]
        for index, layer in enumerate(self.layers):
            try:
                shapes.append(layer.out_shape(shapes[-1]))
            except SpecError as error:
                raise SpecError(f"layer {index} ({layer.kind}) {error}", hint=error.hint) from error
        return tuple(shapes)

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
            raise SpecError(f"a spec must be a JSON object, got {type(values).__name__}")
        unknown = set(values) - set(SPEC_FIELDS)
        if unknown:
            raise SpecError(f"unknown spec field {sorted(unknown)[0]!r}", hint=f"fields: {', '.join(SPEC_FIELDS)}")
        missing = {"z_dim", "image", "layers"} - set(values)
        if missing:
            raise SpecError(f"the spec lacks {sorted(missing)[0]!r}")
        try:
            black, white = values.get("value_range", (-1.0, 1.0))
            return cls(
                z_dim=int(values["z_dim"]),
                image=tuple(int(side) for side in values["image"]),  # type: ignore[arg-type]
                layers=tuple(layer_from_json(layer) for layer in values["layers"]),
                latent=values.get("latent", "normal"),
                n_classes=int(values.get("n_classes", 0)),
                class_names=tuple(str(name) for name in values.get("class_names", ())),
                value_range=(float(black), float(white)),
                name=str(values.get("name", "generator")),
            )
        except (TypeError, ValueError) as error:
            raise SpecError(f"the spec does not read: {error}") from error
