"""BigGAN and BigGAN-deep of ajbrock/BigGAN-PyTorch, that code's SAGAN and SNGAN, and DeepMind's BigGAN-deep.

`shared` is the class's embedding, `linear` makes the first image, `blocks.N.0` are residual blocks, `blocks.N.1` may be
attention, `output_layer` ends. The gains and biases of the norms come from the embedding, beside it a chunk of z (in
BigGAN-deep the whole z), or straight from tables of the classes. A gain stands for 1 + gain.

DeepMind's weights, as huggingface converted them, have other names for the same network.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import DEEPEST, RELU, TANH, Family, Folded, NamedLayers, Network, Shapes, called
from gan_export.families.mimicry import attention

STATISTICS = {
    "plain": ("stored_mean", "stored_var"),
    "synchronised": ("bn.running_mean", "bn.running_var"),
    "standing": ("bn.stored_mean", "bn.stored_var"),
}
"""How the three norms of the code name their statistics; those of the last may be sums over `accumulation_counter`."""
COUNTER = "bn.accumulation_counter"


class Numbers(NamedTuple):
    """z_dim     what `linear` takes of z
    chunk     components of z that each block's norms take
    embedded  of the class's embedding; 0 where each norm has tables of the classes
    widths    channels that the first block takes and each makes
    attends   the blocks that attention follows
    sets      of statistics in each norm, for truncations from 0 to 1; 0 where it has its own alone
    """

    z_dim: int
    chunk: int
    classes: int
    embedded: int
    side: int
    widths: tuple[int, ...]
    attends: tuple[int, ...] = ()
    statistics: str = "plain"
    channels: int = 3
    sets: int = 0


class BigGan(Family[Numbers]):
    """Blocks of two 3x3 convolutions, the first after upsampling, with a 1x1 convolution beside them."""

    name = "biggan"
    source = "ajbrock/BigGAN-PyTorch"
    last_inside: ClassVar[str] = "conv2"
    eps: ClassVar[float] = 1e-5
    upsampled: ClassVar[int] = 0
    """The convolution inside a block that upsampling precedes."""

    def numbers(self, shapes: Shapes) -> Iterator[Numbers]:
        start, gains, table = shapes["linear.weight"], shapes["blocks.0.0.bn1.gain.weight"], shapes["shared.weight"]
        makes = shapes.row((f"blocks.{index}.0.{self.last_inside}.weight" for index in itertools.count()), 4)
        first, last = shapes["blocks.0.0.conv1.weight"], shapes["output_layer.2.weight"]
        if not makes or [len(shape) for shape in (start, gains, first, last)] != [2, 2, 4, 4] or not first[1]:
            return
        embedded = table[1] if len(table) == 2 else 0
        named = (kind for kind, (mean, _) in STATISTICS.items() if f"output_layer.0.{mean}" in shapes)
        yield Numbers(
            self._z_dim(start[1], embedded),
            gains[1] - embedded if embedded else 0,
            table[0] if embedded else gains[0],
            embedded,
            math.isqrt(start[0] // first[1]),
            (first[1], *(shape[0] for shape in makes)),
            tuple(index for index in range(len(makes)) if shapes.rank(f"blocks.{index}.1.theta.weight", 4)),
            next(named, "plain"),
            last[0],
        )

    def network(self, numbers: Numbers) -> Network:
        widths, side = numbers.widths, numbers.side
        z_dim, takes, layers = self._opening(numbers)
        layers += [("linear", L.Linear(takes, widths[0] * side**2)), ("", L.Reshape((widths[0], side, side)))]
        for index, (takes, makes) in enumerate(itertools.pairwise(widths)):
            layers = called(layers, f"block{index}")
            layers += self._block(numbers, index, takes, makes)
            if index in numbers.attends:
                layers.append(attention(f"blocks.{index}.1", makes))
        layers += [_norm("output_layer.0", numbers, widths[-1], self.eps, affine=True), ("", RELU)]
        layers += [("output_layer.2", L.Conv(widths[-1], numbers.channels, 3, padding=1)), ("", TANH)]
        size = side * 2 ** sum(map(self._doubles, range(len(widths) - 1)))
        return Network(layers, Interface(z_dim, (numbers.channels, size, size), n_classes=numbers.classes))

    def _z_dim(self, takes: int, embedded: int) -> int:  # noqa: ARG002
        """The components of z that `linear` takes beside the embedding."""
        return takes

    def _opening(self, numbers: Numbers) -> tuple[int, int, NamedLayers]:
        """(components of z, what `linear` takes, the layers before it), with names for what the norms take."""
        layers: NamedLayers = []
        blocks, z_dim, chunk = len(numbers.widths) - 1, numbers.z_dim, numbers.chunk
        if numbers.embedded:
            layers.append(("shared", L.LabelEmbedding(numbers.classes, numbers.embedded, "label", as_="class")))
        for index in range(blocks if chunk else 0):
            begin = z_dim + index * chunk
            layers += [("", L.Slice(begin, begin + chunk, of="z")), ("", L.Concat(("class", "x"), as_=f"style{index}"))]
        return z_dim + blocks * chunk, z_dim, [*layers, ("", L.Slice(0, z_dim, of="z") if chunk else L.Load("z"))]

    def _inside(self, takes: int, makes: int) -> list[tuple[int, int, int]]:
        """(channels in, channels out, kernel) of the convolutions inside a block."""
        return [(takes, makes, 3), (makes, makes, 3)]

    def _doubles(self, index: int) -> bool:  # noqa: ARG002
        """Whether block `index` upsamples."""
        return True

    def _beside(self, name: str, takes: int, makes: int) -> NamedLayers:
        """What stands beside the convolutions. It comes before the upsampling instead of after it, which makes the same
        and takes a quarter of the work."""
        return [(f"{name}.conv_sc", L.Conv(takes, makes, 1))]

    def _style(self, numbers: Numbers, index: int) -> str:
        """The name of what the norms of block `index` take."""
        return f"style{index}" if numbers.chunk else "class"

    def _block(self, numbers: Numbers, index: int, takes: int, makes: int) -> NamedLayers:
        name, up = f"blocks.{index}.0", [("", L.Upsample(2))] if self._doubles(index) else []
        inside = self._inside(takes, makes)
        layers: NamedLayers = []
        for number, (given, _, _) in enumerate(inside, 1):
            layers += self._modulation(numbers, f"{name}.bn{number}", index, given, f"norm{index}_{number}")
        layers.append(("", L.Load(f"block{index}")))
        for number, (given, made, kernel) in enumerate(inside, 1):
            layers += [
                _norm(f"{name}.bn{number}", numbers, given, self.eps),
                ("", L.Modulate(f"norm{index}_{number}")),
                ("", RELU),
            ]
            layers += up if number == self.upsampled + 1 else []
            as_ = f"inside{index}" if number == len(inside) else ""
            layers.append((f"{name}.conv{number}", L.Conv(given, made, kernel, padding=kernel // 2, as_=as_)))
        layers += [("", L.Load(f"block{index}")), *self._beside(name, takes, makes), *up]
        return [*layers, ("", L.Add(f"inside{index}"))]

    def _modulation(self, numbers: Numbers, name: str, index: int, features: int, as_: str) -> NamedLayers:
        """The gains and biases of a norm, of the class's embedding or from tables, as one vector called `as_`."""
        parts = (f"{name}.gain.weight", f"{name}.bias.weight")
        if not numbers.embedded:
            takes = dict.fromkeys(parts, (numbers.classes, features))
            table = L.LabelEmbedding(numbers.classes, 2 * features, "label", as_=as_)
            return [(Folded(takes, lambda held: {"weight": torch.cat((1 + held[parts[0]], held[parts[1]]), 1)}), table)]
        style = numbers.embedded + numbers.chunk

        def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
            gain, bias = (held[part] for part in parts)
            return {"weight": torch.cat((gain, bias)), "bias": torch.cat((torch.ones(features), torch.zeros(features)))}

        linear = L.Linear(style, 2 * features, as_=as_)
        return [
            ("", L.Load(self._style(numbers, index))),
            (Folded(dict.fromkeys(parts, (features, style)), make), linear),
        ]

    def sample(self, random: Random) -> Numbers:
        widths = tuple(random.randint(1, 9) for _ in range(random.randint(2, 4)))
        embedded = random.choice((0, random.randint(1, 6)))
        chunk = random.randint(1, 4) if embedded and random.random() < 0.6 else 0
        return _sample(random, chunk or random.randint(1, 9), chunk, embedded, widths)


