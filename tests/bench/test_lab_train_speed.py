"""gan-train beside the classic loop: turns, windows, marks, the record; and both loops for a moment."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bench.processes import children, needs_proc
from gan_core.errors import GanportError, JobError
from gan_trainer.evaluation import sliced
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe
from lab import shared, train_speed
from lab.loops import worker as train_speed_worker
from lab.loops.messages import Train
from lab.loops.taking_turns import Loop, quality_at, take_turns

TRAIN = Train("classic", "unused", "cpu", Path("there"))
TICKING = """
import json, signal, sys, time
from pathlib import Path
from gan_bench import questions
from lab.loops.messages import At, Ready, Saved
asked = json.loads(sys.argv[1])
def say(message):
    print(questions.write(message), end="", flush=True)
wanted = []
signal.signal(signal.SIGUSR1, lambda *_: wanted.append(1))
say(Ready(0.25, "ticks"))
images = 0
while images < asked.get("dies_at", 1e9):
    time.sleep(0.01)
    images += asked["images"]
    say(At(time.monotonic(), images))
    if wanted:
        wanted.clear()
        say(Saved(Path("nowhere"), images))
print("out of ticks", file=sys.stderr)
sys.exit(3)
"""


def ticking(name: str, **asked: Any) -> Loop:
    return Loop(name, TRAIN, [sys.executable, "-c", TICKING, json.dumps({"images": 1} | asked)])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures" / "some"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(64):
        Image.fromarray(rng.integers(0, 256, (70, 64, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder.parent


@pytest.mark.slow
def test_turns() -> None:
    with ticking("gan-train", images=4) as ours, ticking("classic") as classic:
        take_turns((ours, classic), 3, 0.08, [0.6])
        made = train_speed.compare(ours, classic)
    assert len(ours.rates) == len(classic.rates) == 3
    assert made["ratio_low"] <= made["ratio"] <= made["ratio_high"]
    assert 1 < made["ratio"] < 16
    assert made["gan_train"]["images_per_s_windows"] == [round(rate, 1) for rate in ours.rates]
    assert (made["gan_train"]["ready_s"], made["gan_train"]["computes"]) == (0.25, "ticks")
    for loop in (ours, classic):
        [(active_s, saved)] = loop.marks
        assert saved.path == Path("nowhere")
        assert active_s >= 0.6


def test_a_loop_stands_still_while_the_other_runs() -> None:
    with ticking("classic") as loop:
        loop.start()
        time.sleep(0.05)  # what is still on its way
        loop._process.forget()
        before = loop.active_s
        time.sleep(0.1)
        assert loop._process._lines.empty()
        assert loop.active_s == before
        rate = loop.window(0.1)
    assert 0 < rate < 110, "a pause must not count as a window's"


@needs_proc
def test_loops_leave_no_process_behind() -> None:
    """Whoever waits for its turn to start has none yet: nothing that stands still outlives a killed parent."""
    before = children()
    with ticking("one") as one, ticking("two"):
        assert children() == before
        one.start()
        assert len(children()) == len(before) + 1
    assert children() == before


def test_a_loop_that_dies_is_an_error_with_its_last_words() -> None:
    with ticking("classic", dies_at=5) as loop:
        loop.start()
        with pytest.raises(JobError, match="the classic loop ended: its process ended with exit code 3: out of ticks"):
            loop.window(1)


def test_a_loop_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.loops.taking_turns.SILENCE_S", 0.05)
    mute = Loop("classic", TRAIN, [sys.executable, "-c", "import time; time.sleep(60)"])
    with mute, pytest.raises(JobError, match="has said nothing for"):
        mute.start()


@pytest.mark.slow
def test_late_marks_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with ticking("gan-train") as ours, ticking("classic") as classic:
        take_turns((ours, classic), 1, 0.05, [0.01])
    assert "the windows took longer than the mark at 0.01 s" in capsys.readouterr().err


def test_marks() -> None:
    assert shared.ascending("30", "--marks", "seconds") == [30.0]
    assert shared.ascending("0.5,60, 120", "--marks", "seconds") == [0.5, 60.0, 120.0]


@pytest.mark.parametrize("text", ["", "a", "0", "-1", "60,30", "30,30", "nan", "inf", "1,,2", ","])
def test_marks_refused(text: str) -> None:
    with pytest.raises(GanportError, match="--marks takes ascending seconds above 0"):
        shared.ascending(text, "--marks", "seconds")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": 0}, "--windows takes 1 to 1000, got 0"),
        ({"batch_size": 1}, "--batch-size takes 2 to"),
        pytest.param(
            {"batch_size": 33}, "holds 64 pictures, expected two batches of 33", marks=pytest.mark.slow
        ),  # imports torchvision
        ({"width": 0}, "--width takes 1 to"),
        ({"workers": -1}, "--workers takes 0 to 256"),
        ({"window_s": 0.0}, "--window takes seconds"),
        ({"window_s": float("nan")}, "--window takes seconds"),
        ({"distance": 3.0}, "--distance takes a number above 0 and needs --marks"),
        ({"distance": -3.0, "marks": "5"}, "--distance takes a number above 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"amp": "fp8"}, "`amp` must be one of"),
        ({"features": "nose", "marks": "5"}, "nose"),
        ({"compiled": "maybe"}, "`compile` must be one of"),
    ],
)
def test_refused(changes: dict[str, Any], message: str, pictures: Path) -> None:
    given = {
        "json_file": None, "windows": 1, "window_s": 1.0, "batch_size": 4, "width": 2, "workers": 0, "device": "cpu",
        "amp": "auto", "compiled": "auto", "cuda_graphs": True, "marks": "", "distance": None, "features": "auto",
        "seed": 0,
    }  # fmt: skip
    with pytest.raises(GanportError, match=message):
        train_speed.main_command(pictures, **(given | changes))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="is not a folder"):
        train_speed.count_pictures(tmp_path / "absent", 4)


def test_time_to() -> None:
    reached = {
        "gan_train": [{"active_s": 5.0, "distance": 9.0}, {"active_s": 10.0, "distance": 4.0}],
        "classic": [{"active_s": 5.0, "distance": 9.0}, {"active_s": 10.0, "distance": 8.0}],
    }
    assert train_speed.time_to(reached, None) is None
    assert train_speed.time_to(reached, 5) == {"distance": 5, "gan_train_s": 10.0, "classic_s": None}
    assert train_speed.time_to(reached, 9) == {"distance": 9, "gan_train_s": 5.0, "classic_s": 5.0}


@pytest.mark.slow
def test_the_classic_generator_is_the_preset_s() -> None:
    """Weights of the classic loop, in order, draw the same images from our spec: so its marks can be measured."""
    from lab.loops import classic_loop

    torch.manual_seed(0)
    classic, ours = classic_loop.generator(2), build(network_spec("dcgan", 64, 3, width=2))
    classic_loop.initialise(classic)
    ours.load_state_dict(dict(zip(ours.state_dict(), classic.state_dict().values(), strict=True)))
    z = torch.randn(3, 100)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(z), classic.eval()(z[:, :, None, None]))


@pytest.mark.slow
def test_the_classic_loop_trains(pictures: Path) -> None:
    from lab.loops import classic_loop  # with torchvision, which is slow to import

    torch.manual_seed(0)
    data = classic_loop.Pictures(pictures, 64)
    assert len(data) == 64
    assert data[0].shape == (3, 64, 64)
    assert -1 <= data[0].min() < -0.9 < 0.9 < data[0].max() <= 1
    netG, netD = classic_loop.generator(2), classic_loop.discriminator(2)
    before = [weight.clone() for network in (netG, netD) for weight in network.parameters()]
    steps = classic_loop.train(netG, netD, DataLoader(data, 32, shuffle=True), torch.device("cpu"))
    taken = [next(steps) for _ in range(3)]  # into the second epoch
    assert [n for n, _ in taken] == [32, 32, 32]
    assert all(0 < number.d_x < 1 and number.loss_d > 0 and number.loss_g > 0 for _, number in taken)
    after = [weight for network in (netG, netD) for weight in network.parameters()]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("changes", "on_gpu", "steps"),
    [
        ({}, False, 1),
        ({"n_critic": 5}, False, 5),
        ({"penalty_every": 4}, False, 4),
        ({"penalty_every": 4, "n_critic": 6}, False, 12),
        ({}, True, 20),
        ({"n_critic": 6}, True, 24),
    ],
)
def test_lines_come_after_whole_turns(changes: dict[str, Any], on_gpu: bool, steps: int) -> None:
    recipe = dataclasses.replace(preset("r3gan"), **changes)
    assert train_speed_worker.told_every(recipe, on_gpu) == steps


def test_images_count_where_g_is_updated() -> None:
    """Steps of 8 images, the epoch's last of 5: of six steps, two train G."""
    said: list[Any] = []

    class Marks:
        say = staticmethod(said.append)

        def take(self, images: int, save: Any) -> None: ...

    watch = train_speed_worker._watching(Marks(), torch.device("cpu"), Recipe(name="", n_critic=3), saves=True)  # type: ignore[arg-type]
    for step, images in enumerate((8, 16, 24, 32, 40, 45), start=1):
        watch.update(0.0, step, images)
    assert [line.images for line in said] == [8, 13]
    assert said[0].clock <= said[1].clock


