"""StyleGAN 3 as NVlabs write it: configurations T (translation) and R (rotation).

Sizes and channels stand in the names of its layers, filters are buffers. What neither shows are attributes of the
pickled modules, and of a state_dict alone the defaults of the code. What a layer divides its input by (magnitude_ema)
is multiplied into the filter before it. Styles are not normalised over the batch, as the code does before it
demodulates: that cancels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import NamedTuple

from torch import Tensor

from gan_core.interface import Interface, Styles
from gan_core.spec import layers as L
from gan_export.families import Family, Folded, NamedLayers, Network, Shapes
from gan_export.families.stylegan2 import activation, mapping_network, origin
from gan_export.families.styles import STYLES, Own, part, times

MARGIN, FILTER_SIZE, BANDWIDTH = 10, 6, 2.0
"""Defaults of the code: pixels outside of the image, taps of a filter for each pixel, cycles of the first layer."""
INPUT = "synthesis.input"


class Layer(NamedTuple):
    """One layer: channels, the side of its image before and after, taps of its filters (1 for none)."""

    name: str
    before: int
    out: int
    size: int
    kernel: int
    up: int
    up_taps: int
    down: int
    down_taps: int
    radial: bool = False


class Numbers(NamedTuple):
    """`layers` end with that to RGB; `mapping` are the features before and after each layer of the mapping network."""

    c_dim: int
    mapping: tuple[int, ...]
    embed: int
    side: int
    layers: tuple[Layer, ...]
    sampling_rate: float
    bandwidth: float = BANDWIDTH
    clamp: float | None = 256.0
    scale: float = 0.25
    lr_multiplier: float = 0.01
    source: str | None = None
    half: int = 0


class NvlabsStyleGan3(Family[Numbers]):
    """Generator of training/networks_stylegan3.py."""

    name, source = "stylegan3", "NVlabs/stylegan3"

    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        names = [found for key in shapes if (found := re.fullmatch(r"synthesis\.(L(\d+)_(\d+)_(\d+))\.weight", key))]
        features = shapes.row((f"mapping.fc{n}.weight" for n in range(64)), 2)
        if not (names and features and shapes.rank(f"{INPUT}.freqs", 2)):
            return
        said = {name: info.settings for name, info in shapes.modules.items()}
        layers = []
        for found in sorted(names, key=lambda found: int(found[2])):
            shape, own = shapes[found[0]], said.get(f"synthesis.{found[1]}", {})
            if len(shape) != 4:
                return
            up, down = ((shapes[f"synthesis.{found[1]}.{way}_filter"] or (1,)) for way in ("up", "down"))
            factors = (
                own.get(f"{way}_factor", max(taps[0] // FILTER_SIZE, 1)) for way, taps in (("up", up), ("down", down))
            )
            (by_up, by_down), radial = factors, len(down) == 2
            size, kernel = int(found[3]), shape[2]
            layers.append(Layer(found[1], shape[1], shape[0], size, kernel, by_up, up[0], by_down, down[0], radial))
        embed, c_dim = shapes["mapping.embed.weight"] if shapes.rank("mapping.embed.weight", 2) else (0, 0)
        first, whole = said.get(INPUT, {}), said.get("synthesis", {})
        clamps = {
            own.get("conv_clamp", 256.0) for name, own in said.items() if re.match(r"synthesis\.L\d+_\d+_\d+$", name)
        }
        values = {
            "sampling_rate": first.get("sampling_rate", float(layers[0].size - 2 * MARGIN)),
            "bandwidth": first.get("bandwidth", BANDWIDTH),
            "scale": whole.get("output_scale", 0.25),
            "lr_multiplier": said.get("mapping.fc0", {}).get("bias_gain", 0.01),
            "clamp": clamps.pop() if clamps else 256.0,
        }
        if clamps or not all(isinstance(value, int | float | None) for value in values.values()):
            return
        yield Numbers(
            c_dim,
            (*(shape[1] for shape in features), features[-1][0]),
            embed,
            layers[-1].size,
            tuple(layers),
            source=shapes.modules[""].source if "" in shapes.modules else None,
            half=sum(own.get("use_fp16") is True for own in said.values()),
            **values,
        )

    def network(self, numbers: Numbers) -> Network:
        n, w_dim, count = numbers, numbers.mapping[-1], len(numbers.layers) + 1
        image = (n.layers[-1].out, n.side, n.side)
        interface = Interface(n.mapping[0] - n.embed, image, n_classes=n.c_dim, styles=Styles(w_dim, count))
        layers = [
            *mapping_network(n.c_dim, n.embed, n.mapping, "lrelu", n.lr_multiplier),
            part(L.Styles(w_dim, count, as_=STYLES), w_avg=Own("mapping.w_avg", (w_dim,))),
            _input(n, w_dim),
        ]
        for index, layer in enumerate(n.layers):
            layers += _layer(n, index, layer, w_dim)
        said = f"clamp {n.clamp}, margin {MARGIN} and the mapping network's learning rate {n.lr_multiplier:g}"
        evidence, notes = origin(n.source, n.half, said)
        return Network(layers, interface, evidence, notes=notes, knows_classes=True)

    def sample(self, random: Random) -> Numbers:
        embed, w_dim, channels = random.choice((0, 3)), random.randint(2, 9), random.randint(1, 5)
        kernel, radial, before = random.choice((1, 3)), random.random() < 0.5, random.randint(1, 5)
        layers = []
        for index, (size, up) in enumerate(((36, 2), (52, 4), (32, 2))):
            name, only = f"L{index}_{size}_{channels}", radial and index < 2
            layers.append(Layer(name, before, channels, size, kernel, up, 6 * up, 2, 12, only))
            before, channels = channels, random.randint(1, 5)
        layers.append(Layer("L3_32_3", before, 3, 32, 1, 1, 1, 1, 1))
        mapping = (random.randint(2, 9) + embed, *[w_dim] * random.randint(1, 2))
        return Numbers(random.randint(2, 4) if embed else 0, mapping, embed, 32, tuple(layers), 16.0)


def _input(n: Numbers, w_dim: int) -> tuple[Folded, L.Layer]:
    channels, gain = n.layers[0].before, f"synthesis.{n.layers[0].name}.magnitude_ema"
    made = L.FourierInput(channels, n.layers[0].size, n.sampling_rate, n.bandwidth, STYLES, 0, w_dim)
    where, layer = part(
        made,
        weight=Own(f"{INPUT}.weight", (channels, channels), times(1 / math.sqrt(channels))),
        affine_weight=Own(f"{INPUT}.affine.weight", (4, w_dim), times(1 / math.sqrt(w_dim))),
        affine_bias=Own(f"{INPUT}.affine.bias", (4,)),
        transform=Own(f"{INPUT}.transform", (3, 3)),
        freqs=Own(f"{INPUT}.freqs", (channels, 2)),
        phases=Own(f"{INPUT}.phases", (channels,)),
    )
    return _divided(where, "weight", gain, 0.5), layer


def _divided(where: Folded, name: str, magnitude: str, power: float) -> Folded:
    """`where`, with tensor `name` divided by a power of the mean square that the next layer gets."""

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = where.make(held)
        return made | {name: made[name] * held[magnitude] ** -power}

    return replace(where, takes={**where.takes, magnitude: ()}, make=make)


def _layer(n: Numbers, index: int, layer: Layer, w_dim: int) -> NamedLayers:
    name, rgb = f"synthesis.{layer.name}", index == len(n.layers) - 1
    made = L.ModulatedConv(
        layer.before, layer.out, layer.kernel, STYLES, index + 1, w_dim, demodulate=not rgb, padding=layer.kernel - 1
    )
    gain = 1 / math.sqrt(layer.before * layer.kernel**2) if rgb else 1.0
    conv = part(
        made,
        weight=Own(f"{name}.weight", made.tensors()["weight"], None if rgb else _normalised),
        affine_weight=Own(f"{name}.affine.weight", (layer.before, w_dim), times(gain / math.sqrt(w_dim))),
        affine_bias=Own(f"{name}.affine.bias", (layer.before,), times(gain)),
    )
    layers: NamedLayers = [conv, part(L.Bias(layer.out), bias=Own(f"{name}.bias", (layer.out,)))]
    if rgb:
        clamp = None if n.clamp is None else n.clamp * n.scale
        return [*layers, ("", L.Activation("identity", gain=n.scale, clamp=clamp))]
    before = n.layers[max(index - 1, 0)].size
    total = (layer.size - 1) * layer.down + 1 - (before + layer.kernel - 1) * layer.up
    total += layer.up_taps + layer.down_taps - 2
    low = (total + layer.up) // 2
    up = L.Fir(layer.up_taps, up=layer.up, borders=(low, total - low) * 2, separable=True)
    down = L.Fir(layer.down_taps, down=layer.down, separable=not layer.radial)
    shape = (layer.down_taps,) * (2 if layer.radial else 1)
    where, last = part(down, filter=Own(f"{name}.down_filter", shape))
    following = f"synthesis.{n.layers[index + 1].name}.magnitude_ema"
    return [
        *layers,
        part(up, filter=Own(f"{name}.up_filter", (layer.up_taps,), times(layer.up))),
        ("", activation("lrelu", clamp=n.clamp)),
        (_divided(where, "filter", following, 0.5 if layer.radial else 0.25), last),
    ]


def _normalised(weight: Tensor) -> Tensor:
    return weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
