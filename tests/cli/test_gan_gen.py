"""gan-gen: what is drawn, and what is in the files it leaves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gan_serve
from cli.conftest import Gen
from cli.drawing import drawn, names, read, seen, text_of
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files


def test_images_with_opacity(gen: Gen, tmp_path: Path) -> None:
    onnx_files.save(tmp_path / "a.onnx", onnx_files.contract(image=(4, 6, 5)))
    assert gen("--model", "a.onnx", "--n", 4, "--scale", 1, "--out", "a.png")[:2] == (0, "a.png\n")
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.mode, picture.size) == ("RGBA", (16, 18))
    assert gen("--model", "a.onnx", "--n", 2, "--out", "many/")[0] == 0
    assert gen("--model", "a.onnx", "--walk", 2, "--frames", 2, "--out", "w.webp")[0] == 0
    for out in ("a.jpg", "w.mp4"):
        code, printed, err = gen("--model", "a.onnx", "--out", out, *(("--walk", 2) if out == "w.mp4" else ()))
        assert (code, printed) == (2, "")
        assert "the images have an opacity channel" in err
        assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    "form", ["g.onnx 3", "3 g.onnx", "g.onnx --n 3", "g.onnx 3 --n 3", "-n 3 -m g.onnx", "-m g.onnx 3"]
)
def test_the_file_and_the_number_of_images_by_their_place(form: str, gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    assert gen(*form.split()) == (0, "g.png\n", "3 images of 5x6, 43 times as large, seeds 0-2, on cpu (auto)\n")


def test_a_file_whose_name_is_a_number(gen: Gen, tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    assert "3 is a folder" in gen("3")[2]
    (tmp_path / "3").rmdir()
    code, out, err = gen("3")
    assert (code, out) == (0, "fashion-mnist.png\n")
    assert "3 images of 32x32" in err


def test_the_default_is_25_seeds_in_the_current_folder(gen: Gen, model: Path, tmp_path: Path) -> None:
    assert gen("--model", model) == (0, "g.png\n", "25 images of 5x6, 17 times as large, seeds 0-24, on cpu (auto)\n")
    assert names(tmp_path) == ["g.png"]
    np.testing.assert_array_equal(read("g.png"), seen(drawn(model, range(25))))
    assert text_of("g.png") == {
        "Software": f"ganport {gan_serve.__version__}",
        "gan.model_sha256": OnnxGenerator(model, "cpu").sha256,
        "gan.seeds": "0-24",
        "gan.scale": "17",
    }


@pytest.mark.parametrize(
    ("arguments", "seeds", "cols"),
    [
        (["--n", 3], range(3), None),
        (["--seed", 7], range(7, 32), None),
        (["--seed", 7, "--n", 4], range(7, 11), None),
        (["--seeds", "0,4-6,100"], [0, 4, 5, 6, 100], None),
        (["--seeds", "9007199254740991"], [2**53 - 1], None),
        (["--seeds", "5,5,5"], [5, 5, 5], None),
        (["--n", 6, "--cols", 2], range(6), 2),
        (["--n", 6, "--cols", 100], range(6), 100),
        (["--n", 7, "--batch-size", 2, "--threads", 2, "--provider", "cpu"], range(7), None),
    ],
)
def test_seeds_and_columns(gen: Gen, model: Path, arguments: list[object], seeds: object, cols: int | None) -> None:
    code, out, _ = gen("--model", model, "--out", "o.png", *arguments)
    assert (code, out) == (0, "o.png\n")
    np.testing.assert_array_equal(read("o.png"), seen(drawn(model, seeds), cols))


def test_existing_files_are_overwritten(gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "o.png").write_bytes(b"old")
    assert gen("--model", model, "--out", "o.png", "--n", 1)[0] == 0
    assert names(tmp_path) == ["o.png"]
    np.testing.assert_array_equal(read("o.png"), drawn(model, [0])[0])


@pytest.mark.parametrize(("suffix", "exact"), [(".webp", True), (".PNG", True), (".jpg", False), (".jpeg", False)])
def test_picture_formats(gen: Gen, model: Path, suffix: str, exact: bool) -> None:
    assert gen("--model", model, "--out", f"o{suffix}")[1] == f"o{suffix}\n"
    expected = seen(drawn(model, range(25)))
    picture = read(f"o{suffix}")
    assert picture.shape == expected.shape
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() == 0 if exact else difference.mean() < 12


def test_grey_pictures_stay_grey(gen: Gen, classes: Path) -> None:
    for name in ("o.png", "o.jpg"):
        gen("--model", classes, "--out", name)
        with Image.open(name) as picture:
            assert picture.mode == "L"


@pytest.mark.parametrize("out", ["faces/", "faces", "a/b/faces/", "dir.with.dots/"])
def test_a_folder_holds_one_file_per_seed(gen: Gen, model: Path, tmp_path: Path, out: str) -> None:
    code, shown, _ = gen("--model", model, "--seeds", "3,20-22,9007199254740991", "--out", out, "--batch-size", 2)
    assert (code, shown) == (0, f"{Path(out)}\n")
    expected = ["seed000003", "seed000020", "seed000021", "seed000022", "seed9007199254740991"]
    assert names(tmp_path / out) == [f"{stem}.png" for stem in expected]
    images = drawn(model, [3, 20, 21, 22, 2**53 - 1])
    for stem, image in zip(expected, images, strict=True):
        np.testing.assert_array_equal(read(tmp_path / out / f"{stem}.png"), image)
        text = text_of(tmp_path / out / f"{stem}.png")
        assert text["gan.seed"] == str(int(stem.removeprefix("seed")))
        assert text["gan.model_sha256"] == OnnxGenerator(model, "cpu").sha256
        assert "gan.class" not in text


def test_an_existing_folder_is_a_folder_whatever_its_name(gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png" / "mine.txt").touch()
    assert gen("--model", model, "--n", 2, "--out", "x.png")[0] == 0
    assert names(tmp_path / "x.png") == ["mine.txt", "seed000000.png", "seed000001.png"]


def test_many_files(gen: Gen, model: Path, tmp_path: Path) -> None:
    assert gen("--model", model, "--n", 700, "--out", "many/")[0] == 0
    assert len(names(tmp_path / "many")) == 700
    np.testing.assert_array_equal(read("many/seed000699.png"), drawn(model, [699])[0])


def test_classes_in_a_folder(gen: Gen, classes: Path, tmp_path: Path) -> None:
    gen("--model", classes, "--n", 3, "--out", "own/")
    assert names(tmp_path / "own") == ["seed000000.png", "seed000001.png", "seed000002.png"]
    assert text_of("own/seed000001.png")["gan.class"] == "1 T-shirt, red"
    gen("--model", classes, "--n", 3, "--class", "2,0", "--out", "given/", "--truncation", 0.5)
    assert names(tmp_path / "given") == ["seed000000-class2.png", "seed000001-class0.png", "seed000002-class2.png"]
    text = text_of("given/seed000001-class0.png")
    assert (text["gan.class"], text["gan.seed"], text["gan.truncation"]) == ("0 cat", "1", "0.5")


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ([], [0, 1, 2, 0, 1]),
        (["--class", "1"], [1] * 5),
        (["--class", "CAT"], [0] * 5),
        (["--class", "t-shirt, RED"], [1] * 5),
        (["--class", "7"], [2] * 5),
        (["--class", "cat,1"], [0, 1, 0, 1, 0]),
        (["--class", "1", "--class", "0"], [1, 0, 1, 0, 1]),
        (["--class", "all"], [0, 1, 2, 0, 1]),
        (["--class", "2,2,0"], [2, 2, 0, 2, 2]),
        (["--class", "t_shirt"], [1] * 5),
        (["--class", "T-Shirt red,cat"], [1, 0, 1, 0, 1]),
    ],
)
def test_classes(gen: Gen, classes: Path, arguments: list[str], labels: list[int]) -> None:
    assert gen("--model", classes, "--n", 5, "--out", "o.npz", *arguments)[0] == 0
    with np.load("o.npz") as archive:
        assert archive["labels"].tolist() == labels
        np.testing.assert_array_equal(archive["pixels"], drawn(classes, range(5), labels))


def test_truncation(gen: Gen, model: Path) -> None:
    gen("--model", model, "--truncation", 0.5, "--n", 4, "--out", "o.npy")
    np.testing.assert_array_equal(np.load("o.npy"), drawn(model, range(4), truncation=0.5))
    gen("--model", model, "--truncation", 0.5, "--n", 4)
    assert text_of("g.png")["gan.truncation"] == "0.5"


def test_arrays(gen: Gen, model: Path) -> None:
    assert gen("--model", model, "--seeds", "4-9,2", "--batch-size", 4, "--out", "o.npz")[1] == "o.npz\n"
    with np.load("o.npz") as archive:
        assert sorted(archive.files) == ["pixels", "seeds"]
        assert archive["seeds"].dtype == np.int64
        assert archive["seeds"].tolist() == [4, 5, 6, 7, 8, 9, 2]
        assert archive["pixels"].dtype == np.uint8
        np.testing.assert_array_equal(archive["pixels"], drawn(model, [4, 5, 6, 7, 8, 9, 2]))
    gen("--model", model, "--seeds", "4-9,2", "--out", "o.npy")
    np.testing.assert_array_equal(np.load("o.npy"), drawn(model, [4, 5, 6, 7, 8, 9, 2]))


def test_stdout_is_one_png(gen: Gen, model: Path, tmp_path: Path) -> None:
    code, out, err = gen("--model", model, "--n", 4, "--out", "-")
    assert code == 0
    assert "4 images" in err
    with Image.open(io.BytesIO(out.encode(errors="surrogateescape"))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), seen(drawn(model, range(4))))
    assert names(tmp_path) == []


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1, 1)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_latents_from_a_file(
    gen: Gen, model: Path, tmp_path: Path, shape: tuple[int, ...], kind: type[np.floating[Any]]
) -> None:
    z = np.random.default_rng(0).standard_normal((5, 4)).astype(kind)
    np.save("z.npy", z.reshape(shape))
    expected = OnnxGenerator(model, "cpu").run(z.astype(np.float32))[1]
    assert gen("--model", model, "--latents", "z.npy", "--out", "o.npy", "--batch-size", 2)[0] == 0
    np.testing.assert_array_equal(np.load("o.npy"), expected)
    gen("--model", model, "--latents", "z.npy", "--out", "o/")
    assert names(tmp_path / "o") == [f"latent{index:06d}.png" for index in range(5)]
    assert text_of("o/latent000003.png")["gan.latents"] == "z.npy row 3"


def test_one_latent_and_its_class(gen: Gen, classes: Path) -> None:
    np.save("z.npy", np.zeros(4))
    gen("--model", classes, "--latents", "z.npy", "--class", "2", "--out", "o.npz")
    with np.load("o.npz") as archive:
        assert sorted(archive.files) == ["labels", "pixels"]
        assert archive["labels"].tolist() == [2]
    np.save("z.npy", np.zeros((5, 4)))
    gen("--model", classes, "--latents", "z.npy", "--out", "o.npz")
    with np.load("o.npz") as archive:
        assert archive["labels"].tolist() == [0, 1, 2, 0, 1]
