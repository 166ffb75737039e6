"""One picture → pixels: the arithmetic of the DCGAN tutorial, and every odd kind of picture."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from gan_core.arrays import U8
from gan_core.pictures import (
    MAX_PIXELS,
    BrokenImageError,
    prepare,
    quiet_pillow,
    read_image,
    read_mode,
    resize_and_crop,
    to_channels,
)
from trainer.data_files import picture, png_bytes, png_claiming, save

EMOJI = os.environ.get("GANPORT_EMOJI")


def tutorial_pixels(image: Image.Image, size: int) -> U8:
    """Resize(size), CenterCrop(size) by torchvision, then its PILToTensor."""
    transforms = pytest.importorskip("torchvision.transforms")
    steps = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    pixels: U8 = steps(image).permute(1, 2, 0).numpy()
    return pixels


@pytest.mark.parametrize("size", [28, 32, 64, 96, 128])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("width", "height"),
    [(178, 218), (218, 178), (64, 64), (8, 8), (28, 28), (33, 32), (97, 64), (64, 97), (301, 299), (7, 150), (1, 1)],
)
def test_pixels_equal_torchvisions(width: int, height: int, mode: str, size: int) -> None:
    image = picture(width, height, mode)
    found = prepare(image, size, 3 if mode == "RGB" else 1)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, tutorial_pixels(image, size))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("size", [28, 64, 96])
def test_photographs_equal_torchvisions(name: str, size: int) -> None:
    samples = pytest.importorskip("sklearn.datasets")
    image = Image.fromarray(samples.load_sample_image(name))
    np.testing.assert_array_equal(prepare(image, size, 3), tutorial_pixels(image, size))
    grey = image.convert("L")
    np.testing.assert_array_equal(prepare(image, size, 1), tutorial_pixels(grey, size))


@pytest.mark.skipif(not EMOJI, reason="GANPORT_EMOJI names no folder of emoji PNGs")
@pytest.mark.parametrize("size", [32, 64, 96])
def test_emoji_equal_torchvisions_over_white(size: int) -> None:
    for path in sorted(Path(EMOJI or "").glob("*.png"))[::50]:
        image = read_image(path)
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        expected = tutorial_pixels(Image.alpha_composite(white, rgba).convert("RGB"), size)
        np.testing.assert_array_equal(prepare(image, size, 3), expected, err_msg=path.name)


def test_the_crop_is_from_the_middle() -> None:
    stripes = np.zeros((32, 96, 3), np.uint8)
    stripes[:, 32:64] = 200
    assert (prepare(Image.fromarray(stripes), 32, 3) == 200).all()


@pytest.mark.parametrize(
    ("mode", "channels", "expected"),
    [("RGBA", 3, (255, 128, 128)), ("RGBA", 1, (166,)), ("LA", 3, (128, 128, 128)), ("LA", 1, (128,))],
)
def test_transparency_becomes_white(mode: str, channels: int, expected: tuple[int, ...]) -> None:
    half = (255, 0, 0, 127) if mode == "RGBA" else (0, 127)
    found = prepare(Image.new(mode, (32, 32), half), 32, channels)
    assert np.abs(found[5, 5].astype(int) - expected).max() <= 1


def test_fully_transparent_is_white_whatever_colour_hides_in_it() -> None:
    assert (prepare(Image.new("RGBA", (28, 28), (9, 80, 7, 0)), 28, 3) == 255).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (28, 28), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((3, 4), 1)
    path = tmp_path / "a.png"
    image.save(path, transparency=0)
    found = prepare(read_image(path), 28, 3)
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert tuple(found[4, 3]) == (40, 50, 60)


def test_a_transparent_key_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (28, 28), (1, 2, 3))
    image.putpixel((0, 0), (7, 8, 9))
    path = tmp_path / "a.png"
    image.save(path, transparency=(1, 2, 3))
    found = prepare(read_image(path), 28, 3)
    assert tuple(found[9, 9]) == (255, 255, 255)
    assert tuple(found[0, 0]) == (7, 8, 9)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "PA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_gives_both_channel_counts(mode: str, channels: int) -> None:
    image = picture(mode="RGB").convert(mode) if mode != "PA" else Image.new(mode, (40, 30))
    assert to_channels(image, channels).mode == ("L" if channels == 1 else "RGB")
    assert prepare(image, 28, channels).shape == (28, 28, channels)


def test_grey_and_back_keeps_the_values() -> None:
    grey = picture(mode="L")
    as_rgb = np.asarray(to_channels(grey, 3))
    assert (as_rgb == np.asarray(grey)[..., None]).all()
    np.testing.assert_array_equal(np.asarray(to_channels(Image.fromarray(as_rgb), 1)), np.asarray(grey))


@pytest.mark.parametrize(
    ("kind", "most"), [(np.float32, 1.0), (np.float32, 255.0), (np.int32, 255), (np.int32, 65535), (np.float32, 256.0)]
)
def test_wide_numbers_are_scaled_by_what_they_reach(tmp_path: Path, kind: type, most: float) -> None:
    values: Any = np.linspace(0, most, 28 * 28).astype(kind).reshape(28, 28)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    if most == 256:
        with pytest.raises(BrokenImageError, match="its values are 0 … 256, expected 0 … 255"):
            read_image(tmp_path / "a.tiff")
        return
    found = prepare(read_image(tmp_path / "a.tiff"), 28, 1)[..., 0]
    assert np.abs(found - values * (255 / most)).max() <= 1


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 28 * 28).astype(np.uint16).reshape(28, 28)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(prepare(read_image(path), 28, 1)[..., 0], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.png"
    picture(20, 31).save(path, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(expected))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_damaged_exif_does_not_lose_the_picture(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "a.jpg"
    picture(20, 31).save(path, exif=exif)
    with quiet_pillow():
        assert read_image(path).size == (20, 31)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".PNG", ".JPG"])
def test_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path, f"a{suffix}")
    assert prepare(read_image(path), 28, 3).shape == (28, 28, 3)
    assert read_mode(path) in ("RGB", "P")


def test_a_format_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(png_bytes(picture()))
    assert read_image(path).size == (40, 30)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (28, 28), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert prepare(read_image(tmp_path / name), 28, 3)[0, 0, 0] > 250


PNG = png_bytes(picture())
BROKEN = {
    "empty": (b"", "not a picture"),
    "text": (b"hello, this is no picture at all", "not a picture"),
    "html": (b"<!DOCTYPE html><html>404</html>", "not a picture"),
    "cut in the middle": (PNG[: len(PNG) // 2], "truncated"),
    "cut after the signature": (PNG[:8], "not a picture"),
    "damaged inside": (PNG[:200] + bytes(200) + PNG[400:], ""),
    "a bomb": (png_claiming(30_000, 30_000), "megapixels"),
    "a small bomb, of which Pillow only warns": (png_claiming(10_000, 10_000), "megapixels"),
    "no pixels": (png_claiming(0, 10), ""),
    "no bytes for its pixels": (png_claiming(50, 50), "truncated"),
    "eps, which Pillow reads by running a program": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not a picture",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_picture_says_why(tmp_path: Path, case: str) -> None:
    data, reason = BROKEN[case]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with quiet_pillow(), pytest.raises(BrokenImageError) as caught:
        prepare(read_image(path), 28, 3)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    for read in (read_image, read_mode):
        with pytest.raises(BrokenImageError, match="No such file"):
            read(tmp_path / "a.png")


def test_a_bomb_is_seen_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_claiming(10_000, 10_000))
    assert MAX_PIXELS < 10_000 * 10_000
    with quiet_pillow(), pytest.raises(BrokenImageError, match="megapixels"):
        read_mode(path)


def test_a_strip_that_would_grow_without_bound_is_refused() -> None:
    with pytest.raises(BrokenImageError, match="strip"):
        resize_and_crop(Image.new("L", (100_000, 1)), 128)


def test_quiet_pillow_leaves_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with quiet_pillow():
        assert warnings.filters != before
    assert warnings.filters == before
