"""Finds how a foreign forward that takes an image is called: of how many channels, of what sizes, and what it makes.

All is measured by calling it: the scale, the multiple and the least of its sides, and its halo, by columns and rows of
NaN that nothing hides: how far they spread is how far an output pixel looks. A network whose sides a tracer makes
numbers of keeps the one size of the example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.golden import example_images
from gan_core.image_input import IMAGE_CHANNELS, ImageInput
from gan_core.interface import Interface
from gan_core.process import quiet
from gan_export.answers import LiveAnswers
from gan_export.live.adapter import Call, Constant, LiveGenerator, Picked, ZShape, parts, pick
from gan_export.live.probing import BATCH, SAME, UNSTEADY, Found
from gan_export.live.signature import forward_of, given_inputs
from gan_export.onnx_export import dynamic_shapes
from gan_export.source import PixelModule, Source, example_inputs

EXAMPLE, LARGE = 64, 256
"""Sides of the example: `EXAMPLE`, or where that fails the least of twice, four times … as much up to `LARGE`."""
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
MOST_REACH = 512
"""A halo beyond this is none: tiles would be mostly margin."""


@dataclass(frozen=True)
class FoundImage(Found):
    """As `Found`, of a network that takes images; `taken` without its values."""

    taken: ImageInput = field(default_factory=ImageInput)

    def examples(self, n: int) -> Tensor:
        """Example images, float32 (n, C, H, W) in [0, 1]."""
        _, height, width = self.picked.image
        return examples(n, height // self.taken.scale, width // self.taken.scale, self.taken.channels)

    def interface(self, value_range: tuple[float, float]) -> Interface:
        """With the same values for the input and the output."""
        taken = replace(self.taken, value_range=value_range)
        return Interface(0, self.picked.image, value_range=value_range, input=taken)


def examples(n: int, height: int, width: int, channels: int) -> Tensor:
    """`example_images` as float32 (n, C, H, W) in [0, 1]."""
    pixels = example_images(range(n), height, width, channels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def probe_image(
    module: nn.Module, live: LiveAnswers, constants: Sequence[Constant], image: tuple[int, int, int] | None
) -> FoundImage | None:
    """The way to call `module` with an image; None where none is found that makes images of it.

    image  (C, H, W) of what it makes, where that is said: its height is a side to try, too
    """
    forward = forward_of(module, [constant.name for constant in constants])
    inputs = (("z", None),) if live.inputs is None else given_inputs(forward, live.inputs)
    if len(forward.required) > 1 or len(inputs) != 1:
        return None
    for channels in _channels(module):
        tries = _Tries(LiveGenerator(module, Call(inputs, 0, ZShape(())), constants, noise="zero"), channels, live)
        sides = [EXAMPLE << n for n in range((LARGE // EXAMPLE).bit_length())] + ([] if image is None else [image[1]])
        for side in sides:
            picked = tries.picked(side, side)
            if picked is not None:
                return _measured(tries, picked, side)
    return None


def _channels(module: nn.Module) -> list[int]:
    """Channels to try: those of the first convolution, else all that a picture can have, RGB first."""
    first = next(
        (part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d))), None
    )
    if not isinstance(first, nn.Conv2d):
        return []
    return [first.in_channels] if first.in_channels in IMAGE_CHANNELS else sorted(IMAGE_CHANNELS, key=(3, 1, 4).index)


class _Tries:
    """Calls of one module with images of `channels`."""

    def __init__(self, adapter: LiveGenerator, channels: int, live: LiveAnswers) -> None:
        self.adapter, self.channels = adapter, channels
        self.wanted = live.output_index if live.output_index is not None else live.output_key

    def run(self, image_NCHW: Tensor) -> object:
        with torch.no_grad(), quiet():
            return self.adapter.output(image_NCHW)

    def example(self, n: int, height: int, width: int) -> Tensor:
        return examples(n, height, width, self.channels)

    def picked(self, height: int, width: int) -> Picked | None:
        """Where the one image is that is made of images of that size, a whole number of times as large; else None."""
        try:
            output = self.run(self.example(BATCH, height, width))
        except Exception:  # whatever a foreign forward raises means: not so
            return None
        found = [
            Picked(path, "NCHW", (tensor.shape[1], tensor.shape[2], tensor.shape[3]))
            for path, tensor in parts(output)
            if (self.wanted is None or (path and path[0] == self.wanted))
            and tensor.dim() == 4
            and tensor.shape[0] == BATCH
            and tensor.shape[1] in IMAGE_CHANNELS
            and tensor.shape[2] % height == tensor.shape[3] % width == 0
            and tensor.shape[2] // height == tensor.shape[3] // width > 0
            and bool(torch.isfinite(tensor).all())
        ]
        return found[0] if len(found) == 1 else None

    def takes(self, height: int, width: int, picked: Picked, scale: int) -> bool:
        """Whether it makes images `scale` times as large of images of that size."""
        made = self.picked(height, width)
        return made is not None and made.path == picked.path and made.image[1:] == (height * scale, width * scale)

    def image(self, image_NCHW: Tensor, picked: Picked) -> Tensor:
        found: Tensor = pick(self.run(image_NCHW), picked.path)
        return found.float()


def _measured(tries: _Tries, picked: Picked, side: int) -> FoundImage:
    scale = picked.image[1] // side
    multiple = next(
        (m for m in MULTIPLES if m <= side and tries.takes(side + m, side + 3 * m, picked, scale) and side % m == 0),
        None,
    )
    taken = ImageInput(tries.channels, scale=scale, fixed=multiple is None)
    if multiple is not None:
        least = next(k for k in range(multiple, side + 1, multiple) if tries.takes(k, k, picked, scale))
        taken = ImageInput(
            tries.channels, (0.0, 1.0), scale, multiple, least, halo=_halo(tries, picked, scale, multiple, least)
        )
    x = tries.example(BATCH, side, side)
    together, alone = tries.image(x, picked), tries.image(x[:1], picked)
    spread = float(together.max() - together.min())
    steady = float((together[0] - alone[0]).abs().max()) <= SAME * max(spread, 1e-12)
    return FoundImage(tries.adapter.call, picked, () if steady else (UNSTEADY,), taken=taken)


def _halo(tries: _Tries, picked: Picked, scale: int, multiple: int, least: int) -> int | None:
    """How far an output pixel looks, in pixels of the input; None where it is the whole image, or too far."""
    reach, length = 0, 4 * max(least, 16)
    length -= length % multiple
    for across in (True, False):
        while True:
            found = _spread(tries, picked, scale, multiple, (least, length) if across else (length, least), across)
            if found is not None:
                break
            length *= 4
            if length > 4 * MOST_REACH:
                return None
        reach = max(reach, found)
    return reach


def _spread(
    tries: _Tries, picked: Picked, scale: int, multiple: int, size: tuple[int, int], across: bool
) -> int | None:
    """How far a band of NaN in the middle spreads in one direction; None where it comes to an edge."""
    x = tries.example(1, *size)
    middle = size[across] // 2 // multiple * multiple
    x[:, :, *((slice(None), slice(middle, middle + multiple)) if across else (slice(middle, middle + multiple),))] = (
        torch.nan
    )
    with contextlib.suppress(Exception):
        touched = tries.image(x, picked).isnan().any(dim=2 if across else 3)[0].any(dim=0).nonzero()
        if len(touched) and touched[0] > 0 and touched[-1] < scale * size[across] - 1:
            before = middle + multiple - 1 - int(touched[0]) // scale
            return max(before, int(touched[-1]) // scale - middle, 0)
    return None


def traced_size(source: Source) -> bool:
    """Whether a tracer follows the network for images of any size."""
    module, given = PixelModule(source.module, source.interface), example_inputs(source)
    with contextlib.suppress(Exception), torch.no_grad(), quiet():
        torch.export.export(module, given, dynamic_shapes=dynamic_shapes(given, source.interface), strict=False)
        return True
    return False
