"""U-shaped networks that take an image of one size, go down to one pixel, and make another image of that size.

pix2pix-unet      junyanz/pytorch-CycleGAN-and-pix2pix, as nested Sequentials; its norms are as in `image_to_image`
pytorch-gan-unet  eriklindernoren/PyTorch-GAN pix2pix and discogan, a module for each level
aladdin-unet      aladdinpersson's tutorial on pix2pix, likewise
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar, NamedTuple

from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import DEEPEST, LEAKY, RELU, TANH, Family, NamedLayers, Network, Shapes
from gan_export.families.image_to_image import NORMS, Norm, Norms, norm_of


class Unet(NamedTuple):
    """`widths` are the channels that each convolution down makes, from the outermost."""

    takes: int
    makes: int
    widths: tuple[int, ...]
    norm: Norm = "batch"


Names = tuple[Sequence[str], Sequence[str], str]
"""Of the convolutions that halve the image, of those that double it again, and of the last one."""


class Pix2Pix(Family[Unet]):
    """`norms` are those of the code. A level's result is joined behind what went down, before its ReLU, or `after` it
    and first. `resizes` is for an upsampling and a convolution at the end, `deepest` follows the innermost one."""

    name = "pix2pix-unet"
    source = "junyanz/pytorch-CycleGAN-and-pix2pix unet"
    norms: ClassVar[tuple[Norm, ...]] = NORMS
    after: ClassVar[bool] = False
    resizes: ClassVar[bool] = False
    deepest: ClassVar[L.Activation] = RELU
    ends_differ: ClassVar[bool] = False
    """Whether the outer and innermost convolutions have biases always, and those before the latter reflect borders."""

    def names(self, depth: int) -> Names:
        """Each Sequential but the first has the next inner one at 3, the first at 1."""
        places = ["model.model", *(f"model.model.1.model{'.3.model' * level}" for level in range(depth - 1))]
        ups = [f"{place}.{5 if inside else 3}" for inside, place in enumerate(reversed(places[1:]))]
        return [f"{place}.{min(level, 1)}" for level, place in enumerate(places)], ups, "model.model.3"

    def numbers(self, shapes: Shapes) -> Iterator[Unet]:
        depth = len(shapes.row((f"{name}.weight" for name in self.names(DEEPEST)[0]), 4)) + self.ends_differ
        downs, ups, end = self.names(depth)
        widths, last = shapes.row((f"{name}.weight" for name in downs), 4), shapes[f"{end}.weight"]
        if depth > 1 and len(widths) == depth and len(last) == 4:
            kind = norm_of(shapes, ups[-1])
            kind = "unbiased" if kind == "none" and kind not in self.norms else kind
            yield Unet(widths[0][1], last[0 if self.resizes else 1], tuple(shape[0] for shape in widths), kind)

    def network(self, numbers: Unet) -> Network:
        takes, makes, widths, kind = numbers
        normed, inner = Norms(kind), len(widths) - 1
        downs, ups, end = self.names(len(widths))
        layers: NamedLayers = []
        for level, (name, width) in enumerate(zip(downs, widths, strict=True)):
            mode: L.PaddingMode = "reflect" if self.ends_differ and level < inner else "zeros"
            conv = L.Conv(takes, width, 4, stride=2, padding=1, padding_mode=mode)
            bare = [(name, replace(conv, bias=normed.biased or self.ends_differ))]
            layers += normed(name, conv) if 0 < level < inner else bare
            layers.append(("", replace(LEAKY if level < inner else self.deepest, as_=f"d{level}")))
            takes = width
        for level, name in zip(reversed(range(inner)), ups, strict=True):
            layers += normed(name, L.ConvTranspose(takes, widths[level], 4, stride=2, padding=1))
            joined = L.Concat(("x", f"d{level}") if self.after else (f"d{level}", "x"))
            layers += [("", RELU), ("", joined)] if self.after else [("", joined), ("", RELU)]
            takes = 2 * widths[level]
        if self.resizes:
            layers += [("", L.Upsample(2)), ("", L.Pad((1, 0, 1, 0))), (end, L.Conv(takes, makes, 4, padding=1))]
        else:
            layers.append((end, L.ConvTranspose(takes, makes, 4, stride=2, padding=1)))
        side, taken = 2 ** len(widths), ImageInput(numbers.takes, (-1.0, 1.0), fixed=True)
        return normed.network([*layers, ("", TANH)], Interface(0, (makes, side, side), input=taken))

    def sample(self, random: Random) -> Unet:
        widths = tuple(random.randint(1, 6) for _ in range(random.randint(3, 6)))
        return Unet(random.choice(IMAGE_CHANNELS), random.choice(IMAGE_CHANNELS), widths, random.choice(self.norms))


class PytorchGanUnet(Pix2Pix):
    name = "pytorch-gan-unet"
    source = "eriklindernoren/PyTorch-GAN pix2pix, discogan"
    norms, after, resizes, deepest = ("instance", "unbiased"), True, True, LEAKY

    def names(self, depth: int) -> Names:
        downs, ups = ([f"{way}{1 + level}.model.0" for level in range(depth)] for way in ("down", "up"))
        return downs, ups[: depth - 1], "final.2"


class AladdinUnet(Pix2Pix):
    """Its BatchNorms use their running statistics, as the code does where it saves examples."""

    name = "aladdin-unet"
    source = "aladdinpersson/Machine-Learning-Collection Pix2Pix"
    norms, after, ends_differ = ("batch",), True, True

    def names(self, depth: int) -> Names:
        downs, ups = ([f"{way}{1 + level}.conv.0" for level in range(depth - 1)] for way in ("down", "up"))
        return ["initial_down.0", *downs[:-1], "bottleneck.0"], ups, "final_up.0"

    def network(self, numbers: Unet) -> Network:
        return replace(super().network(numbers), norms="")
