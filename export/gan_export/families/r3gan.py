"""The generator of brownvc/R3GAN: stages of residual blocks of 1x1, grouped 3x3 and 1x1 convolutions, no norms.

Its pickle of whole modules says in which precision each stage ran; ganport runs all in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import IDENTITY, LEAKY, Family, Folded, NamedLayers, Network, Shapes, called

BASIS = "MainLayers.0.Layers.0.Basis"
HALF = ("torch.bfloat16", "torch.float16")


class Stage(NamedTuple):
    """The channels of a stage and those inside its blocks, the groups of the middle convolution, how many blocks."""

    width: int
    inside: int
    groups: int
    blocks: int


class Numbers(NamedTuple):
    """`prefix` stands before all keys; `embedded` are the numbers that a class of `classes` has beside z; `taps` of the
    filter that upsamples, `half` the stages that the author's code runs in half precision."""

    prefix: str
    z_dim: int
    classes: int
    embedded: int
    stages: tuple[Stage, ...]
    kernel: int
    taps: int
    channels: int
    half: int = 0


class R3Gan(Family[Numbers]):
    name = "r3gan"
    source = "brownvc/R3GAN"

    def numbers(self, shapes: Shapes) -> Iterator[Numbers]:
        prefix = next((key.removesuffix(BASIS) for key in shapes if key.endswith(BASIS)), None)
        if prefix is None:
            return
        stages = []
        for index in itertools.count():
            stem = f"{prefix}MainLayers.{index}.Layers."
            convs = (f"{stem}{number}.LinearLayer2.Layer.weight" for number in itertools.count(1))
            blocks, first = shapes.row(convs, 4), shapes[f"{stem}1.LinearLayer1.Layer.weight"]
            if not blocks or len(first) != 4 or not blocks[0][1]:
                break
            stages.append(Stage(first[1], first[0], first[0] // blocks[0][1], len(blocks)))
        start = shapes[f"{prefix}MainLayers.0.Layers.0.LinearLayer.weight"]
        last, table = shapes[f"{prefix}AggregationLayer.Layer.weight"], shapes[f"{prefix}EmbeddingLayer.weight"]
        if not stages or len(start) != 2 or len(last) != 4 or len(table) not in (0, 2):
            return
        embedded, classes = table or (0, 0)
        kernel = shapes[f"{prefix}MainLayers.0.Layers.1.LinearLayer2.Layer.weight"][2]
        taps = (*shapes[f"{prefix}MainLayers.1.Layers.0.Resampler.Kernel"], 4)[0]
        half = sum(info.settings.get("DataType") in HALF for info in shapes.modules.values())
        numbers = (start[1] - embedded, classes, embedded, tuple(stages), kernel, taps, last[0], half)
        yield Numbers(prefix, *numbers)

    def network(self, numbers: Numbers) -> Network:
        prefix, stages = numbers.prefix, numbers.stages
        layers: NamedLayers = []
        if numbers.classes:
            key = f"{prefix}EmbeddingLayer.weight"
            takes = {key: (numbers.embedded, numbers.classes)}
            table = Folded(takes, lambda held: {"weight": held[key].T.contiguous()})
            layers.append((table, L.LabelEmbedding(numbers.classes, numbers.embedded)))
        width = stages[0].width
        start = f"{prefix}MainLayers.0.Layers.0"
        basis = Folded({f"{start}.Basis": (width, 4, 4)}, lambda held: {"value": held[f"{start}.Basis"]})
        linear = L.Linear(numbers.z_dim + numbers.embedded, width, bias=False)
        layers += [(f"{start}.LinearLayer", linear), ("", L.Reshape((width, 1, 1), as_="weights"))]
        layers += [(basis, L.Constant((width, 4, 4))), ("", L.Multiply("weights"))]
        for index, stage in enumerate(stages):
            stem = f"{prefix}MainLayers.{index}.Layers"
            if index:
                layers += self._upsampling(f"{stem}.0", stages[index - 1].width, stage.width, numbers.taps)
            for number in range(1, stage.blocks + 1):
                layers = called(layers, f"x{index}_{number}")
                layers += self._block(f"{stem}.{number}", stage, numbers.kernel, f"x{index}_{number}")
        layers.append((f"{prefix}AggregationLayer.Layer", L.Conv(stages[-1].width, numbers.channels, 1, bias=False)))
        layers.append(("", IDENTITY))
        size = 4 * 2 ** (len(stages) - 1)
        note = (
            f"{numbers.half} of {len(stages)} stages run in half precision in the author's code, in float32 here: "
            "its own images differ from these by some levels of 255"
        )
        return Network(
            layers,
            Interface(numbers.z_dim, (numbers.channels, size, size), n_classes=numbers.classes),
            notes=(note,) if numbers.half else (),
            knows_classes=True,
        )

    def _upsampling(self, name: str, takes: int, makes: int, taps: int) -> NamedLayers:
        key = f"{name}.Resampler.Kernel"
        conv: NamedLayers = (
            [(f"{name}.LinearLayer.Layer", L.Conv(takes, makes, 1, bias=False))] if takes != makes else []
        )
        before, after = (taps + 1) // 2, (taps - 2) // 2  # as the code's upfirdn2d pads
        fir = L.Fir(taps, up=2, borders=(before, after, before, after))
        return [*conv, (Folded({key: (taps, taps)}, lambda held: {"filter": 4 * held[key]}), fir)]

    def _block(self, name: str, stage: Stage, kernel: int, before: str) -> NamedLayers:
        width, inside = stage.width, stage.inside
        middle = L.Conv(inside, inside, kernel, padding=(kernel - 1) // 2, groups=stage.groups)

        def biased(number: int, layer: L.Conv) -> tuple[Folded, L.Layer]:
            """A convolution with the bias that the activation after it adds."""
            weight, bias = f"{name}.LinearLayer{number}.Layer.weight", f"{name}.NonLinearity{number}.Bias"
            takes = {weight: layer.tensors()["weight"], bias: (inside,)}
            return Folded(takes, lambda held: {"weight": held[weight], "bias": held[bias]}), layer

        return [
            biased(1, L.Conv(width, inside, 1)),
            ("", LEAKY),
            biased(2, middle),
            ("", LEAKY),
            (f"{name}.LinearLayer3.Layer", L.Conv(inside, width, 1, bias=False)),
            ("", L.Add(before)),
        ]

    def sample(self, random: Random) -> Numbers:
        stages = []
        for _ in range(random.randint(1, 3)):
            groups = random.randint(1, 3)
            stages.append(Stage(random.randint(1, 8), groups * random.randint(1, 4), groups, random.randint(1, 2)))
        classes = random.choice((0, random.randint(2, 5)))
        embedded = random.randint(1, 4) if classes else 0
        prefix = random.choice(("", "Model."))
        return Numbers(prefix, random.randint(1, 9), classes, embedded, tuple(stages), random.choice((1, 3)), 4, 3)
