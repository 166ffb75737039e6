"""Files that are no generator, named to every command: one line, a hint, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_export import cli
from gan_serve.terminal import console

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a214614ab2935" * 4 + b"\nsize 12345\n"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "netG.pth").write_bytes(b"x")


def empty_folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.pth"))


def residual(path: Path) -> None:
    weights = {"fc.weight": torch.ones(64, 8), "block.c_sc.weight": torch.ones(9, 5, 1, 1)}
    torch.save({"netG": weights | {"out.weight": torch.ones(3, 4, 3, 3)}}, path)


def classifier(path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16, 10))
    torch.save(net.state_dict(), path)


def contents(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "pipe": (pipe, "is not a regular file, expected a checkpoint file", "save the file to a disk"),
    "device": (device, "is not a regular file, expected a checkpoint file", "save the file to a disk"),
    "folder": (folder, "is a folder, expected a checkpoint file", "netG.pth"),
    "empty folder": (empty_folder, "is a folder, expected a checkpoint file", "name the file itself"),
    "dangling link": (dangling, "no checkpoint at", "check the path"),
    "empty": (contents(b""), "is empty", "again"),
    "Git LFS pointer": (contents(POINTER), "is a Git LFS pointer", "git lfs pull"),
    "web page": (contents(b"<!DOCTYPE html><html>"), "is an HTML page", "download it again"),
    "log": (contents(b"epoch 1 loss 3.2\n" * 9), "it begins with 'epoch 1 loss 3.2'", "torch.save"),
    "classifier": (classifier, "holds a classifier", "draws nothing"),
    "residual network": (residual, "but a residual network: it has block.c_sc.weight", "--module"),
}


@pytest.mark.parametrize("command", ["inspect", "onnx", "torchscript"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message, hint = WRONG[name]
    path = tmp_path / "G.pth"
    make(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as done:
        console.run(cli.app, cli.NAME, [command, "--ckpt", str(path)])
    out, err = capsys.readouterr()
    assert done.value.code == 2
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert str(path) in lines[0]
    assert message in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]
    assert bool(out) == (command == "inspect" and name == "residual network")
    assert sorted(tmp_path.iterdir()) == before


def test_inspect_lists_the_tensors_of_what_it_does_not_understand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "G.pth"
    residual(path)
    with pytest.raises(SystemExit):
        console.run(cli.app, cli.NAME, ["inspect", "--ckpt", str(path)])
    page = capsys.readouterr().out
    assert "weights     raw, 3 tensors, from netG" in page
    assert page.splitlines()[-1].split() == ["out.weight", "3x4x3x3"]
    with pytest.raises(SystemExit):
        console.run(cli.app, cli.NAME, ["inspect", "--ckpt", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["tensors"]["out.weight"] == [3, 4, 3, 3]
    assert said["key"] == "netG"
