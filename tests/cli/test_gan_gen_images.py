"""gan-gen with images: whole and in tiles, alone and by the folder, in every mode, and ten wrong ones."""

from __future__ import annotations

import json
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gan_serve
from cli.conftest import Gen
from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.golden import example_images
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.exporting import export_onnx
from gan_export.source import from_spec
from gan_serve.gen.outputs import alone_in
from gan_trainer.networks.generator import build

pytestmark = pytest.mark.slow

SHARPEN = (L.Upsample(2, "bicubic", as_="up"), L.Conv(3, 3, 5, padding=2, groups=3, bias=False), L.Add("up"))
"""Enlarges and adds some of what differs from the neighbourhood."""
HALVES = (
    L.PixelUnshuffle(2),
    L.Conv(12, 12, 3, padding=1, bias=False),
    L.PixelShuffle(2),
    L.Activation("hardtanh", limits=(0.0, 1.0)),
)


def write(path: Path, layers: tuple[L.Layer, ...], taken: ImageInput) -> Path:
    side = 32 * taken.scale
    spec = GeneratorSpec(Interface(0, (taken.channels, side, side), value_range=(0.0, 1.0), input=taken), layers)
    spec = replace(spec, interface=replace(spec.interface, input=replace(taken, halo=spec.halo)))
    module = build(spec)
    with torch.no_grad():
        for weight in module.parameters():
            around = -torch.ones_like(weight) / weight[0, 0].numel() / 2
            around[:, :, 1:-1, 1:-1] += torch.randn_like(around[:, :, 1:-1, 1:-1]) / 4
            weight.copy_(around if weight.shape[1] == 1 else torch.randn_like(weight) / 10 + 0.01)
    report = export_onnx(from_spec(spec, module), path)
    assert report.ok, report.failed
    return path


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write(tmp_path_factory.mktemp("x2") / "x2.onnx", SHARPEN, ImageInput(scale=2))


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write(tmp_path_factory.mktemp("even") / "even.onnx", HALVES, ImageInput(multiple_of=2, minimum=2))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write(tmp_path_factory.mktemp("fixed") / "fixed.onnx", HALVES, ImageInput(fixed=True))


def pixels_of(path: Path) -> U8:
    with Image.open(path) as image:
        return np.asarray(image)


def save(path: Path, height: int, width: int, mode: str = "RGB", **settings: Any) -> Path:
    channels = {"L": 1, "RGBA": 4, "CMYK": 4}.get(mode, 3)
    (array,) = example_images([1], height, width, channels)
    image = Image.fromarray(array[..., 0] if channels == 1 else array, "CMYK" if mode == "CMYK" else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **settings)
    return path


def test_tiles_make_the_image_that_the_whole_makes(gen: Gen, twice: Path, even: Path) -> None:
    photo = save(Path("photo.png"), 61, 83)
    for model, scale in ((twice, 2), (even, 1)):
        code, out, _ = gen(model, photo)
        assert (code, out.strip()) == (0, f"photo-{model.stem}.png")
        whole = pixels_of(Path(out.strip()))
        assert whole.shape == (61 * scale, 83 * scale, 3)
        for tile in ("16", "17", "100"):
            assert gen(model, photo, "--tile", tile, "--out", "tiled.png")[0] == 0
            np.testing.assert_array_equal(pixels_of(Path("tiled.png")), whole)
        assert gen(model, photo, "--tile", "16", "--halo", "0", "--out", "seams.png")[0] == 0
        assert (pixels_of(Path("seams.png")) != whole).any()


def test_it_is_what_the_generator_makes_of_the_pixels(twice: Path) -> None:
    (photo,) = example_images([3], 20, 30, 3)
    with gan_serve.load(twice, "cpu") as generator:
        made = generator.transform(photo)
        np.testing.assert_array_equal(np.asarray(made), generator.run_pixels(photo[None])[0])
        np.testing.assert_array_equal(np.asarray(generator.transform(Image.fromarray(photo), tile=8)), np.asarray(made))
        with pytest.raises(GanportError, match=r"uint8 .* got float32 \(20, 30, 3\)"):
            generator.transform(photo.astype(np.float32))
        with pytest.raises(GanportError, match=r"uint8 .* got uint8 \(20, 30, 2\)"):
            generator.transform(photo[..., :2])
        with pytest.raises(GanportError, match="seeds and latents have no meaning"):
            generator.generate(3)


def test_a_folder_keeps_names_and_what_is_broken_is_named(gen: Gen, twice: Path) -> None:
    save(Path("in/a.jpg"), 9, 12)
    save(Path("in/deep/b.png"), 10, 8)
    save(Path("in/c.bmp"), 7, 7)
    Path("in/notes.txt").write_text("no image")
    Path("in/broken.png").write_bytes(Path("in/a.jpg").read_bytes()[:200])
    code, out, err = gen(twice, "in", "--out", "out/")
    assert code == 2
    assert "warning: in/broken.png cannot be used" in err
    assert "1 of 4 images were not transformed" in err
    assert sorted(out.split()) == ["out/a.jpg", "out/c.png", "out/deep/b.png"]
    assert pixels_of(Path("out/deep/b.png")).shape == (20, 16, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "1", "P", "LA", "I;16"])