def test_a_loop_is_told_what_to_train() -> None:
    """`lab.recipes.training` names loops after recipes."""
    code = """
import sys, time
from gan_bench import questions
from lab.loops.messages import At, Ready, Train
asked = questions.read(sys.stdin.readline(), Train)
print(questions.write(Ready(0, f"{asked.loop} {asked.folder}")), end="", flush=True)
while True:
    print(questions.write(At(0, 0)), end="", flush=True)
    time.sleep(0.01)
"""
    with Loop("default:lr_d=1", dataclasses.replace(TRAIN, loop="steps"), [sys.executable, "-c", code]) as loop:
        loop.start()
    assert loop.ready.computes == "steps there"


@pytest.mark.long
@pytest.mark.slow
def test_both_for_a_moment(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real processes, and what they draw after a fraction of a second."""
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sliced, "PATCHES", 1024)
    monkeypatch.setattr(sliced, "DIRECTIONS", 16)
    paths: list[Path] = []

    def quality(loops: list[Loop], evaluator: Any) -> Any:
        paths.extend(loop.marks[0][1].path for loop in loops)
        return quality_at(loops, evaluator)

    monkeypatch.setattr("lab.train_speed.quality_at", quality)
    record = tmp_path / "record.json"
    train_speed.main_command(
        pictures, record, windows=1, window_s=0.05, batch_size=4, width=2, workers=0, device="cpu", amp="auto",
        compiled="auto", cuda_graphs=True, marks="0.5", distance=1e9, features="auto", seed=0,
    )  # fmt: skip
    made = json.loads(record.read_text())
    assert made["ratio"] > 0
    assert made["gan_train"]["computes"] == "float32, channels-last"
    assert made["data"] == {"images": 64}
    assert made["settings"]["batch_size"] == 4
    assert {"gan_train", "classic", "floor", "time_to"} <= set(made["quality"])
    assert all(made["quality"]["time_to"][name] >= 0.5 for name in ("gan_train_s", "classic_s"))
    assert paths
    assert not any(path.exists() for path in paths)
    printed = capsys.readouterr().out
    assert "ratio" in printed
    assert "sliced Wasserstein distance on swd" in printed
