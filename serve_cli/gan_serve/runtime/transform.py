"""Images made of images, by a generator that takes them: in any mode, of any size, whole or in tiles.

A tile is computed with a margin around it, the halo, and only its middle is kept. As no output pixel depends on more
(`gan_core.image_input.ImageInput.halo`), tiles make the image that the whole makes, without seams. A narrower halo is
faster, and may show them.

Sizes that the network does not take are made larger at the right and at the bottom, by mirroring, and the result is
cut to what belongs to the image. A network of one size takes others only resized, and only if that is asked for.
Opacity is kept beside the network, enlarged as the image is.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.image_input import CHANNELS_IN_WORDS, ImageInput
from gan_core.pictures import MAX_PIXELS, BrokenImageError, quiet_pillow, read_image, to_channels

if TYPE_CHECKING:
    from gan_serve.runtime.generator import Generator

_log = logging.getLogger(__name__)

Picture = str | os.PathLike[str] | Image.Image | npt.NDArray[Any]
"""A file, a Pillow image, or pixels uint8 (H, W) or (H, W, C)."""
MAX_TILE = 1 << 14
_MARGIN = 4
"""Rows that Pillow's bicubic filter looks at on each side, at most, and some."""


class Transform:
    """One image on its way through `generator`: its result comes in `bands`, from the top to the bottom.

    tile    computes at most so many pixels a side at a time, without the halo; None: the whole image
    halo    pixels around a tile, None: the network's
    resize  whether to resize to the size of a network that takes one only

    size    (width, height) of the result, which has `channels`
    parts   how many runs of the generator it takes
    notes   what was done to the image, one sentence each
    Raises `GanportError` for what is no image or has no pixels, and for settings that the generator does not allow.
    """

    def __init__(
        self,
        generator: Generator,
        picture: Picture,
        *,
        tile: int | None = None,
        halo: int | None = None,
        resize: bool = False,
    ) -> None:
        interface = generator.contract.interface
        self._generator, self._taken = generator, taken_by(generator, tile, halo, resize)
        self.notes: list[str] = []
        image = _opened(picture)
        if (frames := getattr(image, "n_frames", 1)) > 1:
            self.notes.append(f"it is animated: the first of {frames} frames is taken")
        height, width = interface.input_shape[1:]
        if self._taken.fixed and image.size != (width, height):
            if not resize:
                raise GanportError(
                    f"the image has {image.width}x{image.height} pixels, the network takes {width}x{height} only",
                    hint="`resize=True` resizes it",
                )
            image = _with_plain_colours(image).resize((width, height), Image.Resampling.BICUBIC)
        pixels_HWC, self._alpha = _split(image, self._taken.channels)
        rows, columns = pixels_HWC.shape[:2]
        self.size = (columns * self._taken.scale, rows * self._taken.scale)
        self.channels = interface.channels if self._alpha is None else 4
        more = ((0, self._side(rows) - rows), (0, self._side(columns) - columns), (0, 0))
        if any(after for _, after in more):
            larger = width_x_height(self._side(columns), self._side(rows))
            self.notes.append(f"{width_x_height(columns, rows)} is mirrored to {larger} for the network, and cut again")
            pixels_HWC = np.pad(pixels_HWC, more, "symmetric")
        self._pixels = pixels_HWC
        steps = self._taken.multiple_of
        self._tile = max(self._pixels.shape[:2]) if tile is None else self._taken.next_side(tile)
        wanted = self._taken.halo if halo is None else halo
        self._halo = -(-(wanted or 0) // steps) * steps
        self.parts = math.prod(-(-side // self._tile) for side in (rows, columns))

    def _side(self, side: int) -> int:
        return side if self._taken.fixed else self._taken.next_side(side)

    def bands(self, count: Any = None) -> Iterator[U8]:
        """The result's rows, uint8 (rows, width, channels), a row of tiles at a time. `count` is called after each run.

        Raises as `Generator.run`.
        """
        scale, (width, height) = self._taken.scale, self.size
        for top in range(0, height // scale, self._tile):
            pieces = []
            for left in range(0, width // scale, self._tile):
                pieces.append(self._tile_at(top, left))
                if count is not None:
                    count()
            band = np.concatenate(pieces, axis=1)[: height - top * scale, :width]
            yield self._with_alpha(band, top * scale)

    def _tile_at(self, top: int, left: int) -> U8:
        """The result's pixels of the tile whose corner is there."""
        rows, columns = (self._window(at, side) for at, side in zip((top, left), self._pixels.shape, strict=False))
        given = np.ascontiguousarray(self._pixels[slice(*rows), slice(*columns)])
        made_HWC: U8 = self._generator.run_pixels(given[None])[0]
        scale = self._taken.scale
        y, x, size = (top - rows[0]) * scale, (left - columns[0]) * scale, self._tile * scale
        return made_HWC[y : y + size, x : x + size]

    def _window(self, at: int, side: int) -> tuple[int, int]:
        """From where to where a tile that begins at `at` looks, along a side."""
        stop = min(side, at + self._tile + self._halo)
        start = max(0, min(at - self._halo, stop - self._side(1)))
        return start, stop

    def _with_alpha(self, band_HWC: U8, top: int) -> U8:
        if self._alpha is None:
            return band_HWC
        rows, scale = len(band_HWC), self._taken.scale
        alpha = self._alpha
        if scale > 1:
            first = max(0, top // scale - _MARGIN)
            last = min(alpha.height, -(-(top + rows) // scale) + _MARGIN)
            part = alpha.crop((0, first, alpha.width, last))
            part = part.resize((self.size[0], (last - first) * scale), Image.Resampling.BICUBIC)
            alpha, top = part, top - first * scale
        opacity = np.asarray(alpha)[top : top + rows, :, None]
        return np.concatenate([np.broadcast_to(band_HWC, (*band_HWC.shape[:2], 3)), opacity], axis=2)

    def image(self) -> Image.Image:
        """The whole result as a Pillow image of mode L, RGB or RGBA."""
        from gan_core.images import to_pil

        return to_pil(np.concatenate(list(self.bands())))


def taken_by(generator: Generator, tile: int | None, halo: int | None, resize: bool) -> ImageInput:
    """What `generator` takes. Raises `GanportError` where it is no image, and for settings that it does not allow."""
    interface = generator.contract.interface
    taken = interface.input
    if taken is None:
        raise GanportError(
            "this generator makes images of seeds, not of images", hint="gan-gen FILE 25 makes 25 images"
        )
    if resize and not taken.fixed:
        raise GanportError(f"this generator takes {interface.taken}, so nothing is resized", hint="leave `resize` out")
    if halo is not None and tile is None:
        raise GanportError("`halo` is for tiles", hint="give `tile`, too: 256")
    for name, value, least in (("tile", tile, 1), ("halo", halo, 0)):
        if value is not None and not least <= value <= MAX_TILE:
            raise GanportError(f"`{name}` must be {least} … {MAX_TILE}, got {value}", hint="in pixels of the input")
    if tile is not None and taken.fixed:
        raise GanportError(f"this generator takes {interface.taken} only, so nothing is tiled", hint="leave `tile` out")
    if tile is not None and taken.halo is None:
        raise GanportError(
            "each pixel of this generator depends on the whole image, so tiles would not fit together",
            hint="leave `tile` out",
        )
    return taken


def width_x_height(width: int, height: int) -> str:
    return f"{width}x{height}"


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        image = picture
    elif isinstance(picture, np.ndarray):
        image = _of_array(picture)
    else:
        try:
            with quiet_pillow():
                return read_image(cast("str", picture))
        except BrokenImageError as error:
            raise GanportError(f"{os.fspath(picture)!s} cannot be used: {error}", hint="give a picture file") from error
    if not image.width or not image.height or image.width * image.height > MAX_PIXELS:
        raise GanportError(
            f"the image has {image.width}x{image.height} pixels, expected 1 … {MAX_PIXELS:,}", hint="cut it in parts"
        )
    return image


def _of_array(array: npt.NDArray[Any]) -> Image.Image:
    squeezed = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    fits = squeezed.ndim == 2 or (squeezed.ndim == 3 and squeezed.shape[2] in CHANNELS_IN_WORDS)
    if array.dtype != np.uint8 or not fits or not array.size:
        raise GanportError(
            f"an image must be uint8 (H, W) or (H, W, 1, 3 or 4), got {array.dtype} {array.shape}",
            hint="scale its values to 0 … 255",
        )
    return Image.fromarray(np.ascontiguousarray(squeezed))


def _with_plain_colours(image: Image.Image) -> Image.Image:
    """In a mode that Pillow resizes well: RGBA where anything is transparent, else RGB or L."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    return to_channels(image, 1 if image.mode.startswith(("I", "L", "1")) else 3)


def _split(image: Image.Image, channels: int) -> tuple[U8, Image.Image | None]:
    """The pixels (H, W, channels) that the network takes, and the opacity that it does not."""
    if channels == 4:
        return np.asarray(_with_plain_colours(image).convert("RGBA")), None
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha, image = rgba.getchannel("A"), rgba.convert("RGB")
    pixels = np.asarray(to_channels(image, channels))
    return pixels.reshape(*pixels.shape[:2], channels), alpha
