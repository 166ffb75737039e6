"""Other people's training programs as guests: found on the stack by a signal, and measured beside gan-train."""

from __future__ import annotations

import functools
import io
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench import running
from gan_bench import questions
from gan_trainer.evaluation import sliced
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from lab import beside_trainers
from lab.loops import guest
from lab.loops.messages import Drawn, Guest

run = functools.partial(running.run, beside_trainers.app)
ASK = "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\n"
DCGAN = f"""
import sys, torch
assert sys.argv[1:] == ["--niter", "3"]
{ASK}
device, nz, dataloader = torch.device("cpu"), 5, range(4)
netG = torch.nn.Sequential(torch.nn.ConvTranspose2d(5, 3, 64), torch.nn.BatchNorm2d(3), torch.nn.Tanh())
before = {{name: value.clone() for name, value in netG.state_dict().items()}}
for epoch in range(3):
    for i in dataloader:
        pass
{ASK}
assert all(torch.equal(before[name], value) for name, value in netG.state_dict().items())
"""
LIGHTWEIGHT = """
import torch
assert torch.cuda.is_available(), "no GPU"
class Trainer:
    GAN, steps, latent_dim = None, 7, 4
    def train(self):
        device = torch.device("cuda:0")
        self.GAN = torch.nn.Module().cuda(0)
        self.GAN.G = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Unflatten(1, (1, 8, 8)))
        assert torch.zeros(2, device=device).cuda(0).device.type == "cpu"
        import os, signal
        os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a guest in this process, and returns what it answers to the signals."""
    before, path = signal.getsignal(signal.SIGUSR1), list(sys.path)

    def start(program: str, words: tuple[str, ...], image: tuple[int, int, int]) -> list[Drawn]:
        told = io.StringIO()
        asked = Guest(program, words, tmp_path, tmp_path, image, 5)
        monkeypatch.setattr(sys, "stdin", io.StringIO(questions.write(asked)))
        monkeypatch.setattr(questions, "private_stdout", lambda: told)
        monkeypatch.setattr(questions, "die_with_parent", lambda: None)
        monkeypatch.setattr(sys, "argv", [])
        guest.main()
        return [questions.read(line, Drawn) for line in told.getvalue().splitlines()]

    yield start
    signal.signal(signal.SIGUSR1, before)
    sys.path[:] = path


def test_a_script_is_asked_where_it_stands(answers: Any, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(DCGAN)
    early, late = answers("dcgan", ("--niter", "3"), (1, 32, 32))
    assert (early.path, early.error) == (None, "it trains no generator yet")
    assert late.steps == 2 * 4 + 3
    pixels = np.load(late.path)
    assert (pixels.shape, pixels.dtype) == ((5, 32, 32, 1), np.uint8)
    assert len(np.unique(pixels)) > 5


def test_a_program_that_wants_a_gpu_runs_on_a_cpu(
    answers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lightweight_gan"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lightweight_gan.py").write_text(LIGHTWEIGHT)
    (package / "cli.py").write_text(
        "import torch\nassert torch.cuda.is_available()\n"
        "from lightweight_gan.lightweight_gan import Trainer\ndef main():\n    Trainer().train()\n"
    )
    for owner in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(owner, "cuda", owner.cuda)  # put back afterwards
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    [drawn] = answers("lightweight-gan", (), (1, 8, 8))
    assert (drawn.error, drawn.steps) == ("", 7)
    assert np.load(drawn.path).shape == (5, 8, 8, 1)
    assert not torch.cuda.is_available()


def test_gan_train_shows_what_it_would_export() -> None:
    spec = network_spec("dcgan", 28, 1, width=2, z_dim=3)
    state = SimpleNamespace(exported=build(spec), config=SimpleNamespace(spec=lambda: spec), step=9)

    class Training:
        def __init__(self) -> None:
            self.state = state

        def run(self) -> Any:
            return guest.PROGRAMS["gan-train"].found(sys._getframe())

    steps, images = Training().run()
    assert steps == 9
    made = images(3)
    assert made.shape == (3, 1, 28, 28)
    assert -1 <= made.min() < made.max() <= 1


@pytest.mark.slow
def test_a_record_of_three_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sliced, "PATCHES", 1024)
    monkeypatch.setattr(sliced, "DIRECTIONS", 16)
    started: list[tuple[str, ...]] = []

    def images_at(arm: Any, folder: Path, images: Path, minutes: Sequence[float], evaluator: Any) -> list[Drawn]:
        started.append((arm.program, *arm.words))
        assert len(list((images / "all").glob("*.png"))) == len(evaluator.dataset)
        np.save(folder / "images.npy", evaluator.dataset.pixels_NHWC[: evaluator.n])
        return [Drawn(folder / "images.npy", 10 * number) for number, _ in enumerate(minutes)]

    monkeypatch.setattr(beside_trainers, "images_at", images_at)
    (tmp_path / "dcgan").mkdir()
    (tmp_path / "dcgan" / "main.py").touch()
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number in range(80):
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(tmp_path / "data" / f"{number}.png")
    file, out = tmp_path / "record.json", tmp_path / "out"
    given = ("--data", f"folder:{tmp_path / 'data'}", "--size", 28, "--marks", "1,2.5", "--features", "swd", "--n", 40)
    arms = ("--gan-train", "--preset default", "--gan-train", "--preset r3gan", "--dcgan", tmp_path / "dcgan")
    assert run(*given, *arms, "--out", out, "--json", file) == 0, capsys.readouterr().err
    made = json.loads(file.read_text())
    assert [arm["name"] for arm in made["arms"]] == [
        "gan-train --preset default",
        "gan-train --preset r3gan",
        "pytorch/examples dcgan",
    ]
    assert [words[0] for words in started] == ["gan-train", "gan-train", "dcgan"]
    assert started[1][-2:] == ("--preset", "r3gan")
    for arm in made["arms"]:
        assert [(row["minutes"], row["steps"]) for row in arm["marks"]] == [(1, 0), (2.5, 10)]
        assert 0 <= arm["marks"][0]["distance"] < 2 * made["real"]["distance"], "they are the data's own images"
    assert str(tmp_path) not in file.read_text()
    assert (out / "gan-train---preset-default" / "2.5-min.png").stat().st_size > 0
    assert run(*given, *arms, "--out", out) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gan-train", "--preset default", "--marks", "5,2"), "--marks takes ascending minutes above 0"),
        (("--gan-train", "--preset default", "--n", "3"), "--n takes 32 to 10000"),
        (("--dcgan", "absent"), "--dcgan absent has no main.py"),
        (("--lightweight-gan", "absent"), "--lightweight-gan absent has no lightweight_gan/cli.py"),
        ((), "nothing to train"),
        (("--gan-train", "'"), "No closing quotation"),
        (("--gan-train", "--preset default", "--data", "nowhere"), "nowhere"),
    ],
)
def test_refused(options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "one.png")
    assert run("--data", tmp_path, "--size", 32, "--out", tmp_path / "new", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
