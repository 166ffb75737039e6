"""The progressive GAN of facebookresearch/pytorch_GAN_zoo: `formatLayer`, `groupScale0`, `scaleLayers`, `toRGBLayers`.

Every layer's output is multiplied by He's constant, its bias included; the constants go into the weights. The file's
`config` says the slope, whether pixels are normalised, the loss (which says the output) and the classes; where it is
missing, these are as the code's defaults have them. While a new resolution is faded in (`alpha` above 0), two networks
run at once: such a file is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import (
    IDENTITY,
    TANH,
    Family,
    Folded,
    NamedLayers,
    Network,
    RefusedError,
    Shapes,
    scaled,
)


class Progressive(NamedTuple):
    """`widths` are the channels of each resolution, 4x4 first; `fading` and `attributes` are refused; `configured` is
    whether the file has its configuration."""

    z_dim: int
    widths: tuple[int, ...]
    channels: int
    classes: int = 0
    slope: float = 0.2
    tanh: bool = False
    equalized: bool = True
    fading: float = 0.0
    attributes: int = 1
    configured: bool = True


class PytorchGanZoo(Family[Progressive]):
    name = "pytorch-gan-zoo-pgan"
    source = "facebookresearch/pytorch_GAN_zoo"

    def numbers(self, shapes: Shapes) -> Iterator[Progressive]:
        start = shapes["formatLayer.module.weight"]
        scales = shapes.row((f"scaleLayers.{index}.1.module.weight" for index in itertools.count()), 4)
        to_rgb = shapes[f"toRGBLayers.{len(scales)}.module.weight"]
        if len(start) != 2 or len(to_rgb) != 4:
            return
        said = {key.removeprefix("config."): value for key, value in shapes.settings.items()}
        attributes = sum(key.startswith("attribKeysOrder.") and key.endswith(".order") for key in said)
        yield Progressive(
            start[1],
            (start[0] // 16, *(weight[0] for weight in scales)),
            to_rgb[0],
            classes=_number(said, "categoryVectorDim", 0) if attributes else 0,
            slope=_number(said, "leakyReluLeak", 0.2),
            tanh=said.get("lossCriterion") in ("MSE", "DCGAN"),
            equalized=said.get("equalizedlR") is not False,
            fading=_number(said, "alpha", 0.0),
            attributes=attributes,
            configured="leakyReluLeak" in said and "lossCriterion" in said,
        )

    def network(self, numbers: Progressive) -> Network:
        widths, channels = numbers.widths, numbers.channels
        act, norm = ("", L.Activation("leaky_relu", slope=numbers.slope)), ("", L.PixelNorm())
        z_dim = numbers.z_dim - numbers.classes

        def layer(name: str, made: L.Conv | L.Linear) -> tuple[str | Folded, L.Layer]:
            fan_in = math.prod(made.tensors()["weight"][1:])
            constant = math.sqrt(2 / fan_in) if numbers.equalized else 1.0
            return scaled(f"{name}.module", made, constant, constant)

        layers: NamedLayers = [("", L.LabelOneHot(numbers.classes))] if numbers.classes else []
        layers += [norm, layer("formatLayer", L.Linear(numbers.z_dim, 16 * widths[0])), act]
        layers += [("", L.Reshape((widths[0], 4, 4))), norm]
        layers += [layer("groupScale0.0", L.Conv(widths[0], widths[0], 3, padding=1)), act, norm]
        for index, (takes, makes) in enumerate(itertools.pairwise(widths)):
            layers.append(("", L.Upsample(2)))
            for number, given in enumerate((takes, makes)):
                layers += [layer(f"scaleLayers.{index}.{number}", L.Conv(given, makes, 3, padding=1)), act, norm]
        last = len(widths) - 1
        layers.append(layer(f"toRGBLayers.{last}", L.Conv(widths[-1], channels, 1)))
        layers.append(("", TANH if numbers.tanh else IDENTITY))
        beside: dict[str, L.Shape] = {}
        for index, width in enumerate(widths[:-1]):
            beside |= {f"toRGBLayers.{index}.module.weight": (channels, width, 1, 1)}
            beside |= {f"toRGBLayers.{index}.module.bias": (channels,)}
        size = 4 * 2**last
        image = Interface(max(z_dim, 1), (channels, size, size), n_classes=numbers.classes)
        said = ("activation", "output") if numbers.configured else ()
        return Network(layers, image, said=said, beside=beside, refused=_refusal(numbers))

    def sample(self, random: Random) -> Progressive:
        widths = tuple(random.randint(1, 8) for _ in range(random.randint(1, 4)))
        return Progressive(random.randint(1, 20), widths, random.choice((1, 3)), attributes=0, configured=False)


def _number(said: dict[str, Any], name: str, default: Any) -> Any:
    """A number of the configuration that may be one; else what the code has."""
    value: Any = said.get(name)
    return value if type(value) in (int, type(default)) and 0 <= value < 10_000 else default


def _refusal(numbers: Progressive) -> RefusedError | None:
    if numbers.fading > 0:
        return RefusedError(
            f"its alpha is {numbers.fading:g}: the training was still fading in {4 * 2 ** (len(numbers.widths) - 1)} "
            "pixels, expected a file with alpha 0",
            hint="take a checkpoint from the end of a resolution's training",
        )
    if numbers.attributes > 1:
        return RefusedError(
            f"it takes {numbers.attributes} attributes, expected one class or none",
            hint="give the network's own code: `module` file.py:Class",
        )
    return None