def test_every_mode(mode: str, gen: Gen, twice: Path) -> None:
    (colours,) = example_images([2], 12, 10, 4)
    base = Image.fromarray(colours)
    path = Path("in.tif" if mode == "CMYK" else "in.png")
    if mode == "I;16":
        grey = colours[..., 0].astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
        expected = np.repeat(colours[..., :1], 3, axis=2)
    else:
        image = base.convert("RGB").quantize(16) if mode == "P" else base.convert("RGB").convert(mode)
        image = base if mode == "RGBA" else base.convert("LA") if mode == "LA" else image
        image.save(path)
        expected = np.asarray(image.convert("RGBA").convert("RGB") if mode in ("RGBA", "LA") else image.convert("RGB"))
    code, out, _ = gen("--model", twice, "--image", path)
    assert code == 0
    made = pixels_of(Path(out.strip()))
    with gan_serve.load(twice, "cpu") as generator:
        np.testing.assert_array_equal(made[..., :3], generator.run_pixels(np.ascontiguousarray(expected)[None])[0])
    if mode in ("RGBA", "LA"):
        resized = base.getchannel("A").resize((20, 24), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(made[..., 3], np.asarray(resized))
        assert gen(twice, path, "--tile", "5", "--out", "tiles.png")[0] == 0
        np.testing.assert_array_equal(pixels_of(Path("tiles.png")), made)
    else:
        assert made.shape == (24, 20, 3)


def test_it_is_turned_upright_and_the_first_frame_taken(gen: Gen, twice: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(Path("turned.jpg"), 8, 20, exif=exif)
    assert gen(twice, "turned.jpg", "--out", "t.png")[0] == 0
    assert pixels_of(Path("t.png")).shape == (40, 16, 3)
    frames = [Image.fromarray(array) for array in example_images(range(3), 8, 8, 3)]
    frames[0].save("moves.webp", save_all=True, append_images=frames[1:], lossless=True)
    code, _, err = gen(twice, "moves.webp", "--out", "m.png")
    assert code == 0
    assert "the first of 3 frames is taken" in err


def test_sizes_that_the_network_does_not_take(gen: Gen, even: Path, fixed: Path) -> None:
    save(Path("odd.png"), 1, 5)
    code, out, err = gen(even, "odd.png")
    assert code == 0
    assert "5x1 is mirrored to 6x2" in err
    assert pixels_of(Path(out.strip())).shape == (1, 5, 3)
    code, _, err = gen(fixed, "odd.png")
    assert code == 2
    assert "the network takes 32x32 only\nhint: --resize resizes it" in err
    assert gen(fixed, "odd.png", "--resize", "--out", "r.webp")[0] == 0
    assert pixels_of(Path("r.webp")).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "no image at missing.png"),
        (["text.png"], "text.png cannot be used: not a picture"),
        (["huge.png"], "larger than 89 megapixels"),
        (["empty/"], "empty/ holds no images"),
        (["a.png", "--n", "3"], "images are transformed, so --n has no meaning"),
        (["a.png", "--truncation", "0.5"], "--truncation has no meaning"),
        (["3", "a.png"], "3 images are asked for, and a.png"),
        (["a.png", "--tile", "0"], "--tile must be 1 … 16384"),
        (["a.png", "--halo", "3"], "--halo is for tiles"),
        (["a.png", "--resize"], "so nothing is resized"),
        (["a.png", "--out", "a.png"], "a.png is an image that is read"),
        (["a.png", "--out", "a.tiff"], "images are written as"),
        (["a.png", "--out", "memory://o/"], "transformed images go into a folder, got memory://o/"),
        (["a.png", "b.png", "--out", "c.png"], "several images go into a folder"),
        (["a.png", "twin/a.png", "--out", "o/"], "two images would be written to o/a.png"),
        (["clear.png", "--out", "c.jpg"], "the images have an opacity channel, which .jpg cannot hold"),
        (["5"], "seeds and latents have no meaning"),
        (["--walk", "3"], "seeds and latents have no meaning"),
        (["--tile", "3"], "--tile is for images"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, gen: Gen, twice: Path) -> None:
    for name in ("a.png", "b.png", "twin/a.png"):
        save(Path(name), 4, 4)
    save(Path("clear.png"), 4, 4, "RGBA")
    Path("text.png").write_text("I am no picture, though my name says so")
    Path("empty").mkdir()
    Image.new("1", (20_000, 5_000)).save("huge.png")
    before = sorted(Path().rglob("*"))
    code, out, err = gen(twice, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") <= 3
    assert sorted(Path().rglob("*")) == before


def test_images_for_a_generator_of_seeds(gen: Gen, classes: Path) -> None:
    save(Path("a.png"), 4, 4)
    code, _, err = gen(classes, "a.png")
    assert code == 2
    assert "makes images of seeds, not of a.png" in err


def test_json_and_info(gen: Gen, twice: Path) -> None:
    save(Path("a.png"), 4, 6)
    code, out, _ = gen(twice, "a.png", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["images"] == [{"image": "a.png", "file": "a-x2.png", "width": 12, "height": 8}]
    code, out, _ = gen(twice, "--info")
    assert code == 0
    assert "RGB images of any size" in out
    assert gen(twice, "--selftest")[0] == 0


@pytest.mark.long
def test_memory_is_flat_in_the_size_of_the_result_with_tiles(gen: Gen, twice: Path) -> None:
    """The result of 12 MB is never whole in Python's memory."""
    save(Path("small.png"), 200, 50)
    save(Path("large.png"), 2000, 500)
    # What the first picture imports is not a result's.
    assert gen(twice, "small.png", "--tile", "128", "--out", "s.png")[0] == 0
    tracemalloc.start()
    assert gen(twice, "large.png", "--tile", "128", "--out", "o.png")[0] == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels_of(Path("o.png")).nbytes == 12_000_000
    assert peak < 9_000_000


def test_a_folder_is_completed(gen: Gen, twice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.jpg", "in/b.png", "in/deep/c.webp", "in/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        save(Path(name), 6, 8)
    assert gen(twice, "in/", "--out", "whole/")[0] == 0
    for part in range(3):
        code, _, err = gen(twice, "in/", "--out", "out/", "--shard", f"{part}/3")
        assert code == 0
        assert f"part {part} of 3: {1 + part // 2} images" in err
    files = sorted(path.relative_to("whole") for path in Path("whole").rglob("*.*"))
    assert len(files) == 4
    assert [(Path("out") / file).read_bytes() for file in files] == [
        (Path("whole") / file).read_bytes() for file in files
    ]
    made = {file: (Path("out") / file).stat().st_mtime_ns for file in files}
    (Path("out") / files[0]).unlink()
    (Path("out") / files[1]).write_bytes(b"\x89PNG")
    save(Path("in/d.png"), 7, 7)
    code, out, err = gen(twice, "in/", "--out", "out/")
    assert (code, len(out.split())) == (0, 3)
    assert "1 of 4 images are there already" in err
    assert (Path("out") / files[3]).stat().st_mtime_ns == made[files[3]]
    assert pixels_of(Path("out/d.png")).shape == (14, 14, 3)
    monkeypatch.setattr("gan_serve.gen.transform.__version__", "later")
    assert gen(twice, "in/", "--out", "out/")[1] == ""
    assert len(gen(twice, "in/", "--out", "out/", "--tile", 64, "--halo", 1)[1].split()) == 4
    assert len(gen(twice, "in/", "--out", "out/")[1].split()) == 4
    assert len(gen(twice, "in/", "--out", "out/", "--overwrite")[1].split()) == 4


def test_a_folder_of_another_models_results(gen: Gen, twice: Path, even: Path) -> None:
    Path("in").mkdir()
    save(Path("in/a.jpg"), 6, 8)
    gen(even, "in/", "--out", "out/")
    before = Path("out/a.jpg").read_bytes()
    code, _, err = gen(twice, "in/", "--out", "out/")
    assert (code, "error: out/a.jpg was made by another model\nhint: " in err) == (2, True)
    assert Path("out/a.jpg").read_bytes() == before
    assert gen(twice, "in/", "--out", "out/", "--overwrite")[0] == 0
    assert gen(twice, "in/", "--out", "out/", "--shard", "3/3")[0] == 2
    assert gen(twice, "in/", "--out", "out/", "--format", "tar")[0] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_second_command_for_a_folder_is_refused(gen: Gen, twice: Path, model: Path) -> None:
    Path("in").mkdir()
    save(Path("in/a.jpg"), 6, 8)
    Path("out").mkdir()
    with alone_in(Path("out")):
        for command in ((twice, "in/"), (twice, "in/", "--shard", "0/2"), ("--model", model, "--n", 2)):
            code, _, err = gen(*command, "--out", "out/")
            assert (code, err.splitlines()[-2:][0]) == (2, "error: another gan-gen writes these images into out")
        assert not list(Path("out").iterdir())
    with alone_in(Path("out"), parts=True):
        assert gen(twice, "in/", "--out", "out/")[0] == 2
        assert gen(twice, "in/", "--out", "out/", "--shard", "1/2")[0] == 0
    assert [path.name for path in Path("out").iterdir()] == ["a.jpg"]
