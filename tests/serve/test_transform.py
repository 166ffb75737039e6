"""`Transform` gives the network what it takes, and its tiles fit together, whatever the network: here one of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.golden import example_images
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_serve.runtime import Given
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.transform import Transform


class Farthest(Generator):
    """Each pixel is the sum of those `halo` away above, below, left and right (0 outside), enlarged by `scale`."""

    provider = "cpu"

    def __init__(self, **taken: Any) -> None:
        self.taken = ImageInput(**taken)
        side = 16 * self.taken.scale
        self.contract = Contract(Interface(0, (3, side, side), value_range=(0.0, 1.0), input=self.taken))
        self.given: list[U8] = []

    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        raise NotImplementedError

    def run_pixels(self, z: Given, label: I64 | None = None) -> U8:  # noqa: ARG002
        pixels = z.astype(np.uint8)
        assert self.taken.takes(*pixels.shape[1:3])
        self.given.append(pixels[0])
        halo, scale = self.taken.halo or 0, self.taken.scale
        wide = np.pad(pixels[0], ((halo, halo), (halo, halo), (0, 0)))
        h, w = pixels.shape[1:3]
        corners = ((0, halo), (2 * halo, halo), (halo, 0), (halo, 2 * halo))
        summed = np.sum([wide[y : y + h, x : x + w] for y, x in corners], axis=0, dtype=np.uint8)
        return summed.repeat(scale, 0).repeat(scale, 1)[None]


def made(generator: Generator, image: Image.Image, **settings: Any) -> U8:
    return np.asarray(Transform(generator, image, **settings).image())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize(("multiple_of", "halo", "scale"), [(1, 1, 1), (1, 4, 2), (4, 3, 1), (4, 6, 3), (8, 0, 1)])
def test_tiles_fit_together(mode: str, multiple_of: int, halo: int, scale: int) -> None:
    generator = Farthest(multiple_of=multiple_of, minimum=multiple_of, halo=halo, scale=scale)
    image = Image.fromarray(example_images([0], 37, 51, 4)[0]).convert(mode)
    whole = made(generator, image)
    assert whole.shape[:2] == (37 * scale, 51 * scale)
    for tile in (5, 8, 36):
        np.testing.assert_array_equal(made(generator, image, tile=tile), whole)
    if halo:
        assert (made(generator, image, tile=8, halo=0) != whole).any()


def test_what_is_missing_to_the_right_and_below_is_mirrored() -> None:
    generator = Farthest(multiple_of=4, halo=0)
    photo = example_images([0], 6, 5, 3)[0]
    assert made(generator, Image.fromarray(photo)).shape == photo.shape
    np.testing.assert_array_equal(generator.given[0], photo[[0, 1, 2, 3, 4, 5, 5, 4]][:, [0, 1, 2, 3, 4, 4, 3, 2]])
