"""The end-to-end comparison: the same files on both sides, shares, the disk beside, and all commands once for real."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.running import run_alone
from gan_core.errors import JobError
from lab.end_to_end import compare, plain_writes_s, render
from lab.processes import Command, folder_difference, run_once

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="compares with torch")


def folder(path: Path, values: list[int]) -> Path:
    path.mkdir()
    for number, value in enumerate(values):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(path / f"seed{number:06d}.png")
    return path


def test_folders_are_compared_from_first_to_last(tmp_path: Path) -> None:
    ours = folder(tmp_path / "a", [0] * 60)
    assert folder_difference(ours, folder(tmp_path / "b", [0] * 60), 60) == 0
    assert folder_difference(ours, folder(tmp_path / "c", [0] * 59 + [1]), 60) == 1
    with pytest.raises(JobError, match="different images: up to 9 LSB"):
        folder_difference(ours, folder(tmp_path / "d", [9] + [0] * 59), 60)
    with pytest.raises(JobError, match="expected the same 60 files, gan-gen wrote 60, the torch script 59"):
        folder_difference(ours, folder(tmp_path / "e", [0] * 59), 60)
    with pytest.raises(JobError, match="expected the same 61 files"):
        folder_difference(ours, ours, 61)


def test_the_disk_alone_writes_and_removes(tmp_path: Path) -> None:
    assert plain_writes_s([10, 2000, 1], tmp_path / "plain") > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_run_before_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run_once(Command("x", ["mkdir", str(tmp_path / "out")], tmp_path / "out"))


def test_shares(tmp_path: Path) -> None:
    walls = ([1.0, 1.2, 3.0], [1.0, 1.0, 1.0], [0.2, 0.2, 0.2], [6.0, 6.0, 6.0])
    given = [Command(str(number), [], tmp_path, wall, [100 + number] * 3) for number, wall in enumerate(walls)]
    made = compare(given, 600)
    assert made["gan_gen"]["images_per_s"] == 500
    assert made["torch_script"]["images_per_s"] == 100
    assert "images_per_s" not in made["gan_gen_fewer"]
    assert (made["wall_share_of_model_alone"], made["times_torch_script"]) == (1.2, 5.0)
    assert made["peak_rss_share_of_fewer"] == pytest.approx(100 / 102, abs=1e-4)
    shown = render(made | {"images": 600, "images_fewer": 60, "disk_alone_s": 0.5, "png_bytes_mean": 7})
    assert shown.splitlines()[2].split() == ["gan-gen", "1.20", "1.00–3.00", "500", "0"]
    assert "takes 1.20 of the model's own time and is 5.0 times as fast" in shown


def test_hidden_peaks_have_no_share(tmp_path: Path) -> None:
    made = compare([Command("a", [], tmp_path, [1.0], [None])] * 4, 10)
    assert made["peak_rss_share_of_fewer"] is None
    assert "memory is unknown" in render(
        made | {"images": 10, "images_fewer": 1, "disk_alone_s": 0.5, "png_bytes_mean": 7}
    )


@pytest.mark.long
@pytest.mark.slow
@needs_torch
def test_all_real_commands(tmp_path: Path, tiny_dcgan: Path) -> None:
    target, place = tmp_path / "end.json", tmp_path / "place"
    place.mkdir()
    options = (
        "--model",
        tiny_dcgan / "g.onnx",
        "--ckpt",
        tiny_dcgan / "g.pt",
        "--runs",
        1,
        "--n",
        40,
        "--folder",
        place,
    )
    assert "times as fast as the torch script" in run_alone("end_to_end", *options, "--json", target)
    made = json.loads(target.read_text())
    assert (made["tool"], made["images"], made["images_fewer"]) == ("lab.end_to_end", 40, 4)
    assert made["pixels_max_lsb"] <= 1
    assert min(made["gan_gen"]["images_per_s"], made["torch_script"]["images_per_s"]) > 0
    assert made["torch_script"]["peak_rss_bytes"] > 100 * 2**20
    assert made["disk_alone_s"] > 0
    assert made["png_bytes_mean"] > 100
    assert made["environment"]["versions"]["torch"]
    assert list(place.iterdir()) == []
