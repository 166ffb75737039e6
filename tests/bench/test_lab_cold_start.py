"""The cold-start comparison: turns, peaks, pictures compared, and both real commands once."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.running import run_alone
from gan_core.errors import JobError
from lab.cold_start import compare, render
from lab.processes import Command, picture_difference, run_once, take_turns

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="compares with torch")


def command(name: str, code: str, folder: Path) -> Command:
    return Command(name, [sys.executable, "-c", code], folder / f"{name}.png")


@pytest.mark.slow
def test_commands_take_turns_after_a_warm_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    given = [command(name, f"open({str(log)!r}, 'a').write({name!r})", tmp_path) for name in "ab"]
    take_turns(given, 3)
    assert log.read_text() == "baabbaab"
    assert [len(each.walls_s) for each in given] == [3, 3]
    assert all(wall > 0 for each in given for wall in each.walls_s)


@pytest.mark.slow
@pytest.mark.parametrize("mib", [30, 300])
def test_peak_is_of_the_child(tmp_path: Path, mib: int) -> None:
    """Whatever this process holds: the kernel counts what a parent held into its child's peak."""
    held = bytearray(400 * 2**20)
    _, peak = run_once(command("some", f"bytearray({mib * 2**20})", tmp_path))
    assert peak is not None
    assert mib * 2**20 < peak < (mib + 60) * 2**20 < len(held)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"gan-gen ended with exit code 1: FileNotFoundError: .*'no-such-command'"):
        run_once(Command("gan-gen", ["no-such-command"], tmp_path))


def test_a_command_ends_with_what_measures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    class Interrupted(subprocess.Popen[bytes]):
        def communicate(self, *_: object, **__: object) -> tuple[bytes, bytes]:
            while not (mark.exists() and mark.read_text()):
                time.sleep(0.01)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_once(command("long", code, tmp_path))
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such file')", "gan-gen ended with exit code 1: no such file"),
        ("import sys; print('error: bad\\nhint: x', file=sys.stderr); sys.exit(2)", "exit code 2: error: bad"),
        ("raise SystemExit(3)", "exit code 3: it said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9: it said nothing"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(JobError, match=message) as caught:
        run_once(command("gan-gen", code, tmp_path))
    assert caught.value.hint.startswith("run it alone: ")


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_within_one_lsb_are_the_same_in_grey_or_colour(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    assert picture_difference(save(tmp_path / "a.png", grey), save(tmp_path / "b.png", colour)) == 0
    assert picture_difference(save(tmp_path / "a.png", grey), save(tmp_path / "b.png", colour + 1)) == 1


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    a = save(tmp_path / "a.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(JobError, match="up to 2 LSB, at most 1 expected") as caught:
        picture_difference(a, save(tmp_path / "b.png", np.full((20, 30), 2, np.uint8)))
    assert "export of this --ckpt" in caught.value.hint
    with pytest.raises(JobError, match="a picture of 30x20, the torch script one of 20x30"):
        picture_difference(a, save(tmp_path / "b.png", np.zeros((30, 20), np.uint8)))


def test_medians_and_shares(tmp_path: Path) -> None:
    ours = Command("gan-gen", [], tmp_path, [0.5, 0.4, 9.0], [90, 100, 110])
    theirs = Command("torch script", [], tmp_path, [5.0, 6.0, 5.0], [800, None, 1000])
    made = compare(ours, theirs)
    assert made["gan_gen"] == {
        "wall_s": 0.5, "wall_s_low": 0.4, "wall_s_high": 9.0, "wall_s_runs": [0.5, 0.4, 9.0], "peak_rss_bytes": 100,
    }  # fmt: skip
    assert made["wall_share"] == 0.1
    assert made["peak_rss_share"] == pytest.approx(100 / 900, abs=1e-4)
    shown = render(made | {"images": 25}).splitlines()
    assert shown[2].split() == ["gan-gen", "0.50", "0.40–9.00", "0"]
    assert shown[4].split() == ["share", "0.100", "0.111"]


def test_hidden_peaks_have_no_share(tmp_path: Path) -> None:
    made = compare(Command("a", [], tmp_path, [1.0], [None]), Command("b", [], tmp_path, [2.0], [5]))
    assert made["gan_gen"]["peak_rss_bytes"] is made["peak_rss_share"] is None
    assert "–" in render(made | {"images": 25})


@pytest.mark.long
@pytest.mark.slow
@needs_torch
def test_both_real_commands_draw_the_same_picture(tmp_path: Path, tiny_dcgan: Path) -> None:
    target = tmp_path / "cold.json"
    options = ("--model", tiny_dcgan / "g.onnx", "--ckpt", tiny_dcgan / "g.pt", "--runs", 1, "--n", 7)
    assert "gan-gen" in run_alone("cold_start", *options, "--json", target)
    made = json.loads(target.read_text())
    assert made["tool"] == "lab.cold_start"
    assert made["pixels_max_lsb"] <= 1
    assert made["environment"]["versions"]["torch"]
    assert made["torch_script"]["peak_rss_bytes"] > 100 * 2**20
    assert made["wall_share"] > 0
    assert made["model"]["sha256"] != made["checkpoint"]["sha256"]
