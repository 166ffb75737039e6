"""The residual generators of kwotsin/mimicry: SNGAN, SSGAN, InfoMax-GAN, WGAN-GP, and with classes cGAN-PD and SAGAN.

`l1`, `block2` … of two 3x3 convolutions and a 1x1 shortcut, each after a bilinear upsampling, then `b5`, `c5` (or the
next numbers). With classes, a table for each norm of a block has its gains and offsets. SAGAN has `attn_block`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import RELU, TANH, Family, Folded, NamedLayers, Network, Shapes, called


class Residual(NamedTuple):
    """`widths` are the channels that the first block takes and each block makes, `hidden` those inside each block."""

    z_dim: int
    side: int
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    channels: int
    classes: int = 0
    attention: bool = False


ATTENDS_AFTER = {3: 1, 5: 2}
"""Number of blocks → the index of the block that the attention follows."""


def attention(name: str, channels: int) -> tuple[Folded, L.Layer]:
    """The attention block of SAGAN and BigGAN: `theta`, `phi`, `g`, `o` and `gamma`."""
    layer = L.Attention(channels, max(channels // 8, 1), max(channels // 2, 1))
    parts = dict(zip(("theta", "phi", "g", "o"), layer.tensors().items(), strict=True))
    takes = {f"{name}.{part}.weight": shape for part, (_, shape) in parts.items()} | {f"{name}.gamma": ()}

    def make(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = {own: held[f"{name}.{part}.weight"] for part, (own, _) in parts.items()}
        return made | {"out.weight": held[f"{name}.gamma"] * made["out.weight"]}

    return Folded(takes, make), layer


class Mimicry(Family[Residual]):
    name = "mimicry"
    source = "kwotsin/mimicry"

    def numbers(self, shapes: Shapes) -> Iterator[Residual]:
        start = shapes["l1.weight"]
        blocks = shapes.row((f"block{number}.c1.weight" for number in itertools.count(2)), 4)
        last = shapes[f"c{len(blocks) + 2}.weight"]
        if len(start) != 2 or not blocks or len(last) != 4 or not blocks[0][1]:
            return
        yield Residual(
            start[1],
            math.isqrt(start[0] // blocks[0][1]),
            (*(block[1] for block in blocks), last[1]),
            tuple(block[0] for block in blocks),
            last[0],
            shapes["block2.b1.embed.weight"][0] if shapes.rank("block2.b1.embed.weight", 2) else 0,
            shapes.rank("attn_block.theta.weight", 4) and len(blocks) in ATTENDS_AFTER,
        )

    def network(self, numbers: Residual) -> Network:
        widths, first = numbers.widths, numbers.widths[0]
        layers: NamedLayers = []
        pairs = list(itertools.pairwise(widths))
        if numbers.classes:
            for number, ((takes, _), hidden) in enumerate(zip(pairs, numbers.hidden, strict=True), 2):
                for which, features in (("b1", takes), ("b2", hidden)):
                    table = L.LabelEmbedding(numbers.classes, 2 * features, "label", as_=f"block{number}_{which}")
                    layers.append((f"block{number}.{which}.embed", table))
            layers.append(("", L.Load("z")))
        layers.append(("l1", L.Linear(numbers.z_dim, first * numbers.side**2)))
        layers.append(("", L.Reshape((first, numbers.side, numbers.side), as_="block1")))
        for index, ((takes, makes), hidden) in enumerate(zip(pairs, numbers.hidden, strict=True)):
            layers += self._block(f"block{index + 2}", f"block{index + 1}", takes, hidden, makes, numbers.classes)
            if numbers.attention and index == ATTENDS_AFTER[len(pairs)]:
                layers.append(attention("attn_block", makes))
            layers = called(layers, f"block{index + 2}")
        number = len(pairs) + 2
        layers += [(f"b{number}", L.BatchNorm(widths[-1])), ("", RELU)]
        layers += [(f"c{number}", L.Conv(widths[-1], numbers.channels, 3, padding=1)), ("", TANH)]
        size = numbers.side * 2 ** len(pairs)
        return Network(layers, Interface(numbers.z_dim, (numbers.channels, size, size), n_classes=numbers.classes))

    def _block(self, name: str, before: str, takes: int, hidden: int, makes: int, classes: int) -> NamedLayers:
        """A residual block. The 1x1 convolution of its shortcut comes before the upsampling instead of after it, which
        makes the same and takes a quarter of the work."""

        def norm(which: str, features: int) -> NamedLayers:
            if not classes:
                return [(f"{name}.{which}", L.BatchNorm(features)), ("", RELU)]
            bare = L.BatchNorm(features, affine=False)
            return [(f"{name}.{which}.bn", bare), ("", L.Modulate(f"{name}_{which}")), ("", RELU)]

        up = ("", L.Upsample(2, "bilinear"))
        return [
            *norm("b1", takes),
            up,
            (f"{name}.c1", L.Conv(takes, hidden, 3, padding=1)),
            *norm("b2", hidden),
            (f"{name}.c2", L.Conv(hidden, makes, 3, padding=1, as_=f"{name}_inside")),
            ("", L.Load(before)),
            (f"{name}.c_sc", L.Conv(takes, makes, 1)),
            up,
            ("", L.Add(f"{name}_inside")),
        ]

    def sample(self, random: Random) -> Residual:
        blocks = random.choice((3, 4, 5))
        widths = tuple(random.randint(1, 9) for _ in range(blocks + 1))
        hidden = tuple(random.randint(1, 9) for _ in range(blocks))
        attends = blocks in ATTENDS_AFTER and random.random() < 0.5
        return Residual(random.randint(1, 20), random.randint(1, 4), widths, hidden, 3, random.choice((0, 5)), attends)