class BigGanDeep(BigGan):
    """Blocks of 1x1, 3x3, 3x3 and 1x1 convolutions, every other upsampled; beside them channels are dropped."""

    name = "biggan-deep"
    last_inside = "conv4"
    upsampled = 1

    def _z_dim(self, takes: int, embedded: int) -> int:
        return takes - embedded

    def _opening(self, numbers: Numbers) -> tuple[int, int, NamedLayers]:
        embedding = L.LabelEmbedding(numbers.classes, max(numbers.embedded, 1), "label")
        layers: NamedLayers = [("shared", embedding), ("", L.Concat(("x", "z"), as_="style"))]
        return numbers.chunk, numbers.embedded + numbers.z_dim, layers

    def _inside(self, takes: int, makes: int) -> list[tuple[int, int, int]]:
        hidden = max(takes // 4, 1)
        return [(takes, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, makes, 1)]

    def _doubles(self, index: int) -> bool:
        return index % 2 == 1

    def _beside(self, name: str, takes: int, makes: int) -> NamedLayers:  # noqa: ARG002
        return [("", L.Slice(0, makes))] if makes != takes else []

    def _style(self, numbers: Numbers, index: int) -> str:  # noqa: ARG002
        return "style"

    def sample(self, random: Random) -> Numbers:
        widths = [random.randint(4, 20)]
        for _ in range(random.randint(1, 3)):
            widths += [widths[-1], random.randint(4, widths[-1])]
        z_dim = random.randint(1, 6)
        return _sample(random, z_dim, z_dim, random.randint(1, 6), tuple(widths))


Source = tuple[str, L.Shape, Callable[[Tensor], Tensor]]
"""(a tensor's name in a file, its shape there, what it is in the layer)."""

_BLOCK = re.compile(r"blocks\.(\d+)\.([01])\.(.+)")
_THEIRS = {
    "theta": "snconv1x1_theta", "phi": "snconv1x1_phi", "g": "snconv1x1_g", "o": "snconv1x1_o_conv",
    "gain": "scale", "bias": "offset", "stored_mean": "running_means", "stored_var": "running_vars",
}  # fmt: skip


class HuggingFaceBigGan(BigGanDeep):
    """`generator.layers` has blocks and attention in one list. What one layer of it has, `gen_z` and the end apart, is
    BigGAN-deep's; of its sets of statistics the last is taken, that for latents that nothing truncates."""

    name = "biggan-deep-huggingface"
    source = "huggingface/pytorch-pretrained-BigGAN"
    eps = 1e-4

    def numbers(self, shapes: Shapes) -> Iterator[Numbers]:
        start, table = shapes["generator.gen_z.weight"], shapes["embeddings.weight"]
        first, sets = shapes["generator.layers.0.conv_0.weight"], shapes["generator.bn.running_means"]
        if [len(shape) for shape in (start, table, first, sets)] != [2, 2, 4, 2] or not first[1]:
            return
        widths, attends = [first[1]], []
        for place in range(DEEPEST):
            name = f"generator.layers.{place}"
            if shapes.rank(f"{name}.conv_3.weight", 4):
                widths.append(shapes[f"{name}.conv_3.weight"][0])
            elif shapes.rank(f"{name}.gamma", 1):
                attends.append(len(widths) - 2)
            else:
                break
        side, z_dim = math.isqrt(start[0] // first[1]), start[1] - table[0]
        yield Numbers(z_dim, z_dim, table[1], table[0], side, tuple(widths), tuple(attends), sets=sets[0])

    def network(self, numbers: Numbers) -> Network:
        made = super().network(numbers)
        layers = [(_from(where, layer, partial(self._source, numbers)), layer) for where, layer in made.layers]
        note = f"of its {numbers.sets} sets of statistics, for truncations up to 1, the last is taken"
        return replace(made, layers=layers, notes=(note,))

    def _opening(self, numbers: Numbers) -> tuple[int, int, NamedLayers]:
        z_dim, takes, layers = super()._opening(numbers)
        return z_dim, takes, [*layers[:-1], ("", L.Concat(("z", "x"), as_="style"))]

    def _source(self, numbers: Numbers, name: str, shape: L.Shape) -> Source:
        """Where a tensor of BigGAN-deep stands in this file."""
        if name == "shared.weight":
            return "embeddings.weight", shape[::-1], Tensor.t
        if name.startswith("linear."):  # its channels come last
            side = numbers.side
            return (
                name.replace("linear", "generator.gen_z"),
                shape,
                lambda held: held.unflatten(0, (side, side, -1)).movedim(2, 0).flatten(0, 2),
            )
        if name.startswith("output_layer.2"):  # it makes more channels than an image has
            makes = numbers.widths[-1], *shape[1:]
            return name.replace("output_layer.2", "generator.conv_to_rgb"), makes, lambda held: held[: shape[0]]
        if found := _BLOCK.fullmatch(name):
            index, attention = int(found[1]), found[2] == "1"
            place = index + attention + sum(after < index for after in numbers.attends)
            theirs = f"generator.layers.{place}.{_in_block(found[3])}"
        else:
            ends = _THEIRS | {"gain": "weight", "bias": "bias"}
            theirs = f"generator.bn.{ends[name.removeprefix('output_layer.0.')]}"
        if theirs.endswith(("running_means", "running_vars")):
            return theirs, (numbers.sets, *shape), lambda held: held[-1]
        return (theirs, (1,), lambda held: held[0]) if theirs.endswith("gamma") else (theirs, shape, lambda held: held)

    def sample(self, random: Random) -> Numbers:
        return super().sample(random)._replace(statistics="plain", sets=random.randint(1, 4))


def _in_block(name: str) -> str:
    """What the part of a block that BigGAN-deep calls `name` is called: bn1.gain.weight → bn_0.scale.weight."""
    owner, _, rest = name.partition(".")
    if owner.startswith("bn"):
        part, *more = rest.split(".")
        rest = ".".join((_THEIRS[part], *more))
    if owner[-1].isdecimal():
        return f"{owner[:-1]}_{int(owner[-1]) - 1}.{rest}"
    return f"{_THEIRS[owner]}.{rest}" if rest else owner


def _from(where: str | Folded, layer: L.Layer, source: Callable[[str, L.Shape], Source]) -> str | Folded:
    """`where`, of a file that has each tensor where `source` says."""
    if where == "":
        return where
    if isinstance(where, str):
        own = {f"{where}.{name}": shape for name, shape in layer.tensors().items()}
        name = where
        where = Folded(own, lambda held: {key.removeprefix(f"{name}."): held[key] for key in own})
    made, sources = where.make, {key: source(key, shape) for key, shape in where.takes.items()}

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return made({key: form(held[theirs]) for key, (theirs, _, form) in sources.items()})

    return Folded({theirs: shape for theirs, shape, _ in sources.values()}, make)


def _sample(random: Random, z_dim: int, chunk: int, embedded: int, widths: tuple[int, ...]) -> Numbers:
    attends = tuple(index for index in range(len(widths) - 1) if random.random() < 0.3)
    statistics = random.choice(sorted(STATISTICS))
    return Numbers(z_dim, chunk, random.randint(2, 5), embedded, 2 * random.randint(1, 2), widths, attends, statistics)


def _norm(name: str, numbers: Numbers, features: int, eps: float, *, affine: bool = False) -> tuple[Folded, L.Layer]:
    layer = L.BatchNorm(features, eps=eps, affine=affine)
    statistics = dict(zip(("running_mean", "running_var"), STATISTICS[numbers.statistics], strict=True))
    names = statistics | ({"weight": "gain", "bias": "bias"} if affine else {})
    takes: dict[str, L.Shape] = {f"{name}.{theirs}": (features,) for theirs in names.values()}
    if numbers.statistics == "standing":
        takes[f"{name}.{COUNTER}"] = (1,)

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        summed = held[f"{name}.{COUNTER}"].clamp_min(1) if numbers.statistics == "standing" else 1
        return {
            own: held[f"{name}.{theirs}"] / summed if own in statistics else held[f"{name}.{theirs}"]
            for own, theirs in names.items()
        }

    return Folded(takes, make), layer
