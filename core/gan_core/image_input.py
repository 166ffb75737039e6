"""The image that a generator takes in the place of a latent: what sizes, and what the output's size follows from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gan_core.fields import Number, Padding, Range, Side, SpecError, check_fields, check_range

CHANNELS_IN_WORDS = {1: "grey", 3: "RGB", 4: "RGBA"}
IMAGE_CHANNELS = tuple(CHANNELS_IN_WORDS)
"""Channels that a picture can have; the fourth is opacity."""

Scale = Annotated[int, Range(1, 64)]


@dataclass(frozen=True)
class ImageInput:
    """The image that a generator takes, and how the image that it makes depends on its size.

    channels     1, 3 or 4
    value_range  the input values of (black, white)
    scale        the output is so many times as high and as wide
    multiple_of  both sides are multiples of it
    minimum      the least side, in pixels
    fixed        whether it takes one size only
    halo         an output pixel depends on input pixels at most so far away, horizontally and vertically, so that an
                 image can be computed in tiles; None where it depends on all of them

    Raises `SpecError` on construction for a field of another type or out of its range.
    """

    channels: Side = 3
    value_range: tuple[Number, Number] = (0.0, 1.0)
    scale: Scale = 1
    multiple_of: Side = 1
    minimum: Side = 1
    fixed: bool = False
    halo: Padding | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self.value_range)
        if self.channels not in IMAGE_CHANNELS:
            raise SpecError(f"the input has {self.channels} channels, expected 1, 3 or 4", hint="correct channels")

    def takes(self, height: int, width: int) -> bool:
        """Whether the network takes images of that size, where it takes more than one."""
        return min(height, width) >= self.minimum and height % self.multiple_of == width % self.multiple_of == 0

    def next_side(self, side: int) -> int:
        """The least side that the network takes, of those that are not below `side`."""
        return -(-max(side, self.minimum) // self.multiple_of) * self.multiple_of

    def words(self, height: int, width: int) -> str:
        """ "RGB images of any size", "grey images of multiples of 4 pixels from 16"; of one size `height` x `width`."""
        colours = CHANNELS_IN_WORDS[self.channels]
        if self.fixed:
            return f"{colours} images of {width}x{height}"
        sides = f" of multiples of {self.multiple_of} pixels" if self.multiple_of > 1 else " of any size"
        return f"{colours} images{sides}{f' from {self.minimum}' if self.minimum > 1 else ''}"
