"""The commands of README and of docs/journeys.md run as they are typed, in order; the journeys print what they show."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cli.documents import Block, blocks, commands, execute, shrink_evaluation
from export.foreign_networks import examples_dcgan, fed, settled
from export.image_networks import settled as settled_image
from export.style_networks import Generator, persistent
from export.upscale_networks import EsrGan
from trainer.data_files import fill, save_idx

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.usefixtures("drafted_once")]

ROOT = Path(__file__).parents[2]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "journeys.md"
JOURNEYS = list(dict.fromkeys(block.section for block in blocks(PAGE)))
MOST_COMMANDS = 11
NOT_RUN = {
    "gan-serve": "serves until it is stopped; tests/server does so",
    "git": "needs the network",
    "make": "makes an environment, or runs this test",
    "pip": "needs the network",
    "torchrun": "starts processes; test_gan_train_distributed.py does so",
}
"""First words of commands that are not run, and why."""
SHORTER = {
    "--minutes 2": "--steps 20",
    "range(1500)": "range(300)",
    "--fail-if-slower 10%": "--fail-if-slower 99%",  # machines that run tests are not quiet
    "gan-train fashion-mnist": "gan-train fashion-mnist --steps 2 --width 2",
}
"""What is run instead of what, to take seconds."""
PICTURES = (".png", ".webp")


def shorter(text: str) -> str:
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return text


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one; a cache and a small Fashion-MNIST lie elsewhere."""
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GANPORT_DATA", str(tmp_path / "data"))
    save_idx(tmp_path / "data" / "fashion-mnist", n=256)
    shrink_evaluation(monkeypatch)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run_as_typed(block: Block, expected: int, names: dict[str, Any]) -> None:
    """A block of Python that begins with `# NAME.py` is a file to save, any other runs."""
    if block.language == "sh":
        for command in map(shorter, commands(block.code)):
            if command.split()[0] not in NOT_RUN:
                assert execute(command) == expected, command
    elif file := re.match(r"# (\w+\.py)\n", block.code):
        Path(file[1]).write_text(shorter(block.code), "utf-8")
    else:
        exec(compile("\n" * block.line + block.code, str(PAGE), "exec"), names)


def not_printed(shown: str, printed: str) -> list[str]:
    """Lines of `shown` that are not in `printed`, where … stands for anything and blanks do not count."""

    def packed(line: str) -> str:
        return "".join(line.split())

    lines = {packed(line) for line in printed.splitlines()}
    patterns = [".*".join(map(re.escape, packed(line).split("…"))) for line in shown.splitlines()]
    return [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in lines)]


@pytest.mark.parametrize("journey", JOURNEYS)
def test_a_journey(journey: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mine = [block for block in blocks(PAGE) if block.section == journey]
    names: dict[str, Any] = {"__name__": "journey"}
    for block, below in zip(mine, [*mine[1:], None], strict=True):
        if block.language == "text":
            continue
        capfd.readouterr()
        shown = below.code if below and below.language == "text" else ""
        run_as_typed(block, 2 if "error" in shown else 0, names)
        out, err = capfd.readouterr()
        assert not_printed(shown, out + err) == [], out + err
    assert [path for path in here.iterdir() if path.suffix in PICTURES]


@pytest.mark.parametrize("journey", JOURNEYS)
def test_a_journey_is_short(journey: str) -> None:
    typed = [
        command
        for block in blocks(PAGE)
        if (block.section, block.language) == (journey, "sh")
        for command in commands(block.code)
    ]
    assert len(typed) <= MOST_COMMANDS


def test_the_commands_of_the_readme(here: Path) -> None:
    """Beside what a reader has and README names: strangers' checkpoints, a folder that holds one, pictures."""
    torch.save(fed(settled(examples_dcgan(64, nz=16)), 16, 1, 1).state_dict(), here / "netG_epoch_24.pth")
    (here / "downloads").mkdir()
    shutil.copy(here / "netG_epoch_24.pth", here / "downloads")
    torch.manual_seed(0)
    styled = Generator("skip", 0)
    for name, values in styled.named_parameters():
        values.data.mul_(0.01 if "torgb" in name and "affine" not in name else 1.0)  # images within their range
    (here / "network-snapshot-025000.pkl").write_bytes(persistent({"G_ema": styled}, "class Generator: ..."))
    upscaler = EsrGan(6, 3, 2)
    settled_image(upscaler, last=upscaler.conv_last)
    torch.save({"params_ema": upscaler.state_dict()}, here / "RealESRGAN_x4plus.pth")
    Image.new("RGB", (20, 30), "teal").save(here / "photo.jpg")
    fill(here / "photos", *(f"{number}.png" for number in range(64)))
    for block in blocks(README):
        if block.language == "sh":
            run_as_typed(block, 0, {})


def test_every_shorter_text_is_needed() -> None:
    text = "\n".join(
        "\n".join(commands(block.code)) if block.language == "sh" else block.code
        for page in (README, PAGE)
        for block in blocks(page)
    )
    assert [long for long in SHORTER if long not in text] == []
