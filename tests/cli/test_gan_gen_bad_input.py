"""gan-gen and wrong input: one line, a hint, the right exit code, no traceback, nothing left on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Gen, nobody
from gan_core.installation import install
from gan_serve.gen import cli
from gan_serve.terminal import console
from serve import onnx_files


@pytest.fixture
def gen(gen: Gen, tmp_path: Path) -> Gen:
    """Runs gan-gen in a folder that holds g.onnx, c.onnx (three classes) and nothing else."""
    onnx_files.save(tmp_path / "g.onnx")
    about = onnx_files.contract(image=(1, 8, 8), n_classes=3, class_names=("cat", "dog", "owl"))
    onnx_files.save(tmp_path / "c.onnx", about)
    return gen


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


TRILLION = "1000000000000"

WRONG_OPTIONS = [
    ("g.onnx 9 --n 8", "9 and --n 8 contradict each other"),
    ("g.onnx c.onnx", "the generator makes images of seeds, not of c.onnx"),
    ("g.onnx nine", "the generator makes images of seeds, not of nine"),
    ("g.onnx 9 9", "9 images are asked for, and 9"),
    ("g.onnx 0", "--n must be at least 1, got 0"),
    ("g.onnx 9 --seeds 1,2", "--seeds and --n exclude each other"),
    ("9 8", "no model at 8"),
    ("--model g.onnx extra", "extra and --model g.onnx contradict each other"),
    ("--model g.onnx --what", "No such option: --what"),
    ("--model", "Option '--model' requires an argument"),
    ("--model g.onnx --n ten", "Invalid value for '--n' / '-n'"),
    ("--model g.onnx --n 2.5", "Invalid value for '--n' / '-n'"),
    ("--model g.onnx --n 0", "--n must be at least 1, got 0"),
    ("--model g.onnx --n -3", "--n must be at least 1, got -3"),
    (f"--model g.onnx --n {TRILLION}", f"{TRILLION} images of 5x6 make a picture of 56000030 megapixels"),
    (f"--model g.onnx --n {TRILLION} --out -", f"{TRILLION} images of 5x6 make a picture"),
    (f"--model g.onnx --n {TRILLION} --out many/", f"{TRILLION} images take about"),
    (f"--model g.onnx --n {TRILLION} --out many.npy", f"{TRILLION} images take about 90 TB"),
    (f"--model g.onnx --n {TRILLION} --out many.npz", f"{TRILLION} images take about 90 TB"),
    (f"--model g.onnx --n {10**30}", "run past the last one, 2**53 - 1"),
    ("--model g.onnx --seeds 0-999999999999", f"{TRILLION} images of 5x6 make a picture"),
    ("--model g.onnx --seed -1", "--seed must be 0 or more, got -1"),
    ("--model g.onnx --seed 9007199254740992", "run past the last one, 2**53 - 1"),
    ("--model g.onnx --seed 9007199254740991", "25 seeds from 9007199254740991 run past the last one"),
    ("--model g.onnx --seeds -4", "seeds are numbers and ranges such as 0,4-6,100, got '-4'"),
    ("--model g.onnx --seeds 1,x", "seeds are numbers and ranges such as 0,4-6,100, got 'x'"),
    ("--model g.onnx --seeds 9-2", "the range 9-2 runs backwards"),
    ("--model g.onnx --seeds 1 --seed 2", "--seeds and --seed exclude each other"),
    ("--model g.onnx --seeds 1 --n 2", "--seeds and --n exclude each other"),
    ("--model g.onnx --by-class", "this generator has no classes"),
    ("--model c.onnx --by-class --cols 3", "--by-class gives each class a row, so --cols has no meaning"),
    ("--model g.onnx --by-class --walk 3", "this generator has no classes"),
    ("--model c.onnx --by-class --grid 2x2", "--by-class and --grid exclude each other"),
    ("--model g.onnx --grid 4", "--grid must be COLUMNSxROWS, got '4'"),
    ("--model g.onnx --grid 0x2", "--grid must be COLUMNSxROWS, got '0x2'"),
    ("--model g.onnx --grid 4x-2", "--grid must be COLUMNSxROWS, got '4x-2'"),
    (f"--model g.onnx --grid {TRILLION}x1", "--grid must be COLUMNSxROWS"),
    ("--model g.onnx --grid 99999x99999", "9999800001 images of 5x6 make a picture of"),
    ("--model g.onnx --grid 2x2 --n 3", "--grid and --n exclude each other"),
    ("--model g.onnx --grid 2x2 --cols 3", "--grid and --cols exclude each other"),
    ("--model g.onnx --grid 2x2 --latents z.npy", "--latents and --grid exclude each other"),
    ("--model g.onnx --grid 2x2 --seeds 1-3", "--grid 2x2 goes through 4 seeds, --seeds names 3"),
    ("--model g.onnx --grid 2x2 --out many/", "--grid is for a grid, many is not one"),
    ("--model g.onnx --grid 2x2 --info", "--info writes no images, so --grid has no meaning"),
    ("--model g.onnx --walk 3 --grid 2x2 --seeds 1-3", "--walk 3 --grid 2x2 goes through 12 seeds, --seeds names 3"),
    ("--model g.onnx --walk 2 --grid 99x99", "9801 walks through 2 seeds each go through 19602, the most is 10000"),
    ("--model g.onnx --scale 0", "--scale must be auto or 1 … 64, got 0"),
    ("--model g.onnx --scale -2", "--scale must be auto or 1 … 64, got -2"),
    ("--model g.onnx --scale 1.5", "--scale must be auto or 1 … 64, got 1.5"),
    ("--model g.onnx --scale big", "--scale must be auto or 1 … 64, got big"),
    (f"--model g.onnx --scale {TRILLION}", f"--scale must be auto or 1 … 64, got {TRILLION}"),
    ("--model g.onnx --scale 64 --n 9000", "9000 images of 320x384 make a picture of"),
    ("--model g.onnx --scale 2 --selftest", "--selftest writes no images, so --scale has no meaning"),
    ("--model g.onnx --labels --out many/", "--labels is for a grid, many is not one"),
    ("--model g.onnx --labels --out many.npz", "--labels is for a grid, many.npz is not one"),
    ("--model g.onnx --labels --walk 4", "--labels is for a grid, or a walk in every class"),
    ("--model g.onnx --labels --info", "--info writes no images, so --labels has no meaning"),
    ("--model c.onnx --by-class --info", "--info writes no images, so --by-class has no meaning"),
    ("--model c.onnx --by-class --selftest", "--selftest writes no images, so --by-class has no meaning"),
    ("--model c.onnx --by-class --class wolf", "class 'wolf' does not exist"),
    ("--model c.onnx --by-class --n 0", "--n must be at least 1, got 0"),
    ("--model c.onnx --by-class yes", "yes and --model c.onnx contradict each other"),
    (f"--model c.onnx --by-class --n {TRILLION}", f"{3 * int(TRILLION)} images of 8x8 make a picture of"),
    (f"--model c.onnx --by-class --n {TRILLION} --out many/", f"{3 * int(TRILLION)} images take about"),
    ("--model g.onnx --cols 0", "--cols must be at least 1, got 0"),
    ("--model g.onnx --cols 3 --out many/", "--cols is for a grid, many is not one"),
    ("--model g.onnx --cols 3 --out many.npy", "--cols is for a grid, many.npy is not one"),
    (
        "--model g.onnx --n 70000 --cols 1 --scale 1 --out tall.jpg",
        "a picture of 9x560002 pixels, .jpg holds at most 65500 a side",
    ),
    (
        "--model g.onnx --n 9000 --cols 9000 --scale 1 --out wide.webp",
        "a picture of 63002x10 pixels, .webp holds at most 16383",
    ),
    ("--model g.onnx --batch-size 0", "--batch-size must be at least 1, got 0"),
    ("--model g.onnx --threads 0", "--threads must be 1 … 1024, got 0"),
    ("--model g.onnx --threads 99999", "--threads must be 1 … 1024, got 99999"),
    ("--model g.onnx --provider gpu", "--provider must be auto or one of cpu, cuda, "),
    ("--model g.onnx --provider cpu --tf32", "TF32 is for cuda and tensorrt, got provider cpu"),
    ("--model g.onnx --tf32 --info", "TF32 is for cuda and tensorrt, auto chose cpu"),
    ("--model g.onnx --provider tensorrt --tf32", "provider tensorrt is not installed; here are cpu"),
    ("--model g.onnx --provider openvino --selftest", "provider openvino is not installed; here are cpu"),
    ("--model g.onnx --provider webgpu --info", "provider webgpu is not installed; here are cpu"),
    ("--model g.onnx --provider CPU", "--provider must be auto or one of cpu, cuda"),
    ("--model g.onnx --provider CUDAExecutionProvider", "--provider must be auto or one of cpu, cuda"),
    ("--model g.onnx --provider cpu,cuda", "--provider must be auto or one of cpu, cuda"),
    ("--model g.onnx --provider cpu:1", "--provider must be auto or one of cpu, cuda"),
    ("--model g.onnx --provider coreml", "provider coreml is not installed; here are cpu"),
    ("--model g.onnx --provider directml", "provider directml is not installed; here are cpu"),
    ("--model g.onnx --truncation 0", "--truncation must be a finite number of at least 0.05, got 0.0"),
    ("--model g.onnx --truncation nan", "--truncation must be a finite number of at least 0.05, got nan"),
    ("--model g.onnx --truncation high", "Invalid value for '--truncation'"),
    ("--model g.onnx --class 0", "this generator has no classes"),
    ("--model c.onnx --class 3", "class '3' does not exist"),
    ("--model c.onnx --class -1", "class '-1' does not exist"),
    ("--model c.onnx --class cat,fish", "class 'fish' does not exist"),
    ("--model c.onnx --class cat,", "class '' does not exist"),
    (f"--model c.onnx --class {'9' * 5000}", "does not exist"),
    ("--model g.onnx --walk 1", "a walk goes through 2 … 10000 seeds, got 1"),
    ("--model g.onnx --walk 0", "--walk must be at least 1, got 0"),
    (f"--model g.onnx --walk {TRILLION}", "a walk goes through 2 … 10000 seeds"),
    ("--model g.onnx --walk 4 --frames 3", "a walk through 4 seeds has 4 … 1000000 frames, got 3"),
    ("--model g.onnx --walk 4 --frames 0", "--frames must be at least 1, got 0"),
    (f"--model g.onnx --walk 4 --frames {TRILLION}", "a walk through 4 seeds has 4 … 1000000 frames"),
    ("--model g.onnx --walk 4 --n 3", "--walk and --n exclude each other"),
    ("--model g.onnx --walk 4 --cols 3", "--cols is for a grid, a walk is one image"),
    ("--model g.onnx --walk 4 --seeds 1-3", "--walk 4 goes through 4 seeds, --seeds names 3"),
    ("--model g.onnx --walk 4 --out w.png", "a walk is written as .webp, .gif or .mp4, got w.png"),
    ("--model g.onnx --walk 4 --out w/", "a walk is one file, got the folder w/"),
    ("--model g.onnx --walk 4 --out -", "a walk cannot go to stdout"),
    ("--model g.onnx --frames 9", "--frames is for a walk"),
    ("--model g.onnx --out w.gif", "w.gif is an animation, which needs --walk"),
    ("--model g.onnx --out g.bmp", "g.bmp: images are written as .png, .jpg, .jpeg, .webp, .npy or .npz"),
    ("--model g.onnx --out - --json", "--json and the PNG would both go to stdout"),
    ("--model g.onnx --selftest --info", "--selftest and --info are two things to do"),
    ("--model g.onnx --selftest --out x.png", "--selftest writes no images, so --out has no meaning"),
    ("--model g.onnx --info --n 3", "--info writes no images, so --n has no meaning"),
    ("--model c.onnx --info --class 1", "--info writes no images, so --class has no meaning"),
    ("--model g.onnx --latents z.npy", "no latents at z.npy"),
    ("--model g.onnx --latents z.npy --n 3", "--latents and --n exclude each other"),
    ("--model g.onnx --latents z.npy --seed 3", "--latents and --seed exclude each other"),
    ("--model g.onnx --latents z.npy --truncation 1", "--latents and --truncation exclude each other"),
    ("--model g.onnx --latents z.npy --walk 3", "--latents and --walk exclude each other"),
    ("--model g.onnx --latents .", "is a folder, expected a latents file"),
    ("--model g.onnx --latents g.onnx", "g.onnx is not a .npy file of numbers"),
    ("--model no.onnx", "no model at no.onnx"),
    ("--model .", ". is a folder, expected a model file"),
    ("--model /dev/zero", "/dev/zero is not a regular file"),
    ("--model g.onnx/x.onnx", "no model at g.onnx/x.onnx"),
    ("--model g.onnx --out g.onnx/x.png", "cannot write g.onnx/x.png: Not a directory"),
    ("--model g.onnx --out g.onnx/many/", "cannot write g.onnx/many: Not a directory"),
    ("--model g.onnx --out /dev/null/x/", "cannot write /dev/null/x: Not a directory"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_OPTIONS, ids=[case[0][:60] for case in WRONG_OPTIONS])
def test_wrong_options(gen: Gen, tmp_path: Path, arguments: str, message: str) -> None:
    before = files(tmp_path)
    code, out, err = gen(*arguments.split())
    assert code == 2, err
    assert out == "" or ("--json" in arguments and message in json.loads(out)["error"])
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) <= 2
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--model", "g.onnx", "--out", ""], "--out is empty, expected a value"),
        (["--model", "g.onnx", "--out="], "--out is empty, expected a value"),
        (["--model", ""], "--model is empty, expected a value"),
        (["", "--model", "g.onnx"], "an argument is empty"),
        (["g.onnx", ""], "an argument is empty"),
    ],
)
def test_an_empty_argument(gen: Gen, arguments: list[str], what: str) -> None:
    """An empty path is the current folder."""
    assert gen(*arguments) == (2, "", f"error: {what}\nhint: a variable of the shell that is not set?\n")


def test_the_exact_lines(gen: Gen) -> None:
    assert gen("--model", "no.onnx")[2] == (
        "error: no model at no.onnx\nhint: check the path; gan-export onnx makes such a file\n"
    )
    assert gen("--model", "c.onnx", "--class", "fish")[2] == (
        "error: class 'fish' does not exist\nhint: classes are 0 cat, 1 dog, 2 owl\n"
    )
    assert gen("c.onx")[2] == "error: no model at c.onx\nhint: did you mean c.onnx?\n"
    assert gen("c.onnx", "--class", "cats")[2].endswith("hint: did you mean cat? classes are 0 cat, 1 dog, 2 owl\n")
    assert gen("--n", "many")[2].startswith("error: Invalid value for '--n' / '-n': expected a whole number\n")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), "z.npy holds latents of shape (3, 5), expected numbers of shape (n, 4)"),
        (np.zeros(5), "z.npy holds latents of shape (5,), expected"),
        (np.zeros((3, 4, 2, 2)), "z.npy holds latents of shape (3, 4, 2, 2), expected"),
        (np.zeros((0, 4)), "z.npy holds no latents, expected numbers of shape (n, 4) with n at least 1"),
        (np.float32(3), "z.npy holds latents of shape (), expected"),
        (np.array([["a"] * 4]), "z.npy holds <U1, expected numbers"),
        (np.zeros((2, 4), complex), "z.npy holds complex128, expected numbers"),
        (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]), "z.npy: latent 1 holds NaN or infinity"),
        (np.array([[0, 0, 0, np.inf]]), "z.npy: latent 0 holds NaN or infinity"),
    ],
)
def test_wrong_latents(gen: Gen, tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save("z.npy", array)
    for out in ("o.png", "o.npy", "o.npz", "o/"):
        code, _, err = gen("--model", "g.onnx", "--latents", "z.npy", "--out", out)
        assert code == 2
        assert err.startswith(f"error: {message}")
    assert files(tmp_path) == ["c.onnx", "g.onnx", "z.npy"]


def test_latents_that_are_objects_are_not_unpickled(gen: Gen) -> None:
    np.save("z.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "z.npy is not a .npy file of numbers" in gen("--model", "g.onnx", "--latents", "z.npy")[2]
    np.savez("z.npz", z=np.zeros((2, 4)))
    assert "z.npz is an archive of arrays" in gen("--model", "g.onnx", "--latents", "z.npz")[2]
    Path("short.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "short.npy is not a .npy file" in gen("--model", "g.onnx", "--latents", "short.npy")[2]


def test_a_file_without_a_golden_set(gen: Gen, tmp_path: Path) -> None:
    (tmp_path / "f.onnx").write_bytes(onnx_files.foreign(["batch", 7], ["batch", 3, 6, 6]).SerializeToString())
    code, out, err = gen("--model", "f.onnx", "--selftest")
    assert (code, out) == (2, "")
    assert "error: the file carries no golden set" in err


def test_a_png_is_not_shown_on_a_terminal(gen: Gen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, err = gen("--model", "g.onnx", "--out", "-")
    assert (code, out) == (2, "")
    assert "a PNG on a terminal is unreadable" in err


def test_without_the_video_extra(gen: Gen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    code, _, err = gen("--model", "g.onnx", "--walk", "3", "--out", "w.mp4")
    assert code == 2
    assert err == (f"error: writing .mp4 needs imageio_ffmpeg, which is not installed\nhint: {install('video')}\n")
    assert files(tmp_path) == ["c.onnx", "g.onnx"]


def test_a_walk_too_large_for_one_picture(gen: Gen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_serve.runtime.animation.MAX_HELD_BYTES", 1000)
    assert "120 frames of 215x258 do not fit into one .webp" in gen("--model", "g.onnx", "--walk", "3")[2]


def test_a_full_disk_is_seen_before_the_first_file(gen: Gen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, _, err = gen("--model", "g.onnx", "--n", "100", "--out", "new/many/")
    assert code == 2
    assert re.match(r"error: 100 images take about [\d.]+ kB, .*many has 5 kB free\n", err)
    assert gen("--model", "g.onnx", "--n", "100", "--out", "o.npy")[0] == 2
    assert gen("--model", "g.onnx", "--n", "3", "--out", "few/")[0] == 0


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX users")
@pytest.mark.parametrize("out", ["o.png", "o/", "o.npy", "o.npz", "new/o.png"])
def test_a_folder_that_cannot_be_written(gen: Gen, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    assert gen("--model", "g.onnx", "--out", out)[0] == 0  # imports everything while files can be read
    with tempfile.TemporaryDirectory() as place:
        locked = Path(place) / "locked"
        locked.mkdir()
        onnx_files.save(locked / "g.onnx")
        Path(place).chmod(0o755)
        locked.chmod(0o555)
        monkeypatch.chdir(locked)
        with nobody():
            code, _, err = gen("--model", "g.onnx", "--out", out)
        assert code == 2
        assert err.startswith("error: cannot write ")
        assert "Permission denied\nhint: choose a folder you may write to\n" in err
        assert files(locked) == ["g.onnx"]
        (locked / "g.onnx").chmod(0)
        with nobody():
            code, _, err = gen("--model", "g.onnx")
        assert (code, err) == (2, "error: g.onnx cannot be read: Permission denied\nhint: check its permissions\n")
        monkeypatch.chdir(place)
        locked.chmod(0o755)


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_core.errors import GanportError

    with pytest.raises(GanportError, match=r"no model at no\.onnx"):
        console.run(cli.app, "gan-gen", ["--model", "no.onnx", "--debug"])
    monkeypatch.setenv("GANPORT_DEBUG", "1")
    with pytest.raises(GanportError):
        console.run(cli.app, "gan-gen", ["--model", "no.onnx"])
