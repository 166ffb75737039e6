"""gan-gen: every option, and what is in the files it leaves."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gan_serve
from gan_serve import cli, console
from gan_serve.images import grid
from gan_serve.onnx_generator import OnnxGenerator
from serve import onnx_files

Gen = Callable[..., tuple[int, str, str]]

OPTIONS = (
    "--model", "--n", "--seed", "--seeds", "--latents", "--class", "--by-class", "--truncation", "--out", "--cols",
    "--walk", "--frames", "--batch-size", "--threads", "--provider", "--selftest", "--info", "--json", "--version",
    "--debug",
)  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("gen") / "g.onnx")


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = onnx_files.contract(image=(1, 8, 8), n_classes=3, class_names=("cat", "T-shirt, red", "7"))
    return onnx_files.save(tmp_path_factory.mktemp("gen") / "c.onnx", about)


@pytest.fixture
def gen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Gen:
    """Runs gan-gen in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(cli.app, "gan-gen", [str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return int(str(done.value.code)), out.decode("latin-1"), err.decode()

    return run


def drawn(model: Path, seeds: object, labels: object = None, **options: object) -> np.ndarray:
    return OnnxGenerator(model, "cpu", 1).generate(seeds, labels, **options)  # type: ignore[arg-type]


def read(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def text_of(path: Path | str) -> dict[str, str]:
    with Image.open(path) as picture:
        picture.load()
        return dict(picture.text)  # type: ignore[attr-defined]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_default_is_25_seeds_in_the_current_folder(gen: Gen, model: Path, tmp_path: Path) -> None:
    assert gen("--model", model) == (0, "g.png\n", "25 images of 5x6, seeds 0-24, on cpu (auto)\n")
    assert names(tmp_path) == ["g.png"]
    np.testing.assert_array_equal(read("g.png"), grid(drawn(model, range(25))))
    assert text_of("g.png") == {
        "Software": f"ganport {gan_serve.__version__}",
        "gan.model_sha256": OnnxGenerator(model, "cpu").sha256,
        "gan.seeds": "0-24",
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
    np.testing.assert_array_equal(read("o.png"), grid(drawn(model, seeds), cols))


def test_existing_files_are_overwritten(gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "o.png").write_bytes(b"old")
    assert gen("--model", model, "--out", "o.png", "--n", 1)[0] == 0
    assert names(tmp_path) == ["o.png"]
    assert read("o.png").shape == (10, 9, 3)


@pytest.mark.parametrize(("suffix", "exact"), [(".webp", True), (".PNG", True), (".jpg", False), (".jpeg", False)])
def test_picture_formats(gen: Gen, model: Path, suffix: str, exact: bool) -> None:
    assert gen("--model", model, "--out", f"o{suffix}")[1] == f"o{suffix}\n"
    expected = grid(drawn(model, range(25)))
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
    with Image.open(io.BytesIO(out.encode("latin-1"))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid(drawn(model, range(4))))
    assert names(tmp_path) == []


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1, 1)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_latents_from_a_file(gen: Gen, model: Path, tmp_path: Path, shape: tuple[int, ...], kind: type) -> None:
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


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_walks_loop(gen: Gen, model: Path, suffix: str) -> None:
    code, out, err = gen("--model", model, "--walk", 3, "--frames", 12, "--seed", 5, "--out", f"w{suffix}")
    assert (code, out) == (0, f"w{suffix}\n")
    assert "12 frames of 5x6, seeds 5-7" in err
    with Image.open(f"w{suffix}") as animation:
        assert animation.n_frames == 12  # type: ignore[attr-defined]
        assert animation.info["loop"] == 0
        frames = []
        for index in range(12):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
            assert animation.info["duration"] == 40
    if suffix == ".webp":
        np.testing.assert_array_equal(np.stack(frames)[::4], drawn(model, [5, 6, 7]))
    steps = [np.abs(frames[index] - frames[index - 1]).mean() for index in range(12)]
    assert steps[0] < 2 * np.median(steps)  # from the last frame to the first


def test_a_walk_is_named_after_the_model(gen: Gen, model: Path) -> None:
    assert gen("--model", model, "--walk", 2)[1] == "g.webp\n"
    with Image.open("g.webp") as animation:
        assert animation.n_frames == 40  # type: ignore[attr-defined]


def test_a_walk_through_named_seeds(gen: Gen, classes: Path) -> None:
    assert gen("--model", classes, "--walk", 2, "--seeds", "9,4", "--class", "0,2", "--frames", 8)[0] == 0
    with Image.open("c.webp") as animation:
        animation.seek(4)
        frame = np.asarray(animation.convert("L"))
    np.testing.assert_array_equal(frame[..., None], drawn(classes, [4], 2)[0])


@pytest.mark.parametrize(("which", "width", "height"), [("model", 6, 6), ("classes", 8, 8)])
def test_a_walk_as_a_film(gen: Gen, which: str, width: int, height: int, request: pytest.FixtureRequest) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    model = request.getfixturevalue(which)
    assert gen("--model", model, "--walk", 2, "--frames", 10, "--out", "w.mp4")[1] == "w.mp4\n"
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "w.mp4", *raw]
    decoded = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    frames = np.frombuffer(decoded, np.uint8).reshape(10, height, width)  # the sides of a video are even
    first = drawn(model, [0])[0]
    luma = (first @ np.array([0.299, 0.587, 0.114]) if first.shape[2] == 3 else first[..., 0]).astype(int)
    shown = frames[0, : luma.shape[0], : luma.shape[1]].astype(int)
    assert np.abs(shown - luma).mean() < 10


def test_a_film_that_ffmpeg_cannot_write(
    gen: Gen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho first >&2\necho No space left on device >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("gan_serve.animation._find_ffmpeg", lambda: str(broken))
    code, _, err = gen("--model", model, "--walk", 9, "--out", "w.mp4")
    assert code == 1
    assert err.startswith("error: ffmpeg could not write the video: No space left on device\nhint: ")
    assert names(tmp_path) == ["ffmpeg"]


def test_json(gen: Gen, classes: Path) -> None:
    code, out, _ = gen("--model", classes, "--seeds", "1-3", "--class", "0,2", "--out", "o.png", "--json")
    assert code == 0
    assert json.loads(out) == {
        "out": "o.png",
        "kind": "picture",
        "n": 3,
        "image": {"channels": 1, "height": 8, "width": 8},
        "model": str(classes),
        "sha256": OnnxGenerator(classes, "cpu").sha256,
        "provider": "cpu",
        "seeds": "1-3",
        "classes": "0,2",
    }


def test_info(gen: Gen, classes: Path, tmp_path: Path) -> None:
    code, out, err = gen("--model", classes, "--info")
    assert (code, err) == (0, "")
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    assert lines["image"] == "8x8 grey"
    assert lines["latent"] == "4 components, normal N(0, 1)"
    assert lines["classes"] == "0 cat, 1 T-shirt, red, 2 7"
    assert lines["golden set"].startswith("3 images")
    assert lines["runs on"] == "cpu"
    assert names(tmp_path) == []


def test_info_as_json_is_the_whole_contract(gen: Gen, model: Path) -> None:
    record = json.loads(gen("--model", model, "--info", "--json")[1])
    contract = OnnxGenerator(model, "cpu").contract
    for key, value in contract.to_metadata().items():
        assert record[key.removeprefix("gan.")] == json.loads(value)
    assert record["size_bytes"] == model.stat().st_size
    assert (record["provider"], record["cpu_nodes"]) == ("cpu", [])


def test_info_names_the_nodes_that_fell_to_the_cpu(gen: Gen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = OnnxGenerator.__init__

    def on_cuda(self: OnnxGenerator, *arguments: object, **options: object) -> None:
        load(self, *arguments, **options)  # type: ignore[arg-type]
        self.provider = "cuda"

    monkeypatch.setattr(OnnxGenerator, "__init__", on_cuda)
    monkeypatch.setattr(OnnxGenerator, "cpu_nodes", lambda _: ("shape", "gather"))
    assert "runs on     cuda, and on the CPU 2 nodes: shape, gather\n" in gen("--model", model, "--info")[1]
    assert json.loads(gen("--model", model, "--info", "--json")[1])["cpu_nodes"] == ["shape", "gather"]
    monkeypatch.setattr(OnnxGenerator, "cpu_nodes", lambda _: None)
    assert "runs on     cuda\n" in gen("--model", model, "--info")[1]


def test_info_of_a_file_without_metadata(gen: Gen, tmp_path: Path) -> None:
    (tmp_path / "f.onnx").write_bytes(onnx_files.foreign(["batch", 7], ["batch", 3, 6, 6]).SerializeToString())
    code, out, err = gen("--model", "f.onnx", "--info")
    assert code == 0
    assert "assumed     noise is a latent whose components are N(0, 1); black is -1 and white is 1\n" in out
    assert err.count("note: f.onnx has no gan.* metadata; assumed:") == 1
    code, out, err = gen("--model", "f.onnx")
    assert (code, out) == (0, "f.png\n")
    assert err.count("assumed") == 1


def test_selftest(gen: Gen, classes: Path, tmp_path: Path) -> None:
    code, out, err = gen("--model", classes, "--selftest")
    assert code == 0
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["0", "0", "0", "∞".encode().decode("latin-1"), "ok"],
        ["1", "1", "0", "∞".encode().decode("latin-1"), "ok"],
        ["7", "1", "0", "∞".encode().decode("latin-1"), "ok"],
    ]
    assert err == "all 3 golden images as expected (at most 1 LSB) on cpu\n"
    record = json.loads(gen("--model", classes, "--selftest", "--json")[1])
    assert record["ok"] is True
    assert record["images"][2] == {"seed": 7, "label": 1, "max_lsb": 0, "psnr_db": None, "ok": True}
    assert names(tmp_path) == []


def test_selftest_of_a_tampered_file(gen: Gen, tmp_path: Path) -> None:
    about = onnx_files.with_golden(onnx_files.contract())
    weights = onnx_files.weights(about)
    weights["W"][:, 3] *= 1.2  # one pixel's weights
    (tmp_path / "t.onnx").write_bytes(onnx_files.model(about, weights).SerializeToString())
    code, out, err = gen("--model", "t.onnx", "--selftest")
    assert code == 1
    assert "FAILED" in out
    assert re.match(
        r"error: \d of 3 golden images differ: seed \d by \d+ LSB, [\d.]+ dB, allowed is at most 1 LSB\n", err
    )
    code, out, _ = gen("--model", "t.onnx", "--selftest", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


def test_version(gen: Gen) -> None:
    assert gen("--version") == (0, f"ganport {gan_serve.__version__}\n", "")


def test_help_names_every_option_and_runs_its_examples(gen: Gen, model: Path, classes: Path, tmp_path: Path) -> None:
    code, out, _ = gen("--help")
    assert code == 0
    for option in OPTIONS:
        assert option in out
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    (tmp_path / "digits.onnx").write_bytes(classes.read_bytes())
    examples = re.findall(r"^    gan-gen (.*?)(?:  .*)?$", out, re.MULTILINE)
    assert len(examples) == 9
    for example in examples:
        arguments = example.replace("10000", "30").replace("3,7", "0,2").split()
        assert gen(*arguments)[0] == 0, example
