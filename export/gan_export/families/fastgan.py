"""FastGAN (odegeasslbc/FastGAN-pytorch), and the generator that autonomousvision/projected-gan made of it.

`init`, then `feat_8` … `feat_1024`: nearest upsampling, convolution, norm, gated linear unit, once or twice. From 64
pixels on, `se_N` multiplies channels by what it makes of the image a sixteenth as large. `to_big` ends. The noise that
the code adds at random each time it runs is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from random import Random
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import IDENTITY, TANH, Family, Folded, NamedLayers, Network, Shapes

SIDES = (8, 16, 32, 64, 128, 256, 512, 1024)
EXCITED = (64, 128, 256, 512)
NOISE = "the noise that the author's code adds at random each time it runs is left out"


class Numbers(NamedTuple):
    """`widths` are the channels at 4 pixels and each further size, `twice` the sizes with two convolutions; `size` is
    that of the images: what comes after it is in the file, and does not run."""

    prefix: str
    z_dim: int
    widths: tuple[int, ...]
    twice: tuple[int, ...]
    size: int
    channels: int
    classes: int = 0


class FastGan(Family[Numbers]):
    name = "fastgan"
    source = "odegeasslbc/FastGAN-pytorch"
    last_bias: ClassVar[bool] = False

    def numbers(self, shapes: Shapes) -> Iterator[Numbers]:
        key = next((key for key in shapes if key.endswith("init.init.0.weight")), "")
        prefix = key.removesuffix("init.init.0.weight")
        start, last, table = shapes[key], shapes[f"{prefix}to_big.weight"], shapes[f"{prefix}embed.weight"]
        conditional = len(table) == 2
        named = {f"{prefix}feat_{side}.": side for side in SIDES}
        first = "conv1" if f"{prefix}feat_8.conv1.weight" in shapes else "conv" if conditional else "1"
        second = "conv2" if conditional else "5"
        convs = shapes.row((f"{stem}{first}.weight" for stem in named), 4)
        if len(start) != 4 or len(last) != 4 or len(convs) < 6:
            return
        widths = (start[1] // 2, *(conv[0] // 2 for conv in convs))
        sides = SIDES[: len(convs)]
        twice = tuple(side for stem, side in named.items() if shapes.rank(f"{stem}{second}.weight", 4))
        for size in sides[-1:] if len(convs) > 6 else (256, 128):
            if widths[SIDES.index(size) + 1] == last[1]:
                yield Numbers(prefix, start[0], widths, twice, size, last[0], table[0] if conditional else 0)

    def network(self, numbers: Numbers) -> Network:
        prefix, widths = numbers.prefix, numbers.widths
        styles: NamedLayers = []
        layers = self._start(numbers)
        idle: NamedLayers = []
        for index, side in enumerate(SIDES[: len(widths) - 1]):
            runs = side <= numbers.size
            (styles if runs else idle).extend(self._styles(numbers, side, widths[index + 1]))
            part = layers if runs else idle
            part += self._block(numbers, side, widths[index], widths[index + 1])
            if side in EXCITED:
                part += self._excitation(numbers, index, side)
            part[-1] = ("", dataclasses.replace(part[-1][1], as_=f"feat_{side}"))
        if numbers.classes:
            embedding = L.LabelEmbedding(numbers.classes, numbers.z_dim, "label", as_="class")
            layers = [(f"{prefix}embed", embedding), *styles, ("", L.Load("z")), *layers]
        last = widths[SIDES.index(numbers.size) + 1]
        layers.append((f"{prefix}to_big", L.Conv(last, numbers.channels, 3, padding=1, bias=self.last_bias)))
        interface = Interface(numbers.z_dim, (numbers.channels, numbers.size, numbers.size), n_classes=numbers.classes)
        beside = Network(idle, interface).shapes | dict.fromkeys(self._noises(numbers), (1,))
        notes = (NOISE,) if numbers.twice else ()
        return self._ended(Network(layers, interface, beside=beside, notes=notes), numbers)

    def _start(self, numbers: Numbers) -> NamedLayers:
        z_dim, first = numbers.z_dim, numbers.widths[0]
        return [
            ("", L.Reshape((z_dim, 1, 1))),
            (f"{numbers.prefix}init.init.0", L.ConvTranspose(z_dim, 2 * first, 4, bias=False)),
            (f"{numbers.prefix}init.init.1", L.BatchNorm(2 * first)),
            ("", L.Glu(as_="feat_4")),
        ]

    def _ended(self, network: Network, numbers: Numbers) -> Network:
        """The code ends in tanh at 1024 pixels alone; copies of it have one at other sizes, so its images decide."""
        small: dict[str, L.Shape] = {f"{numbers.prefix}to_128.weight": (numbers.channels, numbers.widths[5], 1, 1)}
        layers = [*network.layers, ("", TANH if numbers.size == 1024 else IDENTITY)]
        questions = () if numbers.size == 1024 else ("output",)
        return dataclasses.replace(network, layers=layers, beside={**network.beside, **small}, questions=questions)

    def _styles(self, numbers: Numbers, side: int, makes: int) -> NamedLayers:
        """The gains and biases of each norm of a block from the class's embedding; none without classes."""
        layers: NamedLayers = []
        for order in _orders(numbers, side) if numbers.classes else ():
            name = f"{numbers.prefix}feat_{side}.bn{order}"
            layers += [("", L.Load("class")), _gains(name, numbers.z_dim, 2 * makes, f"norm_{side}_{order or 1}")]
        return layers

    def _block(self, numbers: Numbers, side: int, takes: int, makes: int) -> NamedLayers:
        """What makes the image of `side` pixels."""
        name, layers = f"{numbers.prefix}feat_{side}", list[tuple[str | Folded, L.Layer]]([("", L.Upsample(2))])
        for number, order in enumerate(_orders(numbers, side)):
            conv = L.Conv(makes if number else takes, 2 * makes, 3, padding=1, bias=False)
            if numbers.classes:
                layers += [(f"{name}.conv{order}", conv), _norm(f"{name}.bn{order}", 2 * makes)]
                layers.append(("", L.Modulate(f"norm_{side}_{order or 1}")))
            else:
                at = 4 * number + 1
                layers += [(f"{name}.{at}", conv), (f"{name}.{at + (2 if order else 1)}", L.BatchNorm(2 * makes))]
            layers.append(("", L.Glu()))
        layers[-1] = ("", L.Glu(as_=f"inside_{side}"))
        return layers

    def _noises(self, numbers: Numbers) -> Iterator[str]:
        for side in numbers.twice:
            names = ("noise",) if numbers.classes else ("2", "6")
            yield from (f"{numbers.prefix}feat_{side}.{name}.weight" for name in names)

    def _excitation(self, numbers: Numbers, index: int, side: int) -> NamedLayers:
        """The running image, its channels multiplied by what the image a sixteenth as large says."""
        name, takes, makes = f"{numbers.prefix}se_{side}", numbers.widths[index - 3], numbers.widths[index + 1]
        return [
            ("", L.Load(f"feat_{side // 16}")),
            ("", L.AdaptivePool("avg", (4, 4))),
            (f"{name}.main.1", L.Conv(takes, makes, 4, bias=False)),
            ("", L.Activation("silu")),
            (f"{name}.main.3", L.Conv(makes, makes, 1, bias=False)),
            ("", L.Activation("sigmoid")),
            ("", L.Multiply(f"inside_{side}")),
        ]

    def sample(self, random: Random) -> Numbers:
        count = random.choice((6, 6, 7))
        widths = tuple(random.randint(1, 4) for _ in range(count + 1))
        twice = tuple(side for side in SIDES[:count] if random.random() < 0.5)
        return Numbers("", random.randint(1, 9), widths, twice, SIDES[count - 1], random.choice((1, 3)))


