"""Rounding, grids and PNG."""

from __future__ import annotations

import io
import re
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from gan_core import images
from gan_core.errors import GanportError
from gan_core.grids import Canvas, _caption, auto_scale, class_caption, grid, grid_shape
from gan_core.images import encode_png, to_pixels, write_png
from gan_core.interface import Interface


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 3), (5, 7, 3), (28, 28, 1), (64, 64, 3), (3, 400_000, 3), (900, 700, 1)]
)
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("kind", ["noise", "smooth", "flat"])
def test_png_is_lossless(shape: tuple[int, int, int], level: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "noise":
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    elif kind == "smooth":
        pixels = (
            np.add.outer(np.arange(shape[0]), np.arange(shape[1]))[..., None] * np.arange(1, shape[2] + 1)
        ).astype(np.uint8)
    else:
        pixels = np.full(shape, 255, np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels, compress_level=level))) as picture:
        picture.verify()
    with Image.open(io.BytesIO(encode_png(pixels, compress_level=level))) as picture:
        assert picture.mode == ("L" if shape[2] == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(picture).reshape(shape), pixels)


def test_png_carries_text() -> None:
    data = encode_png(np.zeros((2, 2, 3), np.uint8), {"Software": "ganport", "gan.class": "3 Größe", "gan.name": "猫"})
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.text == {"Software": "ganport", "gan.class": "3 Größe", "gan.name": "猫"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(7, 64, 64, 3), (40, 28, 28, 1), (3, 300, 200, 3), (1, 1, 1, 1), (0, 8, 8, 3)])
def test_a_batch_of_pngs_is_each_png(shape: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 5, shape, dtype=np.uint8) * 60
    chunks = [images.text_chunks({"gan.seed": str(number)}) for number in range(len(pixels))]
    expected = [encode_png(image, {"gan.seed": str(number)}) for number, image in enumerate(pixels)]
    assert images.encode_batch(pixels, chunks) == expected
    for data, image in zip(expected, pixels, strict=True):
        with Image.open(io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(np.asarray(picture).reshape(image.shape), image)


def test_a_batch_of_pngs_holds_one_compressor() -> None:
    pixels = np.zeros((64, 32, 32, 1), np.uint8)
    tracemalloc.start()
    try:
        images.encode_batch(pixels, [b""] * len(pixels))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_foretold_is_the_specifications_paeth() -> None:
    """Every order and tie of three neighbours, against the specification's own words (section 9.4)."""
    values = np.array([0, 1, 2, 100, 127, 128, 200, 254, 255], np.uint8)
    left, upper, corner = (axis.ravel() for axis in np.meshgrid(values, values, values))

    def paeth(a: int, b: int, c: int) -> int:
        p = a + b - c
        pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
        if pa <= pb and pa <= pc:
            return a
        return b if pb <= pc else c

    expected = [paeth(int(a), int(b), int(c)) for a, b, c in zip(left, upper, corner, strict=True)]
    block = np.zeros((len(left), 2, 2), np.uint8)
    block[:, 0, 0], block[:, 0, 1], block[:, 1, 0] = corner, upper, left
    assert images._foretold(block, 1)[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("keyword", ["", "k" * 80])
def test_png_keywords_have_a_length(keyword: str) -> None:
    with pytest.raises(ValueError, match="1 to 79 characters"):
        images.encode_png(np.zeros((1, 1, 1), np.uint8), {keyword: "x"})


def test_the_fast_level_is_no_larger_than_pillows() -> None:
    rows = np.linspace(0, 200, 64)
    rng = np.random.default_rng(0)
    pixels = (np.add.outer(rows, rows / 4)[..., None] + rng.normal(0, 2, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    assert len(encode_png(pixels)) <= len(buffer.getvalue())


@pytest.mark.parametrize(
    ("value", "value_range", "pixel"),
    [
        (-1.0, (-1.0, 1.0), 0),
        (1.0, (-1.0, 1.0), 255),
        (0.0, (-1.0, 1.0), 128),
        (-5.0, (-1.0, 1.0), 0),
        (7.0, (-1.0, 1.0), 255),
        (0.5, (0.0, 1.0), 128),
        (0.499 / 255, (0.0, 1.0), 0),
        (0.501 / 255, (0.0, 1.0), 1),
        (float("nan"), (-1.0, 1.0), 0),
        (float("inf"), (-1.0, 1.0), 255),
        (float("-inf"), (-1.0, 1.0), 0),
        (128.0, (0.0, 255.0), 128),
    ],
)
def test_rounding(value: float, value_range: tuple[float, float], pixel: int) -> None:
    image_NCHW = np.full((1, 3, 2, 4), value, np.float32)
    pixels = to_pixels(image_NCHW, value_range)
    assert pixels.shape == (1, 2, 4, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == pixel).all()


def test_grid_reads_from_left_to_right() -> None:
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.full((5, 2, 3, 1), 10, np.uint8)
    picture = grid(pixels, cols=3, padding=1)
    assert picture.shape == (2 * 3 + 1, 3 * 4 + 1, 1)
    assert [picture[1, 1, 0], picture[1, 5, 0], picture[1, 9, 0], picture[4, 1, 0], picture[4, 5, 0]] == [
        10,
        11,
        12,
        13,
        14,
    ]
    assert not picture[4:, 9:].any()
    assert not picture[0].any()


def test_a_canvas_is_filled_in_parts() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    canvas = Canvas(7, (3, 4, 4))
    for part in (pixels[:2], pixels[2:3], pixels[3:]):
        canvas.add(part)
    np.testing.assert_array_equal(canvas.picture_HWC, grid(pixels))


@pytest.mark.parametrize(
    ("n", "cols", "shape"),
    [
        (1, None, (1, 1)),
        (2, None, (1, 2)),
        (5, None, (2, 3)),
        (25, None, (5, 5)),
        (26, None, (5, 6)),
        (3, 8, (1, 3)),
        (7, 2, (4, 2)),
    ],
)
def test_grid_shapes(n: int, cols: int | None, shape: tuple[int, int]) -> None:
    assert grid_shape(n, 28, 28, cols) == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 28, 28), "a grid needs at least 1 image, got 0"),
        ((4, 28, 28, 0), "`cols` must be at least 1, got 0"),
        ((10**12, 64, 64), "1000000000000 images of 64x64 make a picture of"),
        ((1, 20_000, 20_000), "1 images of 20000x20000 make a picture of 400 megapixels"),
    ],
)
def test_wrong_grids(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        grid_shape(*arguments)


@pytest.mark.parametrize(
    ("n", "image", "cols", "scale"),
    [
        (25, (1, 28, 28), None, 4),  # 5 * (4 * 28 + 2) + 2 = 572
        (25, (1, 28, 28), 25, 1),
        (25, (1, 28, 28), 1, 1),
        (4, (3, 64, 64), None, 4),
        (64, (3, 64, 64), None, 1),
        (2, (3, 65, 8), None, 1),
        (1, (1, 32, 32), None, 16),
        (1, (1, 1, 1), None, 512),
    ],
)
def test_what_is_small_is_enlarged_enough(n: int, image: tuple[int, int, int], cols: int | None, scale: int) -> None:
    assert auto_scale(n, image, cols) == scale
    sides = Canvas(n, image, cols, scale=None).picture_HWC.shape[:2]
    if scale > 1:
        assert max(sides) >= 512
        assert max(Canvas(n, image, cols, scale=scale - 1).picture_HWC.shape[:2]) < 512


def test_captions_that_fit_and_that_do_not() -> None:
    def width(ways: tuple[str, ...], room: int) -> int:
        return int(_caption(ways, room, 1).any(axis=(0, 2)).sum())

    assert width(("seed 1234", "1234"), 64) > width(("1234",), 64) > 0
    assert width(("seed 1234", "1234"), 34) == width(("1234",), 34)
    assert 0 < width(("an ankle boot of leather",), 60) <= 60
    np.testing.assert_array_equal(_caption(("a" * 99,), 64, 3), _caption(("a" * 55,), 64, 3))  # both cut
    assert not _caption(("boot",), 3, 1).any()
    names = Interface(4, (1, 8, 8), n_classes=3, class_names=("Größe", "猫", ""))
    assert [class_caption(names, label) for label in range(3)] == [("Größe",), ("class 1", "1"), ("class 2", "2")]
    assert class_caption(Interface(4, (1, 8, 8), n_classes=3), 2) == ("class 2", "2")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_written_by_bands_is_the_image(channels: int) -> None:
    image = np.random.default_rng(channels).integers(0, 256, (90, 41, channels)).astype(np.uint8)
    file = io.BytesIO()
    write_png(file, (41, 90), channels, (image[at : at + 13] for at in range(0, 90, 13)), {"key": "value"})
    with Image.open(file) as read:
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
        assert read.info["key"] == "value"