class ProjectedGan(FastGan):
    """Its z is normalised, it has no tanh, and with classes the norms' gains come from an embedding."""

    name = "projected-gan"
    source = "autonomousvision/projected-gan"
    last_bias = True

    def _start(self, numbers: Numbers) -> NamedLayers:
        return [("", L.PixelNorm()), *super()._start(numbers)]

    def _ended(self, network: Network, numbers: Numbers) -> Network:  # noqa: ARG002
        return dataclasses.replace(network, layers=[*network.layers, ("", IDENTITY)], knows_classes=True)

    def sample(self, random: Random) -> Numbers:
        numbers = super().sample(random)
        sides = SIDES[: len(numbers.widths) - 1]
        twice = random.choice(((), sides))
        size = random.choice((128, 256)) if len(sides) == 6 else numbers.size
        widths = (*numbers.widths[:5], 3, 2, *numbers.widths[7:])
        classes = random.choice((0, random.randint(2, 5)))
        return numbers._replace(prefix="synthesis.", twice=twice, widths=widths, size=size, classes=classes)


def _orders(numbers: Numbers, side: int) -> tuple[str, ...]:
    """The numbers of the convolutions of a block; none for a single one."""
    return ("1", "2") if side in numbers.twice else ("",)


def _norm(name: str, features: int) -> tuple[Folded, L.Layer]:
    names = {"running_mean": f"{name}.stored_mean", "running_var": f"{name}.stored_var"}
    takes = dict.fromkeys(names.values(), (features,))
    return Folded(takes, lambda held: {own: held[key] for own, key in names.items()}), L.BatchNorm(
        features, affine=False
    )


def _gains(name: str, style: int, features: int, as_: str) -> tuple[Folded, L.Layer]:
    """The two linear layers of a norm, of 1 less than the gains and of the biases, as one."""
    takes: dict[str, L.Shape] = {}
    for part in ("gain", "bias"):
        takes |= {f"{name}.{part}.weight": (features, style), f"{name}.{part}.bias": (features,)}

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weight, bias = (
            torch.cat([held[f"{name}.{part}.{own}"] for part in ("gain", "bias")]) for own in ("weight", "bias")
        )
        return {"weight": weight, "bias": bias + torch.cat((torch.ones(features), torch.zeros(features)))}

    return Folded(takes, make), L.Linear(style, 2 * features, as_=as_)
